"""What the witness saw of each node of a cluster: who led when, and whether two led at once. Pure: lines in, spans out.

The words are those of ``docs/journal.md``. All times are integers, nanoseconds since the run's origin.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final


class State(enum.StrEnum):
    """What one look at one node found."""

    ACCEPTS = "accepts"
    REFUSES = "refuses"
    STANDBY = "standby"
    HANGS = "hangs"
    AWAY = "away"


LEADS: Final = frozenset({State.ACCEPTS, State.REFUSES})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at one node: when it was asked and answered, and what it was."""

    t0: int
    t: int
    state: State
    timeline: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A row of looks at one node that found the same; it ends where the next one was asked."""

    state: State
    timeline: int | None
    from_ns: int
    to_ns: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reign:
    """A node out of recovery on one timeline.

    ``to_ns`` is the last look that found it so. ``over_ns`` is the first that found it a standby or on another
    timeline: a node that was killed or hangs has given up nothing yet. ``None`` where no look did.
    """

    node: str
    timeline: int
    from_ns: int
    to_ns: int
    over_ns: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Two nodes that took writes at one time: of the second so many lie between two of the first on one timeline."""

    nodes: tuple[str, str]
    timelines: tuple[int, int]
    from_ns: int
    to_ns: int
    writes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Witnessed:
    """All of it. ``looks`` holds those of each node in order, ``first_accepted`` when each first took a write there."""

    looks: Mapping[str, Sequence[Look]]
    spans: Mapping[str, Sequence[Span]]
    reigns: Sequence[Reign]
    splits: Sequence[Split]
    first_accepted: Mapping[tuple[str, int], int]

    def overtaken_ns(self, reign: Reign) -> int | None:
        """When another node first took a write on a newer timeline than that of a reign; ``None``: none did."""
        return min(
            (at for (node, timeline), at in self.first_accepted.items()
             if node != reign.node and timeline > reign.timeline),
            default=None,
        )  # fmt: skip

    def leader(self, at_ns: int) -> str:
        """The node that had accepted a write last by an instant; empty where none had."""
        latest = max(
            ((look.t, node) for node, looks in self.looks.items() for look in looks
             if look.state is State.ACCEPTS and look.t <= at_ns),
            default=(0, ""),
        )  # fmt: skip
        return latest[1]


def witnessed(lines: Iterable[Mapping[str, Any]], nodes: Iterable[str]) -> Witnessed:
    """Spans, reigns and splits from the lines of ``witness.jsonl``, in any order; every one of ``nodes`` is in them."""
    looks: dict[str, list[Look]] = {name: [] for name in nodes}
    for line in lines:
        look = Look(t0=int(line["t0"]), t=int(line["t"]), state=State(line["state"]), timeline=line["timeline"])
        looks.setdefault(str(line["node"]), []).append(look)
    for each in looks.values():
        each.sort(key=lambda look: (look.t0, look.t))
    reigns = [reign for node, each in looks.items() for reign in _reigns(node, each)]
    first: dict[tuple[str, int], int] = {}
    for node, each in looks.items():
        for look in _accepted(each):
            first.setdefault((node, int(look.timeline or 0)), look.t)
    return Witnessed(
        looks=looks,
        spans={node: tuple(_spans(each)) for node, each in looks.items()},
        reigns=sorted(reigns, key=lambda reign: (reign.from_ns, reign.node)),
        splits=tuple(_splits(looks)),
        first_accepted=first,
    )


def _accepted(looks: Iterable[Look]) -> list[Look]:
    return [look for look in looks if look.state is State.ACCEPTS]


def _spans(looks: Sequence[Look]) -> Iterator[Span]:
    begun: Look | None = None
    timeline: int | None = None
    for look in looks:
        if begun is not None and (look.state is not begun.state or _other(timeline, look.timeline)):
            yield Span(state=begun.state, timeline=timeline, from_ns=begun.t0, to_ns=look.t0)
            begun, timeline = None, None
        begun, timeline = begun or look, look.timeline if timeline is None else timeline
    if begun is not None:
        yield Span(state=begun.state, timeline=timeline, from_ns=begun.t0, to_ns=looks[-1].t)


def _other(known: int | None, seen: int | None) -> bool:
    """Whether a timeline is another one: a look that could not tell it does not say so."""
    return known is not None and seen is not None and known != seen


def _reigns(node: str, looks: Iterable[Look]) -> Iterator[Reign]:
    reign: Reign | None = None
    for look in looks:
        leads = look.state in LEADS
        if reign is not None and (look.state is State.STANDBY or (leads and _other(reign.timeline, look.timeline))):
            yield dataclasses.replace(reign, over_ns=look.t0)
            reign = None
        if not leads:
            continue
        if reign is not None:
            reign = dataclasses.replace(reign, to_ns=look.t)
        elif look.timeline is not None:
            reign = Reign(node=node, timeline=look.timeline, from_ns=look.t0, to_ns=look.t)
    if reign is not None:
        yield reign


def _splits(looks: Mapping[str, Sequence[Look]]) -> Iterator[Split]:
    """One for each pair of nodes of which one took a write while the other went on taking them on one timeline.

    A leader that gave way and was promoted again took none in between on its own timeline: that is no split.
    """
    accepted: dict[tuple[str, int], list[Look]] = {}
    for node, each in looks.items():
        for look in _accepted(each):
            accepted.setdefault((node, int(look.timeline or 0)), []).append(look)
    worst: dict[frozenset[str], Split] = {}
    for (one, own), theirs in accepted.items():
        began, went_on = min(look.t for look in theirs), max(look.t0 for look in theirs)
        for (other, timeline), rival in accepted.items():
            inside = [look for look in rival if began <= look.t0 and look.t <= went_on]
            if other == one or not inside:
                continue
            split = Split(nodes=(one, other), timelines=(own, timeline), from_ns=inside[0].t0,
                          to_ns=inside[-1].t, writes=len(inside))  # fmt: skip
            pair = frozenset(split.nodes)
            if pair not in worst or split.writes > worst[pair].writes:
                worst[pair] = split
    yield from worst.values()

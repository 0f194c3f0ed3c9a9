"""What became of every write of the ledger: counts, recovery point, holes, felt outage. Pure: lines in, figures out.

The words and the formulas are those of ``docs/journal.md``, "What follows from them". All times are integers,
nanoseconds since the run's origin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from reports.records import Finding, format_duration
from reports.writes import Fate, Write, Writes, gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One write, named so that it can be looked up in the ledger."""

    n: int
    id: str
    acknowledged_ns: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cases:
    """The first and the last of several writes of one fate. The first lost one is the worst: it goes furthest back."""

    first: Case | None = None
    last: Case | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outage:
    """The outage as the writer of one channel felt it; ``None`` where there was no such acknowledgement.

    It lies between the last acknowledgement before the deployment was gone and the first one after.

    ``attempts_ns`` is how long the two attempts took between which it ended: the last one that failed and the first one
    that was acknowledged. The end of the outage is not known any sharper than that.
    """

    last_before_ns: int | None = None
    first_after_ns: int | None = None
    outage_ns: int | None = None
    attempts_ns: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelAccount:
    """The account of one channel.

    ``rpo_achieved_ns`` is ``None`` when nothing was acknowledged before the strike; with ``lower_bound`` the loss is
    that at least. ``holes`` counts the recovered writes after a lost one. ``duplicated`` counts every id found more
    than once, also where a copy is altered. Of the ``lost``, ``unreadable`` left a trace that cannot be read,
    ``lost_before_shut`` were acknowledged after the strike by a deployment not yet gone, and ``lost_after_recovery``
    were attempted after it was gone.
    """

    channel: str
    attempted: int
    acknowledged: int
    acknowledged_before_strike: int
    recovered: int
    lost: int
    unreadable: int
    altered: int
    indeterminate: int
    phantom: int
    duplicated: int
    lost_before_shut: int
    lost_after_recovery: int
    holes: int
    recovery_point_ns: int | None
    rpo_achieved_ns: int | None
    lower_bound: bool
    resolution_ns: int
    lost_cases: Cases
    altered_cases: Cases
    hole_cases: Cases
    felt: Outage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accounting:
    """The accounts of all channels, the worst channel's RPO as the deployment's, and the findings.

    Among channels with one RPO the worst is the one written to most seldom: it sees the least.
    """

    channels: tuple[ChannelAccount, ...]
    worst_channel: str
    rpo_achieved_ns: int | None
    lower_bound: bool
    resolution_ns: int
    findings: tuple[Finding, ...]


def account(
    ledger_lines: Iterable[Mapping[str, Any]],
    observed_lines: Iterable[Mapping[str, Any]],
    strike_ns: int,
    *,
    gone_ns: int | None = None,
    interval_ns: int = 0,
    intervals_ns: Mapping[str, int] | None = None,
    channels: Iterable[str] = (),
) -> Accounting:
    """The account of a ledger: what became of every write, and how far back the recovery point lies.

    Args:
        ledger_lines: the lines of ``ledger.jsonl``, in order.
        observed_lines: the lines of ``observed.jsonl``, in any order.
        strike_ns: the instant the disaster began.
        gone_ns: the instant since which no client was served: clients were shut out, or the disaster was proven
            complete. Only what was attempted later counts as written after recovery: a writer may stall between the
            answer and its line. The strike itself where it is unknown.
        interval_ns: one write interval, the resolution of the recovery point.
        intervals_ns: the same for single channels, where theirs is another.
        channels: those that must have been written to; one without any acknowledged write makes the RPO unknown.

    Raises:
        UsageProblem: as ``gather``.
    """
    writes = gather(ledger_lines, observed_lines)
    gone = strike_ns if gone_ns is None else max(gone_ns, strike_ns)
    names = [*dict.fromkeys([*channels, *writes.channels, *writes.phantoms])]
    apart = intervals_ns or {}
    accounts = tuple(_account_channel(name, writes, strike_ns, gone, apart.get(name, interval_ns)) for name in names)
    unknown = next((each for each in accounts if each.rpo_achieved_ns is None), None)
    worst = unknown or max(
        accounts, key=lambda each: (each.rpo_achieved_ns or 0, each.lower_bound, each.resolution_ns), default=None
    )
    return Accounting(
        channels=accounts,
        worst_channel=worst.channel if worst else "",
        rpo_achieved_ns=worst.rpo_achieved_ns if worst else None,
        lower_bound=bool(worst and worst.lower_bound),
        resolution_ns=worst.resolution_ns if worst else interval_ns,
        findings=tuple(finding for each in accounts for finding in _findings(each, writes, strike_ns, gone)),
    )


def felt_outage(ledger_lines: Iterable[Mapping[str, Any]], strike_ns: int, gone_ns: int, channel: str) -> Outage:
    """The outage that the writer of one channel felt; needs nothing observed."""
    return _felt(gather(ledger_lines, ()).channels.get(channel, []), strike_ns, gone_ns)


def _account_channel(channel: str, writes: Writes, strike_ns: int, gone_ns: int, interval_ns: int) -> ChannelAccount:
    ours = writes.channels.get(channel, [])
    counts = dict.fromkeys(Fate, 0)
    for write in ours:
        counts[write.fate] += 1
    acknowledged = [write for write in ours if write.acknowledged_ns is not None]
    before = list(_before(ours, strike_ns))
    point, achieved, lower_bound = _recovery_point(before, ours, strike_ns)
    holes = list(_holes(before))
    lost = [write for write in acknowledged if write.fate is Fate.LOST]
    return ChannelAccount(
        channel=channel,
        attempted=len(ours),
        acknowledged=len(acknowledged),
        acknowledged_before_strike=len(before),
        recovered=counts[Fate.RECOVERED],
        lost=counts[Fate.LOST],
        unreadable=sum(write.unreadable > 0 for write in lost),
        altered=counts[Fate.ALTERED],
        indeterminate=counts[Fate.INDETERMINATE],
        phantom=len(writes.phantoms.get(channel, [])),
        duplicated=sum(write.copies > 1 for write in ours),
        lost_before_shut=sum(strike_ns <= (write.acknowledged_ns or 0) < gone_ns for write in lost),
        lost_after_recovery=sum(write.attempted_ns >= gone_ns for write in lost),
        holes=len(holes),
        recovery_point_ns=point,
        rpo_achieved_ns=achieved,
        lower_bound=lower_bound,
        resolution_ns=interval_ns,
        lost_cases=_cases(lost),
        altered_cases=_cases([write for write in ours if write.fate is Fate.ALTERED]),
        hole_cases=_cases(holes),
        felt=_felt(ours, strike_ns, gone_ns),
    )


def _recovery_point(before: list[Write], ours: list[Write], strike_ns: int) -> tuple[int | None, int | None, bool]:
    """Recovery point, RPO achieved and whether that is a lower bound only, of one channel."""
    if not before:
        return None, None, False
    broken = next((at for at, write in enumerate(before) if write.fate in _BREAKS), None)
    if broken is None:
        return before[-1].acknowledged_ns, 0, False
    if broken == 0:
        return None, max(0, strike_ns - ours[0].attempted_ns), True
    point = before[broken - 1].acknowledged_ns
    return point, max(0, strike_ns - (point or 0)), False


# A duplicated write is there, with the right bytes: a finding of its own, and no loss.
_BREAKS: Final = frozenset({Fate.LOST, Fate.ALTERED})


def _holes(before: Iterable[Write]) -> Iterator[Write]:
    """The recovered writes after a lost one, among those acknowledged before the strike.

    Work that was acknowledged after it and survived is no hole: it was made on what the disaster had left.
    """
    lost_one = False
    for write in before:
        if write.fate is Fate.LOST:
            lost_one = True
        elif lost_one and write.fate is Fate.RECOVERED:
            yield write


def _felt(ours: Iterable[Write], strike_ns: int, gone_ns: int) -> Outage:
    last: int | None = None
    failed_for = 0
    for write in ours:  # in a channel one write follows the other
        if write.acknowledged_ns is None:
            if write.failed_ns is not None and write.failed_ns > strike_ns:
                failed_for = write.failed_ns - write.attempted_ns
        elif write.acknowledged_ns < gone_ns:
            last = write.acknowledged_ns
        elif write.attempted_ns >= gone_ns:
            first = write.acknowledged_ns
            outage = None if last is None else first - last
            attempts = failed_for + first - write.attempted_ns
            return Outage(last_before_ns=last, first_after_ns=first, outage_ns=outage, attempts_ns=attempts)
    return Outage(last_before_ns=last)


def _cases(writes: list[Write]) -> Cases:
    if not writes:
        return Cases()
    first, last = (Case(n=each.n, id=each.id, acknowledged_ns=each.acknowledged_ns) for each in (writes[0], writes[-1]))
    return Cases(first=first, last=last)


def _findings(channel: ChannelAccount, writes: Writes, strike_ns: int, gone_ns: int) -> Iterator[Finding]:
    ours, name = writes.channels.get(channel.channel, []), channel.channel
    if channel.holes:
        yield _finding("WRITES-HOLE", name, f"recovered after write {_number(channel.lost_cases)} was lost",
                       [(write.n, write.id) for write in _holes(_before(ours, strike_ns))])  # fmt: skip
    altered = [(write.n, write.id) for write in ours if write.fate is Fate.ALTERED]
    if altered:
        yield _finding("WRITE-ALTERED", name, "came back with another digest", altered)
    phantoms = writes.phantoms.get(name, [])
    if phantoms:
        yield _finding("WRITE-PHANTOM", name, "present and never attempted", [(None, each) for each in phantoms])
    duplicated = [write for write in ours if write.copies > 1]
    if duplicated:
        most = max(duplicated, key=lambda write: write.copies)
        yield _finding("WRITE-DUPLICATED", name, f"found more than once, write {most.n} {most.copies} times",
                       [(write.n, write.id) for write in duplicated])  # fmt: skip
    late = [write for write in ours if write.fate is Fate.LOST and write.attempted_ns >= gone_ns]
    if late:
        after = format_duration((late[0].acknowledged_ns or 0) - gone_ns)
        yield _finding("WRITE-LOST-AFTER-RECOVERY", name, f"acknowledged after recovery (the first {after} after the"
                       " deployment was gone) and absent", [(write.n, write.id) for write in late])  # fmt: skip


def _before(ours: Iterable[Write], strike_ns: int) -> Iterator[Write]:
    return (write for write in ours if write.acknowledged_ns is not None and write.acknowledged_ns < strike_ns)


def _number(cases: Cases) -> str:
    return str(cases.first.n) if cases.first else "?"


def _finding(code: str, channel: str, what: str, cases: Sequence[tuple[int | None, str]]) -> Finding:
    shown = [f"{'id' if n is None else f'write {n},'} {name[:80]}" for n, name in (cases[0], cases[-1])]
    named = shown[0] if len(cases) == 1 else f"first {shown[0]}; last {shown[1]}"
    seen = f"{len(cases):,} in channel {channel}: {what}; {named}"
    return Finding(code=code, seen=seen, where=f"ledger channel {channel}", count=len(cases))

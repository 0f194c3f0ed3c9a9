"""What became of a cluster and of its clients' work while it broke and healed: counts, outages, findings. Pure.

Figures and words are those of ``docs/journal.md``, "Failover drills". All times are integers, nanoseconds since the
run's origin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from reports import outages, recovery_point
from reports.accounting import Accounting
from reports.measures import Event, last_of, of_kind
from reports.outages import ChannelOutage
from reports.records import Finding, UsageProblem, format_duration
from reports.witnessed import Witnessed, witnessed
from reports.writes import Fate, Write, Writes, gather

Line = Mapping[str, Any]
# In a failover nobody is kept out and nothing is restored, so this question has another name: ACKNOWLEDGED-WRITES-LOST.
_OF_RESTORES: Final = "WRITE-LOST-AFTER-RECOVERY"
_LOST: Final = frozenset({Fate.LOST, Fate.ALTERED})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """The lines of a failover drill's files; ``None`` where one is absent or, as ``problems`` tell, of no use."""

    ledger: Sequence[Line] | None = None
    observed: Sequence[Line] | None = None
    witness: Sequence[Line] | None = None
    reads: Sequence[Line] | None = None
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterAccount:
    """All that follows from the facts of a failover drill.

    ``accounting`` is ``None`` where nothing was observed afterwards, ``seen`` where there was no witness. ``zombie``
    counts the rows that an overtaken leader acknowledged, ``zombie_lost`` those of them that are lost;
    ``unacknowledged`` the writes that were committed and never acknowledged.
    """

    strike_ns: int | None
    accounting: Accounting | None
    seen: Witnessed | None
    outages: tuple[ChannelOutage, ...]
    lost: int
    unacknowledged: int
    zombie: int
    zombie_lost: int
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]

    def longest(self, kind: str) -> ChannelOutage | None:
        """The channel of one kind with the longest outage; ``None`` where none of that kind was asked."""
        return max((each for each in self.outages if each.kind == kind), key=lambda each: each.longest_ns, default=None)


def account_cluster(events: Sequence[Event], facts: Facts, *, planned: bool | None = None) -> ClusterAccount:
    """The account of one failover drill.

    Args:
        events: the drill's own.
        facts: the lines of its files.
        planned: judge it as work that clients were not to feel, or not; as the drill was opened where not given.
    """
    opened, strike = next(each for each in events if each["kind"] == "drill.opened"), last_of(events, "strike")
    cluster, strike_ns = opened["cluster"], strike["at_ns"] if strike else None
    problems = list(facts.problems)
    writes, accounting = Writes(channels={}, phantoms={}), None
    try:
        writes = gather(facts.ledger or (), facts.observed or ())
        if strike_ns is not None and facts.ledger is not None and facts.observed is not None:
            accounting = recovery_point.account_of(events, opened, strike_ns, strike_ns, facts.ledger, facts.observed)
    except UsageProblem as problem:
        problems.append(f"the ledger cannot be used: {problem.seen}")
    seen = None if facts.witness is None else witnessed(facts.witness, [node["name"] for node in cluster["nodes"]])
    felt = tuple(_outages(events, opened, writes, facts, strike_ns))
    zombies = list(_zombies(cluster, seen, writes, facts.ledger or ())) if seen else []
    lost = list(_lost(writes)) if accounting else []
    findings: list[Finding] = []
    if strike_ns is not None:
        findings += [*_split(seen, strike_ns), *_acknowledged_and_lost(lost, strike_ns)]
        findings += [each for each in accounting.findings if each.code != _OF_RESTORES] if accounting else []
        findings += _zombie(zombies if accounting else [], strike_ns)
        findings += _nobody(events, seen, strike_ns)
        if cluster["planned"] if planned is None else planned:
            findings += [*_felt(felt)] or [*_probes_felt(events, strike_ns)]
    return ClusterAccount(
        strike_ns=strike_ns,
        accounting=accounting,
        seen=seen,
        outages=felt,
        lost=len(lost),
        unacknowledged=sum(write.acknowledged_ns is None and write.copies > 0
                           for lane in writes.channels.values() for write in lane),
        zombie=len(zombies),
        zombie_lost=sum(write.fate in _LOST for _, write in zombies) if accounting else 0,
        findings=tuple(findings),
        problems=tuple(problems),
    )  # fmt: skip


def _outages(
    events: Sequence[Event], opened: Event, writes: Writes, facts: Facts, strike_ns: int | None
) -> Iterator[ChannelOutage]:
    """Of every channel, from the strike to the last line of either file: the end of the load."""
    if strike_ns is None:
        return
    end_ns = max((int(line["t"]) for line in (*(facts.ledger or ()), *(facts.reads or ()))), default=strike_ns)
    apart = recovery_point.channels(events, opened)[1]
    yield from outages.of_writes(writes, strike_ns, end_ns, apart, opened["ledger"]["interval_ns"])
    yield from outages.of_reads(facts.reads or (), strike_ns, end_ns)


def _lost(writes: Writes) -> Iterator[tuple[str, Write]]:
    """Every acknowledged write that is absent, unreadable or altered, with its channel, whenever acknowledged."""
    for channel, lane in writes.channels.items():
        yield from ((channel, write) for write in lane if write.acknowledged_ns is not None and write.fate in _LOST)


def _zombies(
    cluster: Mapping[str, Any], seen: Witnessed, writes: Writes, ledger: Iterable[Line]
) -> Iterator[tuple[str, Write]]:
    """The rows that a node acknowledged after another one had taken a write on a newer timeline than its own."""
    names = {node["address"]: node["name"] for node in cluster["nodes"]}
    rows = {write.n: write for write in writes.channels.get("row", [])}
    overtaken = [(reign, at) for reign in seen.reigns if (at := seen.overtaken_ns(reign)) is not None]
    for line in ledger:
        if line["event"] != "acknowledged" or line["channel"] != "row" or "by" not in line:
            continue
        node, at_ns = names.get(line["by"], ""), int(line["t"])
        if any(reign.node == node and max(since, reign.from_ns) < at_ns
               and (reign.over_ns is None or at_ns < reign.over_ns) for reign, since in overtaken):  # fmt: skip
            yield node, rows[int(line["n"])]


def _split(seen: Witnessed | None, strike_ns: int) -> Iterator[Finding]:
    for split in seen.splits if seen else ():
        (one, other), (own, newer) = split.nodes, split.timelines
        told = (f"{one} (timeline {own}) and {other} (timeline {newer}) both took writes, from"
                f" {_when(split.from_ns, strike_ns)} to {_when(split.to_ns, strike_ns)}: of the witness's own,"
                f" {split.writes:,} on {other} lie between two on {one}")  # fmt: skip
        yield Finding(code="SPLIT-BRAIN", seen=told, where=f"nodes {one} and {other}", count=split.writes)


def _acknowledged_and_lost(lost: Sequence[tuple[str, Write]], strike_ns: int) -> Iterator[Finding]:
    for channel in dict.fromkeys(channel for channel, _ in lost):
        ours = [write for name, write in lost if name == channel]
        told = f"{len(ours):,} in channel {channel}: {_first_and_last(ours, strike_ns)}"
        yield Finding(code="ACKNOWLEDGED-WRITES-LOST", seen=told, where=f"ledger channel {channel}", count=len(ours))


def _zombie(zombies: Sequence[tuple[str, Write]], strike_ns: int) -> Iterator[Finding]:
    """One where such writes are lost. What an overtaken leader acknowledged and everybody has did no harm."""
    for node in dict.fromkeys(node for node, _ in zombies):
        ours = [write for name, write in zombies if name == node]
        lost = [write for write in ours if write.fate in _LOST]
        if lost:
            told = (f"{node} acknowledged {len(ours):,} rows after another node had taken writes on a newer timeline,"
                    f" and {len(lost):,} of them are lost: {_first_and_last(lost, strike_ns)}")  # fmt: skip
            yield Finding(code="ZOMBIE-ACKNOWLEDGED", seen=told, where=f"node {node}", count=len(lost))


def _nobody(events: Sequence[Event], seen: Witnessed | None, strike_ns: int) -> Iterator[Finding]:
    """Where promotions were refused, and until the cluster was mended no node but the old leader took a write."""
    refused = of_kind(events, "promotion.refused")
    if not refused or seen is None:
        return
    mended, leader = last_of(events, "mended"), seen.leader(strike_ns)
    until = mended["at_ns"] if mended else None
    for node, at_ns in ((node, at_ns) for (node, _), at_ns in seen.first_accepted.items()):
        if node != leader and at_ns > strike_ns and (until is None or at_ns < until):
            return
    reasons = "; ".join(dict.fromkeys(f"{event['node']}: {event['why']}" for event in refused))
    yield Finding(code="NOBODY-PROMOTED", seen=f"no other node took {leader or 'the leader'}'s place. {reasons}",
                  where="promotion", count=len({event["node"] for event in refused}))  # fmt: skip


def _felt(felt: Iterable[ChannelOutage]) -> Iterator[Finding]:
    failed = [each for each in felt if each.channel == "api" and each.failed]
    if failed:
        told = ", ".join(f"{each.failed:,} of {each.attempted:,} {each.kind}s failed, the longest outage"
                         f" {format_duration(each.longest_ns)}" for each in failed)  # fmt: skip
        yield Finding(code="PLANNED-WORK-FELT", seen=f"clients of the API: {told}", where="channel api",
                      count=sum(each.failed for each in failed))  # fmt: skip


def _probes_felt(events: Sequence[Event], strike_ns: int) -> Iterator[Finding]:
    failed = [each for each in of_kind(events, "probe") if each["outcome"] == "failed" and each["ended_ns"] > strike_ns]
    if failed:
        told = f"{len(failed):,} business transactions failed, first at {failed[0]['step']}: {failed[0]['seen']}"
        yield Finding(code="PLANNED-WORK-FELT", seen=told, where="business transactions", count=len(failed))


def _first_and_last(writes: Sequence[Write], strike_ns: int) -> str:
    ordered = sorted(writes, key=lambda write: write.acknowledged_ns or 0)
    shown = [f"write {write.n}, {write.id[:80]}, acknowledged {_when(write.acknowledged_ns or 0, strike_ns)}"
             for write in (ordered[0], ordered[-1])]  # fmt: skip
    return shown[0] if len(ordered) == 1 else f"first {shown[0]}; last {shown[1]}"


def _when(at_ns: int, strike_ns: int) -> str:
    return f"{format_duration(abs(at_ns - strike_ns))} {'before' if at_ns < strike_ns else 'after'} the strike"

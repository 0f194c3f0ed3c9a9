"""Waiting for a cluster to be whole again, and how each of its members came back."""

from __future__ import annotations

from fixtures.cluster import Cluster, ClusterSettings, Member, fully_redundant
from reports.records import Clock, Finding, HarnessError, Journal, wait_until


def await_redundancy(
    cluster: Cluster, settings: ClusterSettings, *, journal: Journal, drill: str, seconds: float
) -> list[Finding]:
    """Wait until every member streams from one leader, and journal it; a finding where they do not in time."""
    clock, back = journal.clock, dict[str, int]()
    members: list[Member] = []

    def whole() -> bool:
        members[:] = cluster.members()
        _note(members, back, clock)
        return fully_redundant(members, settings)

    try:
        wait_until(whole, seconds=seconds, interval=0.1, what="every member to stream from the leader")
    except HarnessError:
        missing = [each for each in members if each.role != "leader" and not each.streams]
        told = ", ".join(f"{each.node} {each.state or each.role or 'does not answer'}" for each in missing)
        said = told or f"roles {', '.join(each.role or 'none' for each in members)}, and none is waited for"
        seen = f"not after {seconds:g} s: {said}"
        return [Finding(code="REDUNDANCY-NOT-BACK", seen=seen, where="the cluster")]
    journal.write(
        "redundant", drill=drill, at_ns=clock.now(),
        members=[{"node": name, "how": cluster.returned(name), "at_ns": at_ns} for name, at_ns in sorted(back.items())],
    )  # fmt: skip
    return []


def _note(members: list[Member], back: dict[str, int], clock: Clock) -> None:
    """Since when each has been well without a break."""
    for each in members:
        if each.role == "leader" or each.streams:
            back.setdefault(each.node, clock.now())
        else:
            back.pop(each.node, None)

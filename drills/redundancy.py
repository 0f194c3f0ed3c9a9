"""Waiting for a cluster to be whole again, and how each of its members came back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from checks.checked import checked
from fixtures.cluster import USUAL_SETTINGS, Cluster, ClusterSettings, Member, Replicates, fully_redundant
from fixtures.deployment import Deployment
from reports.records import Clock, Finding, HarnessError, Journal, wait_until

# A big node takes its time to be made again; one whose agent gave up never comes.
REDUNDANT_SECONDS: Final = 60.0


def check_redundancy(cluster: Cluster, *, journal: Journal, drill: str) -> None:
    """The same as a check of a restore: a cluster as the suite makes it is to be whole again."""
    with checked(journal, drill, "full redundancy") as check:
        check.looked_at = {"nodes": len(cluster.nodes)}
        check.findings = await_redundancy(
            cluster, USUAL_SETTINGS, journal=journal, drill=drill, seconds=REDUNDANT_SECONDS
        )


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
        wait_until(whole, seconds=seconds, interval=0.25, what="every member to stream from the leader")
    except HarnessError:
        return missing(members, settings, seconds=seconds)
    journal.write(
        "redundant", drill=drill, at_ns=clock.now(),
        members=[{"node": name, "how": cluster.returned(name), "at_ns": at_ns} for name, at_ns in sorted(back.items())],
    )  # fmt: skip
    return []


def missing(members: Sequence[Member], settings: ClusterSettings, *, seconds: float) -> list[Finding]:
    """Who is missing of a cluster that is to be whole; nothing where nobody is."""
    if fully_redundant(members, settings):
        return []
    away = [each for each in members if each.role != "leader" and not each.streams]
    told = ", ".join(f"{each.node} {each.state or each.role or 'does not answer'}" for each in away)
    said = told or f"roles {', '.join(each.role or 'none' for each in members)}, and none is waited for"
    return [Finding(code="REDUNDANCY-NOT-BACK", seen=f"not after {seconds:g} s: {said}", where="the cluster")]


def _note(members: list[Member], back: dict[str, int], clock: Clock) -> None:
    """Since when each has been well without a break."""
    for each in members:
        if each.role == "leader" or each.streams:
            back.setdefault(each.node, clock.now())
        else:
            back.pop(each.node, None)


def timing_of(deployment: Deployment) -> dict[str, Any]:
    """What a restore drill's first line says of the cluster; nothing where there is none."""
    if not isinstance(deployment, Replicates):
        return {}
    timing = deployment.cluster.timing
    return {"cluster": {"timing": {**dataclasses.asdict(timing), "label": timing.label}}}

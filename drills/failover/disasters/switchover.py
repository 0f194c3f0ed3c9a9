"""A planned change of leader: the one standby that holds every acknowledged write takes over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drills.failover.contract import ClusterDisaster, PlannedWork, Struck
from fixtures.cluster import ClusterAct, leader_of
from reports.records import wait_until

SEEN_SECONDS: Final = 10.0


def switch(struck: Struck) -> None:
    """Ask for it, and see that somebody leads again."""
    cluster = struck.deployment.cluster
    cluster.switch_over(struck.standbys[0].name)
    wait_until(
        lambda: leader_of(cluster.members()) is not None,
        seconds=SEEN_SECONDS, interval=0.1, what="one leader after the switchover",
    )  # fmt: skip


def leader(struck: Struck) -> Mapping[str, str]:
    """Who leads now."""
    now = leader_of(struck.deployment.cluster.members())
    seen = f"{now.node} leads" if now else "nobody is seen to lead"
    return {"leader": seen if now is None or now.node == struck.leader.name else ""}


DISASTER: Final[ClusterDisaster] = PlannedWork(
    name="switchover", needs=frozenset({ClusterAct.SWITCH_OVER}), work=switch, proof=leader
)

"""The leader's agent alone is killed: its server goes on, and nobody tells it that another is promoted."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import USUAL, ClusterDisaster, NodeFault, Variant
from fixtures.cluster import Act, ClusterSettings

# Without a standby that must confirm, what the old leader takes on its own it acknowledges.
ALONE: Final = Variant(name="asynchronous", settings=ClusterSettings(synchronous_mode=False), expects=("SPLIT-BRAIN",))

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="patroni_killed",
    whom=("leader",),
    act=Act.KILL_PATRONI,
    heal=(Act.START,),
    told="the killed agent was started again",
    leads="another",
    gone=("agent",),
    seconds=2.0,
    variants=(USUAL, ALONE),
)

"""The leader and the standby that it waited for are killed: the one that is left may lack writes, and must not lead."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="two_nodes_lost",
    whom=("leader", "synchronous"),
    act=Act.KILL,
    heal=(Act.START,),
    told="both killed nodes were started again",
    leads="nobody",
    gone=("server", "agent"),
    seconds=1.0,
)

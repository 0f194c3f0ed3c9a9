"""The leader's whole node is lost, its disk with it: what replaces it must be made from the new leader."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="primary_lost",
    whom=("leader",),
    act=Act.LOSE,
    heal=(Act.START,),
    told="an empty node took the lost one's place",
    leads="another",
    gone=("server", "agent", "data directory"),
    paper="lease",
)

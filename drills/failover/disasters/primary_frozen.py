"""The leader's whole node freezes, connections and all, and thaws once another leads: a zombie that knows nothing."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="primary_frozen",
    whom=("leader",),
    act=Act.FREEZE,
    heal=(Act.THAW,),
    told="the frozen node was thawed",
    leads="another",
    frozen=True,
    paper="lease",
)

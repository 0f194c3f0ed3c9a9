"""The standby that the leader waits for is killed: writes wait until another one is named."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="standby_lost",
    whom=("synchronous",),
    act=Act.KILL,
    heal=(Act.START,),
    told="the killed standby was started again",
    leads="same",
    gone=("server", "agent"),
    seconds=3.0,
)

"""The leader's server and its agent are killed at once: nobody gives the lead up, so the lease must run out."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="primary_killed",
    whom=("leader",),
    act=Act.KILL,
    heal=(Act.START,),
    told="the killed node was started again",
    leads="another",
    gone=("server", "agent"),
    paper="lease",
)

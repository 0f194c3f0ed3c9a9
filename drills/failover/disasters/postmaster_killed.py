"""The leader's database server is killed; its agent lives, and gives the lead up."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="postmaster_killed",
    whom=("leader",),
    act=Act.KILL_POSTGRES,
    heal=(),
    told="",
    leads="another",
    gone=("server",),
    paper="noticed",
)

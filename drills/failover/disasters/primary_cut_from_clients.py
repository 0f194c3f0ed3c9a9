"""Clients cannot reach the leader, and nobody else notices: no cluster fails over for that."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="primary_cut_from_clients",
    whom=("leader",),
    act=Act.CUT_CLIENTS,
    heal=(Act.JOIN,),
    told="the way to the leader was opened again",
    leads="same",
    seconds=4.0,
)

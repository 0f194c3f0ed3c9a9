"""The leader cannot reach the configuration store: it must step down before its lease is another's."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, NodeFault
from fixtures.cluster import Act

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="primary_cut_from_dcs",
    whom=("leader",),
    act=Act.CUT_DCS,
    heal=(Act.JOIN,),
    told="the way to the store was opened again",
    leads="another",
)

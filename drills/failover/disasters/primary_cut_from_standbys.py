"""Nothing passes between the leader and its standbys any more; it still holds the lead in the store."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import USUAL, ClusterDisaster, NodeFault, Variant
from fixtures.cluster import Act, ClusterSettings

STRICT: Final = Variant(name="strict", settings=ClusterSettings(synchronous_mode_strict=True))

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="primary_cut_from_standbys",
    whom=("leader",),
    act=Act.CUT_STANDBYS,
    heal=(Act.JOIN,),
    told="the ways between the nodes were opened again",
    leads="either",
    # Longer than the server waits for a standby that says nothing (wal_sender_timeout).
    seconds=6.5,
    variants=(USUAL, STRICT),
)

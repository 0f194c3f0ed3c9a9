"""Both standbys are killed: the leader goes on alone, or, where it must not, takes no write until one is back."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import USUAL, ClusterDisaster, NodeFault, Variant
from fixtures.cluster import Act, ClusterSettings

STRICT: Final = Variant(name="strict", settings=ClusterSettings(synchronous_mode_strict=True))

DISASTER: Final[ClusterDisaster] = NodeFault(
    name="standbys_lost",
    whom=("synchronous", "other"),
    act=Act.KILL,
    heal=(Act.START,),
    told="both standbys were started again",
    leads="same",
    gone=("server", "agent"),
    seconds=4.0,
    variants=(USUAL, STRICT),
)

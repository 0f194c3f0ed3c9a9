"""The object server dies; clients are switched to the second, which holds a copy some moments old, until it is back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from drills.failover.contract import USUAL, ClusterDisaster, Floor, Leads, Need, Struck, Variant
from fixtures.cluster import ClusterSettings, Lacked, Part, Timing
from reports.records import NANOSECONDS


class ObjectServerLost:
    """See ``ClusterDisaster``."""

    name = "object_server_lost"
    variants: Sequence[Variant] = (USUAL,)
    planned = False
    leads: Leads = "same"
    needs: frozenset[Need] = frozenset({Part.OBJECTS})

    def __init__(self) -> None:
        self.lacked: Lacked | None = None

    def lasts_ns(self, timing: Timing) -> int:
        """Some seconds, in which clients work with the second one."""
        del timing
        return 2 * NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """SIGKILL; then, as an operator would, send clients to the second."""
        struck.deployment.lose_objects()

    def places(self, struck: Struck) -> Mapping[str, str]:
        """What takes connections in its place."""
        seen = struck.deployment.objects_state()
        if not seen:
            struck.deployment.switch_objects()
        return {"object server": seen}

    def mend(self, struck: Struck) -> str:
        """Start it again, and bring over what the second lacked."""
        lacked = self.lacked = struck.deployment.rejoin_objects()
        told = f"{lacked.objects:,} objects that the copy lacked were brought over"
        return f"the first object server was started again; {told}"

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """None: how fast somebody switches is his own."""
        del timing, settings
        return None


DISASTER: Final[ClusterDisaster] = ObjectServerLost()

"""The configuration store freezes for longer than a leader may do without; failsafe mode has nodes ask each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from drills.failover.contract import USUAL, ClusterDisaster, Floor, Leads, Need, Struck, Variant
from fixtures.cluster import ClusterAct, ClusterSettings, Timing
from reports.records import NANOSECONDS, wait_until

FAILSAFE: Final = Variant(name="failsafe", settings=ClusterSettings(failsafe_mode=True), leads="same")


class DcsLost:
    """See ``ClusterDisaster``."""

    name = "dcs_lost"
    variants: Sequence[Variant] = (USUAL, FAILSAFE)
    planned = False
    leads: Leads = "either"
    needs: frozenset[Need] = frozenset({ClusterAct.FREEZE_DCS, ClusterAct.THAW_DCS})

    def lasts_ns(self, timing: Timing) -> int:
        """Until a leader has given up trying, and some seconds more."""
        return timing.loop_wait_ns + 2 * timing.retry_timeout_ns + 2 * NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """Freeze it: connections stay open, and nothing answers."""
        struck.deployment.cluster.act(ClusterAct.FREEZE_DCS)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """The store itself."""
        seen = struck.deployment.cluster.store_state()
        return {"configuration store": "" if seen == "frozen" else seen or "gone"}

    def mend(self, struck: Struck) -> str:
        """Let it go on."""
        cluster = struck.deployment.cluster
        cluster.act(ClusterAct.THAW_DCS)
        wait_until(lambda: cluster.store_state() not in ("", "frozen"), seconds=10, interval=0.1, what="the store")
        return "the configuration store was thawed"

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """Nothing on paper but this: with failsafe mode there is to be none."""
        del timing
        if settings.failsafe_mode:
            return Floor(low_ns=0, high_ns=NANOSECONDS, why="failsafe_mode: every member confirms the leader")
        return None


DISASTER: Final[ClusterDisaster] = DcsLost()

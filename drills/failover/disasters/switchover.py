"""A planned change of leader: the one standby that holds every acknowledged write takes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from drills.failover.contract import USUAL, ClusterDisaster, Floor, Leads, Need, Struck, Variant
from fixtures.cluster import ClusterAct, ClusterSettings, Timing, leader_of
from reports.records import NANOSECONDS


class Switchover:
    """See ``ClusterDisaster``."""

    name = "switchover"
    variants: Sequence[Variant] = (USUAL,)
    planned = True
    leads: Leads = "another"
    needs: frozenset[Need] = frozenset({ClusterAct.SWITCH_OVER})

    def lasts_ns(self, timing: Timing) -> int:
        """A moment."""
        del timing
        return NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """Ask for it."""
        struck.deployment.cluster.switch_over(struck.standbys[0].name)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """Who leads now."""
        leader = leader_of(struck.deployment.cluster.members())
        seen = f"{leader.node} leads" if leader else ""
        return {"leader": seen if leader is None or leader.node == struck.leader.name else ""}

    def mend(self, struck: Struck) -> str:
        """Nothing was broken."""
        del struck
        return ""

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """Until the old leader has ended in order, and the new one is promoted."""
        del timing, settings
        return None


DISASTER: Final[ClusterDisaster] = Switchover()

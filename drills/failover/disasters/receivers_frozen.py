"""The standbys' WAL receivers freeze, then the leader's machine dies, and what was on its way to them with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from drills.failover.contract import (
    USUAL,
    ClusterDisaster,
    Floor,
    Leads,
    Need,
    Struck,
    Variant,
    lease_runs_out,
)
from fixtures.cluster import Act, ClusterSettings, Timing
from reports.records import NANOSECONDS, pause

# Nobody waits for a standby, so that what is acknowledged meanwhile is on one machine alone.
ALONE: Final = Variant(
    name="asynchronous",
    settings=ClusterSettings(synchronous_mode=False),
    expects=("ACKNOWLEDGED-WRITES-LOST",),
)
FROZEN_SECONDS: Final = 1.0


class ReceiversFrozen:
    """See ``ClusterDisaster``."""

    name = "receivers_frozen"
    variants: Sequence[Variant] = (USUAL, ALONE)
    planned = False
    leads: Leads = "another"
    needs: frozenset[Need] = frozenset({Act.FREEZE_RECEIVER, Act.CUT_STANDBYS, Act.KILL, Act.THAW, Act.JOIN, Act.START})

    def lasts_ns(self, timing: Timing) -> int:
        """A moment."""
        del timing
        return NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """Freeze, let clients write for a while, kill."""
        for node in struck.standbys:
            node.act(Act.FREEZE_RECEIVER)
        struck.leader.act(Act.CUT_STANDBYS)
        pause(FROZEN_SECONDS, why="clients write what no standby receives")
        struck.leader.act(Act.KILL)
        for node in struck.standbys:
            node.act(Act.THAW)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """The leader."""
        state = struck.leader.state()
        return {f"{struck.leader.name}, {part}": state[part] for part in ("server", "agent")}

    def mend(self, struck: Struck) -> str:
        """Start it again."""
        struck.leader.act(Act.JOIN)
        struck.leader.act(Act.START)
        return "the killed node was started again"

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """The lease; where commits wait for a standby, they waited before the kill already."""
        paper = lease_runs_out(timing)
        if not settings.synchronous_mode:
            return paper
        waited = int(FROZEN_SECONDS * NANOSECONDS)
        return Floor(
            low_ns=paper.low_ns, high_ns=paper.high_ns + waited,
            why=f"{paper.why}; commits waited for a frozen standby before that already",
        )  # fmt: skip


DISASTER: Final[ClusterDisaster] = ReceiversFrozen()

"""The leader dies while every standby is further behind than may be promoted: an outage is preferred to a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from drills.failover.contract import ClusterDisaster, Floor, Leads, Need, Struck, Variant, lease_runs_out
from fixtures.cluster import Act, ClusterSettings, Timing
from reports.records import NANOSECONDS, pause

LIMIT: Final = 1_048_576
BEHIND: Final = 4
# The leader tells the store once in a turn how far it is.
TOLD_SECONDS: Final = 2.5
EXCEEDED: Final = Variant(
    name="",
    settings=ClusterSettings(synchronous_mode=False, maximum_lag_on_failover=LIMIT),
    expects=("NOBODY-PROMOTED",),
)
CAUGHT_UP: Final = Variant(name="caught_up", settings=ClusterSettings(maximum_lag_on_failover=LIMIT))


class LagExceeded:
    """See ``ClusterDisaster``. ``caught_up`` is the same limit where no standby lags: the healthy twin."""

    name = "lag_exceeded"
    variants: Sequence[Variant] = (EXCEEDED, CAUGHT_UP)
    planned = False
    leads: Leads = "another"
    needs: frozenset[Need] = frozenset({Act.CUT_STANDBYS, Act.KILL, Act.JOIN, Act.START})

    def lasts_ns(self, timing: Timing) -> int:
        """A moment."""
        del timing
        return NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """Cut the leader from its standbys where there is to be a lag, write some megabytes of log, kill."""
        if struck.variant is EXCEEDED:
            struck.leader.act(Act.CUT_STANDBYS)
        with struck.leader.database.connect() as connection:
            for _ in range(BEHIND):
                connection.execute(f"SELECT pg_logical_emit_message(false, 'drill', repeat('x', {LIMIT}))")
        pause(TOLD_SECONDS, why="the leader tells the store how far it is once in a turn")
        struck.leader.act(Act.KILL)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """The leader."""
        state = struck.leader.state()
        return {f"{struck.leader.name}, {part}": state[part] for part in ("server", "agent")}

    def mend(self, struck: Struck) -> str:
        """Start it again; who was not to be replaced leads again."""
        struck.leader.act(Act.JOIN)
        struck.leader.act(Act.START)
        return "the killed node was started again"

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """The lease."""
        del settings
        return lease_runs_out(timing)


DISASTER: Final[ClusterDisaster] = LagExceeded()

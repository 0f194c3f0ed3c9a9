"""What a disaster of a cluster must offer: the seam at which a new one is a new file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

from fixtures.cluster import (
    USUAL_SETTINGS,
    Act,
    ClusterAct,
    ClusterNode,
    ClusterSettings,
    Lacked,
    Part,
    RedundantDeployment,
    Timing,
    fully_redundant,
)
from fixtures.network import answers
from reports.records import NANOSECONDS, format_duration, wait_until

# Who leads while a disaster lasts: ``another`` node, the ``same``, ``either``, or ``nobody`` until it is mended.
Leads = Literal["another", "same", "either", "nobody"]
Whom = Literal["leader", "synchronous", "other"]
Need = Act | ClusterAct | Part
# A standby that is promoted has its log to replay and a checkpoint's worth of work to begin.
PROMOTION_NS: Final = 2 * NANOSECONDS
# Between two steps of planned work: a node that was restarted streams within seconds.
WHOLE_SECONDS: Final = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """Under which settings a disaster strikes. ``name`` is empty for the usual ones.

    ``expects``: the cluster is set up wrong on purpose, and one of these findings must be seen: a negative control.
    """

    name: str = ""
    settings: ClusterSettings = USUAL_SETTINGS
    expects: tuple[str, ...] = ()
    leads: Leads | None = None


USUAL: Final = Variant()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floor:
    """The outage of writes that the settings let one expect, on paper: nanoseconds, and from what they follow."""

    low_ns: int
    high_ns: int
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Struck:
    """What a disaster strikes, as it was just before. ``variant`` says under which settings.

    ``noted``: what a strike keeps for its proof. ``not_tested``: what could not be shown here, in the form of a check.
    """

    deployment: RedundantDeployment
    variant: Variant
    leader: ClusterNode
    synchronous: ClusterNode | None
    others: Sequence[ClusterNode]
    noted: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    not_tested: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def standbys(self) -> list[ClusterNode]:
        """Every node but the leader, the one that it waits for first."""
        return [*([self.synchronous] if self.synchronous else []), *self.others]

    def nodes(self, whom: Sequence[Whom]) -> list[ClusterNode]:
        """Nodes by what they were. Where the leader waits for nobody, any standby is taken for the synchronous one."""
        standbys = iter(self.standbys)
        by_role = {"leader": self.leader, "synchronous": next(standbys), "other": next(standbys, None)}
        return [node for each in whom if (node := by_role[each]) is not None]


class ClusterDisaster(Protocol):
    """What strikes a cluster, the proof that it did, and what heals it.

    ``planned``: maintenance, which no client is to feel. ``needs``: what the deployment must let one do.
    """

    @property
    def name(self) -> str:
        """Its name, and its file's."""

    @property
    def variants(self) -> Sequence[Variant]:
        """Under which settings it strikes."""

    @property
    def planned(self) -> bool:
        """Whether it is maintenance."""

    @property
    def leads(self) -> Leads:
        """Who leads while it lasts."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the deployment must let one do."""

    def lasts_ns(self, timing: Timing) -> int:
        """How long it lasts before it is mended, from the strike; where another is to lead, from then on."""

    def strike(self, struck: Struck) -> None:
        """Break something."""

    def places(self, struck: Struck) -> Mapping[str, str]:
        """Every place that should be struck now, and what speaks against it: empty text where it is proven."""

    def mend(self, struck: Struck) -> str:
        """Heal what was broken, and say in words what was done; empty text where the cluster heals itself."""

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """The outage of writes on paper; none where no settings tell."""


@runtime_checkable
class SwitchesObjects(Protocol):
    """A disaster after which clients work with a copy; ``lacked``: what that lacked, known once it is mended."""

    lacked: Lacked | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeFault:
    """A disaster that is one act on one or more nodes, and the acts that heal them; see ``ClusterDisaster``.

    ``gone``: which parts of a node's state must say nothing any more; ``frozen``: its server must be stopped.
    """

    name: str
    whom: tuple[Whom, ...]
    act: Act
    heal: tuple[Act, ...]
    told: str
    leads: Leads
    gone: tuple[str, ...] = ()
    frozen: bool = False
    seconds: float = 1.0
    variants: tuple[Variant, ...] = (USUAL,)
    planned: bool = False
    paper: str = ""

    @property
    def needs(self) -> frozenset[Need]:
        """See ``ClusterDisaster``."""
        return frozenset({self.act, *self.heal})

    def lasts_ns(self, timing: Timing) -> int:
        """See ``ClusterDisaster``."""
        # That nobody leads shows only once the lease has run out, and the others have had their turns.
        lease = timing.ttl_ns + 3 * timing.loop_wait_ns if self.leads == "nobody" else 0
        return lease + int(self.seconds * NANOSECONDS)

    def strike(self, struck: Struck) -> None:
        """See ``ClusterDisaster``."""
        for node in struck.nodes(self.whom):
            node.act(self.act)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """See ``ClusterDisaster``."""
        return {
            f"{node.name}, {part}": seen
            for node in struck.nodes(self.whom)
            for part, seen in self._against(node).items()
        }

    def _against(self, node: ClusterNode) -> dict[str, str]:
        state = node.state()
        if self.frozen:
            return {part: "" if state[part] == "frozen" else state[part] or "gone" for part in ("server", "agent")}
        if self.act in (Act.CUT_DCS, Act.CUT_STANDBYS, Act.CUT_CLIENTS):
            return {"way": "" if self.act in node.cuts() else "open"}
        return {part: state[part] for part in self.gone}

    def mend(self, struck: Struck) -> str:
        """See ``ClusterDisaster``."""
        for node in struck.nodes(self.whom):
            for act in self.heal:
                node.act(act)
        return self.told

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """See ``ClusterDisaster``."""
        del settings
        if self.paper == "lease":
            return lease_runs_out(timing)
        if self.paper == "noticed":
            return agent_notices(timing)
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceFault:
    """One of two processes of a service is killed, and started again; see ``ClusterDisaster``."""

    name: str
    service: str
    variants: tuple[Variant, ...] = (USUAL,)
    planned: bool = False
    leads: Leads = "same"
    needs: frozenset[Need] = frozenset({Part.SERVICES})

    def lasts_ns(self, timing: Timing) -> int:
        """See ``ClusterDisaster``."""
        del timing
        return 2 * NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """See ``ClusterDisaster``."""
        struck.deployment.lose_service(self.service)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """See ``ClusterDisaster``."""
        service = next(each for each in struck.deployment.services if each.name == self.service)
        return {f"service {self.service}": "it takes connections" if answers(service.url) else ""}

    def mend(self, struck: Struck) -> str:
        """See ``ClusterDisaster``."""
        struck.deployment.bring_back_service(self.service)
        return f"the killed service {self.service} was started again"

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """See ``ClusterDisaster``."""
        del timing, settings
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedWork:
    """Maintenance, at the end of which another node leads; see ``ClusterDisaster``.

    ``work`` does it, and ``proof`` tells what speaks against its having been done.
    """

    name: str
    needs: frozenset[Need]
    work: Callable[[Struck], None]
    proof: Callable[[Struck], Mapping[str, str]]
    variants: tuple[Variant, ...] = (USUAL,)
    planned: bool = True
    leads: Leads = "another"

    def lasts_ns(self, timing: Timing) -> int:
        """See ``ClusterDisaster``."""
        del timing
        return NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """See ``ClusterDisaster``."""
        self.work(struck)

    def places(self, struck: Struck) -> Mapping[str, str]:
        """See ``ClusterDisaster``."""
        return self.proof(struck)

    def mend(self, struck: Struck) -> str:
        """Nothing was broken."""
        del struck
        return ""

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """None: until the old leader has ended in order and the new one is promoted, which no setting tells."""
        del timing, settings
        return None


def await_whole(struck: Struck) -> None:
    """Wait until every node streams and one is waited for, as before any further step of planned work.

    Raises:
        HarnessError: it was not in time.
    """
    cluster, settings = struck.deployment.cluster, struck.variant.settings
    wait_until(
        lambda: fully_redundant(cluster.members(), settings),
        seconds=WHOLE_SECONDS, interval=0.1, what="every node to stream from the leader, before the next step",
    )  # fmt: skip


def switch_to_standby(struck: Struck) -> None:
    """Have a standby take over in order, that which the leader waits for where it does, and see all follow it."""
    standbys = [each for each in struck.deployment.cluster.members() if each.streams]
    struck.deployment.cluster.switch_over(max(standbys, key=lambda each: each.synchronous).node)
    await_whole(struck)


def one_after_the_other(struck: Struck, turn: Callable[[ClusterNode], None]) -> None:
    """Take every node out of service in order, and never the one that leads.

    First the standbys, that which commits wait for last; after each turn all is whole again. Then another one leads,
    and it is the old leader's turn.
    """
    for node in reversed(struck.standbys):
        turn(node)
        await_whole(struck)
    switch_to_standby(struck)
    turn(struck.leader)
    await_whole(struck)


def started(node: ClusterNode) -> str:
    """When a node's server was started, by its own clock, and from which directory."""
    with node.database.connect("postgres") as connection:
        row = connection.execute(
            "SELECT pg_postmaster_start_time()::text, setting FROM pg_config WHERE name = 'BINDIR'"
        ).fetchone()
    return " from ".join(row or ())


def lease_runs_out(timing: Timing) -> Floor:
    """The agent is gone too, so that the leader's lease has to run out: renewed once in ``loop_wait``, for ``ttl``."""
    low, high = timing.ttl_ns - timing.loop_wait_ns, timing.ttl_ns + timing.loop_wait_ns + PROMOTION_NS
    return Floor(
        low_ns=low,
        high_ns=high,
        why=(
            f"the lease of ttl {format_duration(timing.ttl_ns)} was last renewed at most loop_wait"
            f" {format_duration(timing.loop_wait_ns)} before; then one more turn and the promotion"
            f" ({format_duration(PROMOTION_NS)} allowed)"
        ),
    )


def agent_notices(timing: Timing) -> Floor:
    """The agent lives, sees at its next turn that its server is gone, and gives its lease up."""
    high = 2 * timing.loop_wait_ns + PROMOTION_NS
    return Floor(
        low_ns=0,
        high_ns=high,
        why=(
            f"the agent looks every loop_wait {format_duration(timing.loop_wait_ns)} and, with primary_start_timeout 0,"
            f" gives its lease up; one turn of the others and the promotion ({format_duration(PROMOTION_NS)} allowed)"
        ),
    )

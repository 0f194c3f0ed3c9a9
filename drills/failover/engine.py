"""The engine of failover drills: one drill, told as the chain of its steps, each of them a phase in the journal."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any, Final

from checks.checked import checked
from drills import watching
from drills.chain import Chain
from drills.failover import verification
from drills.failover.clearing import clear
from drills.failover.contract import Struck, SwitchesObjects
from drills.failover.controls import Verified, prove_failover
from drills.failover.leadership import led_wrongly
from drills.failover.opening import open_failover
from drills.failover.site import FailoverSite
from drills.probe import ContinuousProber
from drills.redundancy import await_redundancy
from drills.stores import open_business
from fixtures.application import Lists
from fixtures.cluster import Member, fully_redundant, leader_of
from fixtures.deployment import NotGiven
from fixtures.objectives import Objective
from fixtures.processes import Finished
from reports.records import NANOSECONDS, Finding, HarnessError, pause, wait_until

# From before the strike, so that reads and writes of every channel are seen to go well.
BEFORE_SECONDS: Final = 0.5
# Beyond what the settings let one expect, for a machine that is busy.
PATIENCE_SECONDS: Final = 25.0
REDUNDANT_SECONDS: Final = 60.0
# Requests of a cluster's clients, who wait for another leader as long as the application does.
REQUEST_SECONDS: Final = 6.0


class Failover(Chain):
    """One disaster on a cluster that runs. The methods are its steps, to be called in this order."""

    def __init__(self, site: FailoverSite, *, objectives: Mapping[str, Objective], scale: Mapping[str, Any]) -> None:
        super().__init__(site.journal, site.id)
        self.site, self.deployment, self.profile, self.record = site, site.deployment, site.profile, site.record
        self.cluster, self.disaster, self.variant = site.deployment.cluster, site.outage.disaster, site.outage.variant
        self._settings = self.variant.settings
        self._prober: ContinuousProber | None = None
        self._struck: Struck | None = None
        self._struck_ns = self._mended_ns = 0
        self._said: list[Finished] = []
        self._there: set[str] = set()
        self._findings: list[Finding] = []
        self._verified: Verified | None = None
        open_failover(site, scale=scale, objectives=objectives)
        self.deployment.processes.record = functools.partial(
            watching.journal_command, self.journal, self.id, self._said
        )

    # The chain.

    def configure(self) -> None:
        """Have the cluster be as this drill wants it, every node of it well."""
        with self._phase("configure"):
            # They take a moment to come up, and wait to be told.
            self.site.load.launch()
            self.site.watch.launch()
            self.cluster.configure(self._settings)

    def start_load(self) -> None:
        """Start the ledger's writer, the witness and the prober, and see each of them do its work."""
        with self._phase("load"):
            self._there = self._documents()
            self.site.load.start(
                clock=self.record.clock, interval_ns=self.site.interval_ns, reads=True,
                request_seconds=REQUEST_SECONDS,
            )  # fmt: skip
            self.site.watch.start(self.cluster.nodes, clock=self.record.clock)
            limit_ns = int(REQUEST_SECONDS * NANOSECONDS)
            self._prober = ContinuousProber(
                functools.partial(open_business, self.deployment, self.site.tag, timeout=REQUEST_SECONDS),
                journal=self.journal, drill=self.id, prefix=f"probe/{self.site.tag}/",
                interval_ns=self.profile.probe_interval_ns, limit_ns=limit_ns,
            )  # fmt: skip
            self._prober.start()
            began = self.record.clock.now()
            if not self._prober.await_success(since=began, seconds=PATIENCE_SECONDS):
                raise HarnessError(
                    "a business transaction before the strike", seen=str(self._prober.last_failed),
                    remedy="see the services' logs",
                )  # fmt: skip
            pause(BEFORE_SECONDS, why="every channel is seen to go well before the strike")

    def strike(self) -> None:
        """Break something, and prove that it broke."""
        members = self.cluster.members()
        struck = self._struck = self._roles(members)
        self.journal.write(
            "cluster.lag", drill=self.id, at_ns=self.record.clock.now(), leader=struck.leader.name,
            standbys=[_lag(each) for each in members if each.node != struck.leader.name],
        )  # fmt: skip
        self.cluster.mark()
        with self._phase("strike"):
            self._struck_ns = self.record.clock.now()
            self.journal.write("strike", drill=self.id, at_ns=self._struck_ns)
            self.disaster.strike(struck)
            places = self.disaster.places(struck)
            self.journal.write(
                "strike.proven", drill=self.id,
                proofs=[{"what": place, "seen": seen or "proven"} for place, seen in places.items()],
            )  # fmt: skip
            with checked(self.journal, self.id, "strike") as check:
                check.looked_at, check.not_tested = {"places": len(places)}, struck.not_tested
                check.findings = [
                    Finding(code="STRIKE-UNPROVEN", seen=seen, where=place) for place, seen in places.items() if seen
                ]
            check.require()

    def hold(self) -> None:
        """Let it last, and see whether somebody else leads, where somebody is to."""
        assert self._struck is not None
        with self._phase("hold"):
            leads, timing = self.variant.leads or self.disaster.leads, self.cluster.timing
            with checked(self.journal, self.id, "leadership") as check:
                check.looked_at = {"nodes": len(self.cluster.nodes)}
                if leads == "another":
                    limit = (timing.ttl_ns + 2 * timing.loop_wait_ns) / NANOSECONDS + PATIENCE_SECONDS
                    if self.variant.expects == ("NOBODY-PROMOTED",):
                        limit = (timing.ttl_ns + 5 * timing.loop_wait_ns) / NANOSECONDS
                    check.findings = self._await_another(limit)
                pause(self.disaster.lasts_ns(timing) / NANOSECONDS, why=f"{self.disaster.name} lasts")
                if leads in ("same", "nobody"):
                    wanted = [self._struck.leader.name] if leads == "same" else []
                    check.findings = led_wrongly(self.cluster.members(), wanted, self.disaster.name)

    def _await_another(self, seconds: float) -> list[Finding]:
        assert self._struck is not None
        old = self._struck.leader.name

        def another_leads() -> bool:
            return any(each.role == "leader" and each.node != old for each in self.cluster.members())

        try:
            wait_until(another_leads, seconds=seconds, interval=0.2, what="another leader")
        except HarnessError:
            return [self._nobody(seconds)]
        return []

    def _nobody(self, seconds: float) -> Finding:
        assert self._struck is not None
        told = []
        for node in self._struck.standbys:
            if why := self.cluster.reasons(node.name):
                told.append(f"{node.name}: {why}")
                self.journal.write(
                    "promotion.refused", drill=self.id, at_ns=self.record.clock.now(), node=node.name, why=why
                )
        said = "; ".join(told) or "the agents say nothing of why"
        return Finding(
            code="NOBODY-PROMOTED", seen=f"no other node led within {seconds:g} s of the strike; {said}",
            where=f"in place of {self._struck.leader.name}",
        )  # fmt: skip

    def mend(self) -> None:
        """Heal what was broken, and wait until every node is well and the business is done again."""
        assert self._struck is not None and self._prober is not None
        with self._phase("mend"):
            what = self.disaster.mend(self._struck)
            self._mended_ns = self.record.clock.now()
            if what:
                self.journal.write("mended", drill=self.id, at_ns=self._mended_ns, what=what)
            if isinstance(self.disaster, SwitchesObjects) and (lacked := self.disaster.lacked):
                self.journal.write(
                    "objects.copied", drill=self.id, at_ns=self._struck_ns, missing=lacked.objects,
                    behind_ns=lacked.behind_ns,
                )  # fmt: skip
        with self._phase("redundant"), checked(self.journal, self.id, "full redundancy") as check:
            check.looked_at = {"nodes": len(self.cluster.nodes)}
            check.findings = await_redundancy(
                self.cluster, self._settings, journal=self.journal, drill=self.id, seconds=REDUNDANT_SECONDS
            ) + [
                Finding(code="REDUNDANCY-NOT-BACK", seen=f"its agent {agent or 'is gone'}", where=node.name)
                for node in self.cluster.nodes
                if (agent := node.state()["agent"]) in ("", "frozen")
            ]  # a server streams without one, and nobody would have it take over
        with self._phase("first transaction"):
            since = self.record.clock.now()
            if not self._prober.await_success(since=since, seconds=PATIENCE_SECONDS):
                seen = f"the last seen: {self._prober.last_failed}"
                self._findings.append(Finding(code="RECOVERY-UNSEEN", seen=seen, where="after it was mended"))

    def verify(self) -> None:
        """Account for every write, and hold every copy against the leader's."""
        with self._phase("verify"):
            load = self.site.load
            with contextlib.suppress(HarnessError) if self._findings else contextlib.nullcontext():
                load.await_acknowledgements(since=self._mended_ns)
                load.await_answers(since=self._mended_ns)
            pause(self.profile.load_after_ns / NANOSECONDS, why="writes after recovery are accounted for too")
            self._end_load()
            self.deployment.await_quiet(seconds=30)
            load.observe()
            if gone := self._there - self._documents() - load.deletions():
                seen = f"{len(gone):,} documents that were there before the drill are not listed any more"
                self._findings.append(Finding(code="ROWS-LOST", seen=seen, where="documents", count=len(gone)))
            failed = self._prober.failed if self._prober else 0
            self._verified = verification.verify(self.site, self._findings, probes_failed=failed)

    def prove_controls(self) -> None:
        """Falsify what was seen in every known way, and see each one caught."""
        with self._phase("controls"):
            assert self._verified is not None
            prove_failover(self.site, self._verified)

    def clear(self) -> None:
        """Take away what this drill has written, once it is all accounted for; what one wrote that failed stays."""
        clear(self.site)

    def judge(self) -> None:
        """End the drill and hold its figures against the objectives.

        Raises:
            Failure: an objective missed, a finding, or a control not caught.
            HarnessError: something could not be verified.
        """
        self.outcome, self.problem = "done", ""
        self.end()
        self._require_passed(self.record.assess(self.id))

    def end(self) -> None:
        """End writer, witness and prober, and close the drill in the journal. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as steps:
            steps.callback(self._write_closed)
            steps.callback(self._end_load)

    # What the steps are made of.

    def _end_load(self) -> None:
        with contextlib.ExitStack() as steps:
            steps.callback(self.site.watch.stop)
            steps.callback(self.site.load.stop)
            if self._prober is not None:
                steps.callback(self._prober.stop)

    def _documents(self) -> set[str]:
        try:
            application = self.deployment.application(timeout=10.0)
        except NotGiven:
            return set()
        with contextlib.closing(application):
            return {each.id for each in application.documents("")} if isinstance(application, Lists) else set()

    def _roles(self, members: list[Member]) -> Struck:
        leader = leader_of(members)
        if leader is None or not fully_redundant(members, self._settings):
            raise HarnessError("the cluster before the strike", seen=str(members), remedy="see the agents' logs")
        nodes = {node.name: node for node in self.cluster.nodes}
        waited_for = [each.node for each in members if each.synchronous]
        standbys = [each.node for each in members if each.node != leader.node]
        return Struck(
            deployment=self.deployment,
            variant=self.variant,
            leader=nodes[leader.node],
            synchronous=nodes[waited_for[0]] if waited_for else None,
            others=[nodes[name] for name in standbys if name not in waited_for[:1]],
        )


def _lag(member: Member) -> dict[str, Any]:
    return {
        "node": member.node,
        "state": member.state,
        "sync_state": "sync" if member.synchronous else "async",
        "flush_lag_bytes": member.flush_lag_bytes,
        "replay_lag_bytes": member.replay_lag_bytes,
    }

"""The engine: one drill, told as the chain of its steps, each of them a phase in the journal."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from checks.checked import checked
from checks.output import lies
from checks.quiet import compare_archives, list_archive
from checks.snapshot import HeldSnapshot, hold_snapshot
from drills import conforming, ledger, restoring, verification, watching
from drills.backing_up import hold_instant, make_set, read_instant
from drills.chain import Chain
from drills.contract import Archives, RotatesCredential, SpoilsBackup, Target
from drills.controls.bench import Bench
from drills.controls.prove import prove
from drills.guarding import Guard
from drills.made import Instant, Made
from drills.opening import open_drill
from drills.probe import Prober
from drills.redundancy import check_redundancy
from drills.rehearsing import rehearse
from drills.site import Site
from drills.stores import open_business
from drills.suits import told_by_health
from fixtures.backup_set import check_manifest, count_files
from fixtures.cluster import Replicates
from fixtures.network import answers
from fixtures.objectives import Objective
from fixtures.processes import Finished, Running
from fixtures.rotation import Credential
from reports.records import NANOSECONDS, Failure, Finding, Verdict, pause


class Drill(Chain):
    """One scenario on one deployment. The methods are its steps, to be called in this order.

    Args:
        site: where it takes place.
        objectives: ``rto`` and ``rpo``, as in force.
        scale: how much reference data there is, for the evidence.
        every_control: whether to prove those too that depend on neither method nor disaster: once in a run is enough.
        progress: told what is being done, how much of it is done, and of how much.
        told: given lines for whoever watches, where somebody else's deployment is destroyed.
    """

    def __init__(
        self,
        site: Site,
        *,
        objectives: Mapping[str, Objective],
        scale: Mapping[str, Any],
        every_control: bool = True,
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(site.journal, site.id)
        self.site, self.progress, self.every_control = site, progress, every_control
        self.deployment, self.profile, self.record = site.deployment, site.profile, site.record
        self._load = site.load
        self.record.redactor.learn(site.keys.identity)
        self.record.redactor.learn(site.keys.passphrase)
        self._held = contextlib.ExitStack()
        self._prober: Prober | None = None
        self._made: list[Made] = []
        self._before_strike: Instant | None = None
        self._restored: HeldSnapshot | None = None
        self._spared: Path | None = None
        self._revoked: Sequence[Credential] = ()
        self._trail = conforming.Trail()
        self._outcome: verification.Outcome | None = None
        self._receivers: list[Running] = []
        self._said: list[Finished] = []
        self._struck_ns = 0
        self._key = secrets.token_bytes(32)
        self._guard = Guard(site, told)
        open_drill(site, scale=scale, objectives=objectives)
        self.deployment.processes.record = functools.partial(
            watching.journal_command, self.journal, self.id, self._said
        )

    # The chain.

    def spin_up(self) -> None:
        """From nothing to a running, empty deployment."""
        with self._phase("spin up"):
            site, archives = self.site, self.site.archives
            site.archive.mkdir(mode=0o700)
            self.deployment.own(site.archive)
            job = site.job(self.profile.backup_limit_ns)
            self._load.launch()
            self.deployment.spin_up(archives.settings(job) if archives else {})
            ledger.prepare(self.deployment)

    def seed(self) -> None:
        """Fill the deployment with reference data, and begin the log's archive where the method keeps one."""
        with self._phase("seed") as seen:
            seen["made"] = dict(self.deployment.seed(self.progress))
            if self.site.archives:
                self._start_archiving(self.site.archives)

    def _start_archiving(self, archives: Archives) -> None:
        """Begin the log's archive, on a server that will not be restarted; note what was started for it."""
        before = len(self.deployment.processes.services)
        archives.start_archiving(self.deployment.database, self.site.job(self.profile.backup_limit_ns))
        self._receivers = self.deployment.processes.services[before:]

    def start_load(self) -> None:
        """Start the ledger's writer, and see each channel acknowledge."""
        with self._phase("load"):
            self._load.start(clock=self.record.clock, interval_ns=self.profile.load_interval_ns)
            pause(self.profile.load_before_ns / NANOSECONDS, why="writes of all channels lie before the backup")

    def back_up(self) -> None:
        """Make a backup set, and a second one where the disaster will spoil the newest."""
        with self._step("back up"):
            self._made.append(make_set(self.site, 1, self._key, None))
            if isinstance(self.site.scenario.disaster, SpoilsBackup):
                pause(self.profile.load_diverge_ns / NANOSECONDS, why="writes lie between the two backup sets")
                self._made.append(make_set(self.site, 2, self._key, self._made[-1]))
        with self._step("rehearse"):
            rehearse(self.site, self._made[0])

    def diverge(self) -> None:
        """Let writes go on, so that the disaster costs something; then read what the database holds before it."""
        disaster = self.site.scenario.disaster
        if isinstance(disaster, RotatesCredential):
            with self._phase("rotate"):
                self._revoked = disaster.rotate(self.deployment)
                verification.check_revoked(self.site, self._revoked)
        with self._phase("diverge"):
            pause(self.profile.load_diverge_ns / NANOSECONDS, why="acknowledged writes lie between backup and strike")
        if self._restores_to_backup():
            return
        with self._phase("read before the strike"):
            asserted = self.site.scenario.database.basis == "target"
            with hold_instant(self.site, asserted=asserted) as (held, mark):
                self._before_strike = read_instant(
                    self.site,
                    held,
                    mark,
                    stored=self.site.directory / "fingerprint-before-strike.json",
                    key=self._key,
                    at_ns=self.record.clock.now(),
                )

    def _restores_to_backup(self) -> bool:
        """Whether the backup set's instant is what the database comes back to, exactly."""
        return self.site.plan.database == "backup" and self.site.scenario.database.basis != "some instant"

    def strike(self) -> None:
        """Let the disaster strike, and prove that it did, before anything is restored."""
        disaster = self.site.scenario.disaster
        with checked(self.journal, self.id, "backup complete") as check:
            for made in self._made:
                check.findings += check_manifest(made.backup, contents_of=frozenset())
            check.looked_at = {"files": sum(count_files(made.backup) for made in self._made)}
        with self._step("backup complete"):
            check.require()
        with self._step("read the audit trail"):
            self._trail = conforming.open_trail(self.site, self._held)
        with self._step("read out"):
            self._guard.before_strike(self._made)
        if isinstance(self.deployment, Replicates):
            self.deployment.cluster.mark()
        with self._phase("strike"):
            self._door = self.deployment.client_access().url
            self._struck_ns = self.record.clock.now()
            self.journal.write("strike", drill=self.id, at_ns=self._struck_ns)
            disaster.strike(self.deployment)
            places = disaster.places(self.deployment)
            if isinstance(disaster, SpoilsBackup):
                disaster.spoil(self._made[-1].backup)
            self.journal.write(
                "strike.proven",
                drill=self.id,
                proofs=[{"what": place, "seen": seen or "gone"} for place, seen in places.items()],
            )
            with checked(self.journal, self.id, "strike") as check:
                check.looked_at = {"places": len(places)}
                check.findings = [
                    Finding(code="STRIKE-UNPROVEN", seen=seen, where=place) for place, seen in places.items() if seen
                ]
            check.require()

    def restore(self) -> None:
        """Shut clients out, provision what is gone, and bring back configuration, database and objects."""
        site = self.site
        with self._phase("detect"):
            if told_by_health(self.profile, site.scenario.disaster):
                watching.await_health(site, lambda status: status != 200, of=any)
            else:
                pause(self.profile.load_notice_ns / NANOSECONDS, why="no health endpoint tells: an operator notices")
        with self._phase("shut out"):
            self._shut_out()
        with self._phase("provision"):
            self.deployment.provision(
                database=bool(site.plan.database) and site.scenario.database.into == "server",
                objects=site.plan.objects == "rebuild",
            )
            self._chosen = restoring.choose_set(site, self._made)
        self._archived = list_archive(site.archive)
        target = self._target()
        with self._step("restore"):
            if site.plan.configuration:
                restoring.restore_configuration(site, self._chosen)
            if site.plan.database:
                restoring.restore_database(site, self._chosen, target)
            if site.plan.objects != "keep":
                self._spared = restoring.list_spared(site)
                restoring.restore_objects(site, self._chosen, target)
        self._guard.restored()

    def _shut_out(self) -> None:
        """From here on no client writes, and nothing of what is to be rebuilt is left."""
        site = self.site
        self._guard.hold_writer()
        self.deployment.shut_out_clients()
        if site.plan.database:
            if site.archives and site.scenario.disaster.database == "wrong":
                # The server lives: what it has not archived yet is fetched before it is taken away.
                site.archives.flush(self.deployment.database, site.job(self.profile.backup_limit_ns))
            self._end_receivers()
            self.deployment.discard_database()
        if site.plan.objects == "rebuild":
            self.deployment.discard_objects()
        self.journal.write("shut", drill=self.id, at_ns=self.record.clock.now())
        self._prober = Prober(
            open_business(self.deployment, site.tag, timeout=self.profile.transaction_limit_ns / NANOSECONDS),
            journal=self.journal,
            drill=self.id,
            prefix=f"probe/{site.tag}/",
            interval_ns=self.profile.probe_interval_ns,
            limit_ns=self.profile.transaction_limit_ns,
            door=functools.partial(answers, self._door),
        )
        self._prober.start()

    def _target(self) -> Target | None:
        """Where the restore stops; none: as far as it can."""
        if self.site.plan.database == "backup":
            return self._chosen.instant.target
        before = self._before_strike
        return before.target if before and self.site.plan.database != "latest" else None

    def start(self) -> None:
        """Hold the restored state for comparison, let clients in, and wait for the first business transaction."""
        assert self._prober is not None
        with self._phase("start"):
            # No client has been let in yet: what is compared later is what was restored, whatever they write then.
            self._restored = self._held.enter_context(hold_snapshot(self.deployment.database.connect))
            self.deployment.admit_clients()
            self.deployment.start_services()
            self._guard.let_writer_go()
        with self._phase("ready"):
            watching.await_health(self.site, lambda status: status == 200)
        with self._phase("first transaction"):
            seconds = self.profile.start_limit_ns / NANOSECONDS
            if not self._prober.await_success(seconds=seconds):
                last = self._prober.last_failed
                raise Failure(f"no business transaction succeeded within {seconds:g} s of the start; last seen: {last}")
        if isinstance(self.deployment, Replicates):
            with self._phase("redundant"):
                check_redundancy(self.deployment.cluster, journal=self.journal, drill=self.id)

    def verify(self) -> None:
        """Account for every write and compare everything restored with what the backup held."""
        assert self._prober is not None and self._prober.success is not None and self._restored is not None
        with self._phase("verify"):
            self._load.await_acknowledgements(since=self._prober.success.ended_ns)
            pause(self.profile.load_after_ns / NANOSECONDS, why="writes after recovery are accounted for too")
            self._load.stop()
            self.deployment.await_quiet(seconds=30)
            self._load.observe()
            self._outcome = self._outcome_of(self._restored)
            self._bucket = verification.verify(self.site, self._outcome)
            with checked(self.journal, self.id, "what the tools said") as check:
                for finished in self._said:
                    check.findings += lies(finished.errors, Path(finished.argv[0]).name)
                check.looked_at = {"commands": len(self._said)}
            if self.site.plan.database:
                with checked(self.journal, self.id, "archive untouched") as check:
                    after = list_archive(self.site.archive)
                    check.findings = compare_archives(self._archived, after)
                    check.looked_at = {"places": 1, "files": len(after)}

    def _outcome_of(self, restored: HeldSnapshot) -> verification.Outcome:
        """What was restored and what it must equal: the backup set's instant, or the last one read before the strike.

        Where the database survived, or came back as far as its log goes, or as some method left it, no instant that
        was read is exactly it.
        """
        before, database = self._before_strike, self.site.plan.database
        # Without streaming the archive may end before what was read last; the backup's instant it holds.
        lags = database == "latest" and not self.site.streams
        return verification.Outcome(
            made=self._chosen,
            instant=self._chosen.instant if before is None or database == "backup" or lags else before,
            last_read=None if database == "strike" else before,
            spared=self._spared,
            restored=restored,
            own=self._load.own_writes(since=self._struck_ns),
            revoked=self._revoked,
            trail=self._trail,
            key=self._key,
        )

    def prove_controls(self) -> None:
        """Break throw-away copies of what was restored in every known way, and see each one caught."""
        assert self._outcome is not None
        self._held.close()
        with self._phase("controls"):
            self.deployment.stop_services()
            prove(
                Bench(
                    site=self.site,
                    outcome=self._outcome,
                    bucket=self._bucket,
                    struck_ns=self._struck_ns,
                    observed=self._load.observed,
                    account=functools.partial(self.record.findings_if_observed, self.id),
                ),
                every=self.every_control,
            )

    def judge(self) -> None:
        """End the drill and hold its figures against the objectives.

        Raises:
            Failure: an objective missed, a finding, or a control not caught.
            HarnessError: something could not be verified.
        """
        with self._step("leave"):
            self._guard.leave()
        self.outcome, self.problem = "done", ""
        self.end()
        assessment = self.record.assess(self.id)
        self._guard.close(well=assessment["verdict"] == Verdict.PASSED)
        self._require_passed(assessment)

    def end(self) -> None:
        """End writer, prober and snapshot, and close the drill in the journal. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as steps:
            if self.outcome != "done":
                steps.callback(self._guard.close, well=False)
            steps.callback(self._write_closed)
            steps.callback(self._guard.leave)
            steps.callback(self._guard.bring_back)
            steps.callback(self._end_receivers)
            steps.callback(self._held.close)
            steps.callback(self._load.stop)
            if self._prober is not None:
                steps.callback(self._prober.stop)
            steps.callback(self._guard.let_writer_go)

    # What the steps are made of.

    def _end_receivers(self) -> None:
        """End what receives the write-ahead log: it stands beside the deployment, which no longer writes any."""
        while self._receivers:
            self._receivers.pop().kill()

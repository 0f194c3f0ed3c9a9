"""The engine: one drill, told as the chain of its steps, each of them a phase in the journal."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checks.configuration import digest_configuration
from checks.database import fingerprint
from checks.snapshot import HeldSnapshot, hold_snapshot, read_sequences
from drills import ledger, verification
from drills.contract import Job
from drills.controls.bench import Bench
from drills.controls.prove import prove
from drills.keys import KeyPair
from drills.load import Load
from drills.probe import Prober
from drills.record import Record
from drills.scenario import Scenario
from fixtures.backup_set import BackupSet, check_manifest, count_files, sha256_of, write_manifest
from fixtures.deployment import Deployment, Service
from fixtures.health import await_health
from fixtures.network import answers
from fixtures.objectives import Objective
from fixtures.processes import CommandFailed, Finished
from fixtures.profile import Profile
from reports.records import (
    NANOSECONDS,
    Failure,
    Finding,
    HarnessError,
    Verdict,
    pause,
)


class Drill:
    """One scenario on one deployment. The methods are its steps, to be called in this order.

    Args:
        directory: for backups and scratch files; inside the run's work directory.
        keys: what the backup is encrypted to, and what opens it.
        objectives: ``rto`` and ``rpo``, as in force.
        progress: told what is being done, how much of it is done, and of how much.
    """

    def __init__(
        self,
        *,
        scenario: Scenario,
        deployment: Deployment,
        profile: Profile,
        record: Record,
        directory: Path,
        keys: KeyPair,
        objectives: Mapping[str, Objective],
        scale: Mapping[str, Any],
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    ) -> None:
        self.scenario, self.deployment, self.profile, self.record = scenario, deployment, profile, record
        self.directory, self.progress, self.objectives = directory, progress, objectives
        self.id, self.journal = scenario.id, record.journal
        self.backup = BackupSet(directory=directory / "backups" / "1", apart=directory / "backups-apart" / "1")
        self.outcome, self.problem = "error", "the drill did not come to its end"
        self._keys = keys
        record.redactor.learn(keys.identity)
        self._held = contextlib.ExitStack()
        self._prober: Prober | None = None
        self._expected: verification.Expected | None = None
        self._restored: HeldSnapshot | None = None
        self._struck_ns = 0
        self.passed = False
        path = record.drill_directory(self.id) / "ledger.jsonl"
        self._load = Load(
            deployment=deployment,
            journal=record.journal,
            drill=self.id,
            path=path,
            relative=Path(record.relative(path)),
            tag=record.run_id,
        )
        self._open(scale)

    def _open(self, scale: Mapping[str, Any]) -> None:
        self.journal.write(
            "drill.opened",
            drill=self.id,
            architecture=self.scenario.architecture,
            provider=self.deployment.provider,
            stand_in=self.deployment.stand_in,
            disaster=self.scenario.disaster.name,
            methods={
                "database": self.scenario.database.name,
                "objects": self.scenario.objects.name,
                "configuration": self.scenario.configuration.name,
            },
            tools=self.deployment.versions(),
            scale=dict(scale),
            objectives={name: dataclasses.asdict(objective) for name, objective in self.objectives.items()},
            ledger={"channels": list(ledger.CHANNELS), "interval_ns": self.profile.load_interval_ns},
            probe={"interval_ns": self.profile.probe_interval_ns},
        )
        self.deployment.processes.record = self._journal_command

    # The chain.

    def spin_up(self) -> None:
        """From nothing to a running, empty deployment."""
        with self._phase("spin up"):
            self.deployment.spin_up()
            ledger.prepare(self.deployment)

    def seed(self) -> None:
        """Fill the deployment with reference data."""
        with self._phase("seed") as seen:
            seen["made"] = dict(self.deployment.seed(self.progress))

    def start_load(self) -> None:
        """Start the ledger's writer, and see each channel acknowledge."""
        with self._phase("load"):
            self._load.start(clock=self.record.clock, interval_ns=self.profile.load_interval_ns)
            pause(self.profile.load_before_ns / NANOSECONDS, why="writes of all channels lie before the backup")

    def back_up(self) -> None:
        """Back up database, objects and configuration; fingerprint the database in the very snapshot of its dump."""
        for component in ("database", "objects", "configuration"):
            self.backup.place(component).mkdir(parents=True, mode=0o700)
        with hold_snapshot(self.deployment.database.connect) as held:
            snapshot_ns = self.record.clock.now()
            with self._phase("back up") as seen:
                job = self._job(self.profile.backup_limit_ns, snapshot=held.name)
                # The database first: what its rows refer to is in the bucket by then, and is copied after it.
                self.scenario.database.back_up(self.deployment.database, self.backup.place("database"), job)
                with self.deployment.database.connect() as connection:
                    sequences_until = read_sequences(connection)
                self.scenario.objects.back_up(self.deployment.objects, self.backup.place("objects"), job)
                skew_ns = self.record.clock.now() - snapshot_ns
                values = self.deployment.configuration()
                self.scenario.configuration.back_up(values, self.backup.place("configuration"), job)
                seen["skew_ns"] = skew_ns
            with self._phase("fingerprint"):
                key = secrets.token_bytes(32)
                stored = self.backup.directory / verification.STORED
                stored.write_text(
                    fingerprint(self.deployment.database.connect, held=held, jobs=self.profile.jobs, key=key).to_json(),
                    "utf-8",
                )
                expected = functools.partial(
                    verification.Expected,
                    stored=stored,
                    sequences_until=sequences_until,
                    configuration=digest_configuration(values, key),
                    key=key,
                )
                manifest = write_manifest(
                    self.backup,
                    {
                        "deployment": self.deployment.name,
                        "run": self.record.run_id,
                        "tools": self.deployment.versions(),
                        "snapshot": {"name": held.name, "wal_lsn": held.wal_lsn, "database_time": held.database_time},
                        "recipient": self._keys.recipient,
                    },
                )
                with verification.checked(self.journal, self.id, "backup's references") as check:
                    own = verification.OwnWrites(prefix=self._load.prefix)
                    orphans = verification.check_backup(check, self.deployment, held, self.backup, self.directory, own)
                    self._expected = expected(orphans=orphans)
                check.require()
        self.journal.write(
            "backup.made",
            drill=self.id,
            manifest_sha256=sha256_of(self.backup.directory / "manifest.json"),
            bytes=sum(component["bytes"] for component in manifest["components"].values()),
            snapshot_ns=snapshot_ns,
            skew_ns=skew_ns,
            components=manifest["components"],
        )

    def diverge(self) -> None:
        """Let writes go on, so that the disaster costs something."""
        with self._phase("diverge"):
            pause(self.profile.load_diverge_ns / NANOSECONDS, why="acknowledged writes lie between backup and strike")

    def strike(self) -> None:
        """Let the disaster strike, and prove that it did, before anything is restored."""
        with verification.checked(self.journal, self.id, "backup complete") as check:
            check.findings = check_manifest(self.backup, contents_of=frozenset())
            check.looked_at = {"files": count_files(self.backup)}
        check.require()
        with self._phase("strike"):
            self._prober = Prober(
                self.deployment.application(timeout=self.profile.transaction_limit_ns / NANOSECONDS),
                journal=self.journal,
                drill=self.id,
                prefix=f"probe/{self.record.run_id}/",
                interval_ns=self.profile.probe_interval_ns,
                limit_ns=self.profile.transaction_limit_ns,
                door=functools.partial(answers, self.deployment.client_access().url),
            )
            self._struck_ns = self.record.clock.now()
            self.journal.write("strike", drill=self.id, at_ns=self._struck_ns)
            self.scenario.disaster.strike(self.deployment)
            self._prober.start()
            places = self.scenario.disaster.places(self.deployment)
            self.journal.write(
                "strike.proven",
                drill=self.id,
                proofs=[{"what": place, "seen": seen or "gone"} for place, seen in places.items()],
            )
            with verification.checked(self.journal, self.id, "strike") as check:
                check.looked_at = {"places": len(places)}
                check.findings = [
                    Finding(code="STRIKE-UNPROVEN", seen=seen, where=place) for place, seen in places.items() if seen
                ]
            check.require()

    def restore(self) -> None:
        """Provision empty servers and bring configuration, database and objects back, closed to clients."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            # Beside the provisioning; what it takes longer than that is recovery time.
            artefacts = pool.submit(check_manifest, self.backup, contents_of=frozenset({"database", "configuration"}))
            with self._phase("detect"):
                self._await_health(lambda status: status != 200)
            with self._phase("provision"):
                self.deployment.provision()
                with verification.checked(self.journal, self.id, "backup artefacts") as check:
                    check.findings = artefacts.result()
                    check.looked_at = {"files": count_files(self.backup)}
                check.require()
        job = self._job(self.profile.restore_limit_ns, identity=self._keys.identity)
        with self._restoring("configuration"):
            values = self.scenario.configuration.restore(self.backup.place("configuration"), job)
            self.deployment.write_configuration(values)
        with self._restoring("database"):
            self.scenario.database.restore(self.backup.place("database"), self.deployment.database, job)
        with self._restoring("objects"):
            self.scenario.objects.restore(self.backup.place("objects"), self.deployment.objects, job)

    def start(self) -> None:
        """Hold the restored state for comparison, let clients in, and wait for the first business transaction."""
        assert self._prober is not None
        with self._phase("start"):
            # No client has been let in yet: what is compared later is what was restored, whatever they write then.
            self._restored = self._held.enter_context(hold_snapshot(self.deployment.database.connect))
            self.deployment.admit_clients()
            self.deployment.start_services()
        with self._phase("ready"):
            self._await_health(lambda status: status == 200)
        with self._phase("first transaction"):
            seconds = self.profile.start_limit_ns / NANOSECONDS
            if not self._prober.await_success(seconds=seconds):
                last = self._prober.last_failed
                raise Failure(f"no business transaction succeeded within {seconds:g} s of the start; last seen: {last}")

    def verify(self) -> None:
        """Account for every write and compare everything restored with what the backup held."""
        assert self._prober is not None and self._prober.success is not None
        assert self._expected is not None and self._restored is not None
        with self._phase("verify"):
            self._load.await_acknowledgements(since=self._prober.success.ended_ns)
            pause(self.profile.load_after_ns / NANOSECONDS, why="writes after recovery are accounted for too")
            self._load.stop()
            self.deployment.await_quiet(seconds=30)
            self._load.observe()
            self._own = self._load.own_writes(since=self._struck_ns)
            self._compared = verification.verify_deployment(
                deployment=self.deployment,
                journal=self.journal,
                drill=self.id,
                backup=self.backup,
                expected=self._expected,
                restored=self._restored,
                own=self._own,
                directory=self.directory,
                jobs=self.profile.jobs,
            )

    def prove_controls(self) -> None:
        """Break throw-away copies of what was restored in every known way, and see each one caught."""
        assert self._expected is not None
        self._held.close()
        with self._phase("controls"):
            self.deployment.stop_services()
            prove(
                Bench(
                    deployment=self.deployment,
                    journal=self.journal,
                    drill=self.id,
                    backup=self.backup,
                    expected=self._expected,
                    compared=self._compared,
                    own=self._own,
                    method=self.scenario.database,
                    struck_ns=self._struck_ns,
                    observed=self._load.observed,
                    account=functools.partial(self.record.findings_if_observed, self.id),
                    directory=self.directory,
                    job=self._job(self.profile.restore_limit_ns, identity=self._keys.identity),
                )
            )

    def judge(self) -> None:
        """End the drill and hold its figures against the objectives.

        Raises:
            Failure: an objective missed, a finding, or a control not caught.
            HarnessError: something could not be verified.
        """
        self.outcome, self.problem = "done", ""
        self.end()
        assessment = self.record.assess(self.id)
        findings = [row for row in assessment["findings"] if row["severity"] == "failure"]
        told = "; ".join(f"{row['code']} {row['seen']}" for row in findings) or f"verdict {assessment['verdict']}"
        if assessment["verdict"] == Verdict.FAILED:
            raise Failure(told)
        if assessment["verdict"] != Verdict.PASSED:
            raise HarnessError(f"drill {self.id}", seen=told, remedy="see the checks with the verdict error")
        self.passed = True

    def end(self) -> None:
        """End writer, prober and snapshot, and close the drill in the journal. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as steps:
            steps.callback(
                self.journal.write, "drill.closed", drill=self.id, outcome=self.outcome, error=self.problem[:2000]
            )
            steps.callback(self._held.close)
            steps.callback(self._load.stop)
            if self._prober is not None:
                steps.callback(self._prober.stop)

    _closed = False

    # What the steps are made of.

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with self.journal.phase(name, drill=self.id) as seen:
                yield seen
        except BaseException as problem:
            self.outcome = "failed" if isinstance(problem, Failure) else "error"
            self.problem = f"{name}: {str(problem) or 'interrupted'}"
            raise

    @contextlib.contextmanager
    def _restoring(self, component: str) -> Iterator[None]:
        """A restore that its tool gives up is a finding about the backup, not a fault of the suite."""
        with self._phase(f"restore {component}"):
            try:
                yield
            except CommandFailed as problem:
                with verification.checked(self.journal, self.id, f"restore {component}") as check:
                    check.looked_at = {"commands": 1}
                    check.findings = [Finding(code="RESTORE-FAILED", seen=str(problem), where=component)]
                raise Failure(f"RESTORE-FAILED {component}: {problem}") from problem

    def _job(self, limit_ns: int, *, snapshot: str = "", identity: str = "") -> Job:
        return Job(
            processes=self.deployment.processes,
            jobs=self.profile.jobs,
            seconds=limit_ns / NANOSECONDS,
            recipient=self._keys.recipient,
            snapshot=snapshot,
            identity=identity,
        )

    def _await_health(self, wanted: Callable[[int], bool]) -> None:
        def changed(service: Service, endpoint: str, status: int) -> None:
            self.journal.write(
                "health",
                drill=self.id,
                service=service.name,
                endpoint=endpoint,
                status=status,
                at_ns=self.record.clock.now(),
            )

        await_health(
            self.deployment.services, wanted, seconds=self.profile.start_limit_ns / NANOSECONDS, changed=changed
        )

    def _journal_command(self, finished: Finished) -> None:
        self.journal.write(
            "command",
            drill=self.id,
            argv=list(finished.argv),
            exit=finished.exit,
            started_ns=finished.started_ns,
            ended_ns=finished.ended_ns,
        )

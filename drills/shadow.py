"""The shadow drill: a backup restored into a sandbox, booted and verified, while the deployment is only read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg

from checks.checked import checked
from checks.heartbeat import read_beats
from checks.output import lies
from checks.snapshot import HeldSnapshot, hold_snapshot
from drills import shadow_verification, watching
from drills.chain import Chain
from drills.identity import identity_of
from drills.load import TRANSACTION
from drills.probe import CONTENT, Prober
from drills.progress import watched
from drills.registry import database_sources, object_sources
from drills.shadow_controls import prove_in_sandbox
from drills.shadow_point import recovery_point
from drills.shadow_probe import client_of
from drills.shadow_site import Looked, ShadowSite
from drills.shadow_traces import traces_of
from drills.sources.contract import Fetched
from drills.sources.putting_back import put_back_database, put_back_objects, require_room
from drills.taking import Backups, fetching, look, take
from fixtures.isolation import unavailable
from fixtures.network import answers
from fixtures.objectives import Objective
from fixtures.processes import Finished
from fixtures.shadow_settings import TAKE
from reports.records import NANOSECONDS, Failure, Finding, HarnessError, monotonic_ns, utc_now

DRILL: Final = "shadow-restore"
# The data, restored, with its log and a copy of the database for the controls.
COPIES: Final = 4
# An empty cluster, its log, and the copy for the controls.
EMPTY_BYTES: Final = 300 * 2**20


class Shadow(Chain):
    """One shadow restore. The methods are its steps, to be called in this order.

    Args:
        site: where it takes place.
        objectives: ``rto`` and ``rpo``, as in force.
        goes_on: something else is done with the sandbox afterwards, and with what was fetched: both stay.
    """

    def __init__(self, site: ShadowSite, *, objectives: Mapping[str, Objective], goes_on: bool = False) -> None:
        super().__init__(site.journal, site.id)
        self.site, self.clock, self._goes_on = site, site.record.clock, goes_on
        self._held = contextlib.ExitStack()
        self._prober: Prober | None = None
        self.looked: Looked | None = None
        self.backups = Backups()
        self._restored: HeldSnapshot | None = None
        self._put_back: list[Finding] = []
        self._said: list[Finished] = []
        self._client = client_of(site)
        self._began_ns = 0
        self._open(objectives)

    def _open(self, objectives: Mapping[str, Objective]) -> None:
        site, settings = self.site, self.site.settings
        self.journal.write(
            "drill.opened",
            drill=site.id,
            level="shadow",
            deployment=identity_of(site.deployment, site.profile),
            architecture=site.deployment.architecture,
            provider=site.deployment.provider,
            stand_in=site.deployment.stand_in,
            disaster="none: the deployment was only read",
            methods={"database": settings.database.source, "objects": settings.objects.source},
            tools=site.deployment.versions(),
            scale={},
            objectives={name: dataclasses.asdict(objective) for name, objective in objectives.items()},
            recovery_basis=self._client.basis,
            probe={"interval_ns": site.profile.probe_interval_ns},
        )
        site.processes.record = functools.partial(watching.journal_command, self.journal, self.id, self._said)

    # The chain.

    def look(self) -> None:
        """See what the deployment holds, and whether there is room for it here."""
        with self._phase("look") as seen:
            if self.site.settings.egress_closed and self.site.sandbox.services:
                self._require_closable()
            looked = self.looked = look(self.site)
            needed = EMPTY_BYTES + COPIES * looked.database_bytes + 3 * looked.object_bytes
            require_room(self.site.directory, needed)
            seen.update(database_bytes=looked.database_bytes, objects=looked.objects, object_bytes=looked.object_bytes)

    def _require_closable(self) -> None:
        """See that what is booted can be kept from the network, before anything is fetched."""
        if reason := unavailable(self.site.processes):
            raise HarnessError(
                "booting a copy of the application",
                seen=reason,
                remedy='allow for it, or accept that the copy reaches what this machine does: shadow.egress = "open"',
            )

    def take(self) -> None:
        """Make those backups now that the profile does not say where to fetch."""
        assert self.looked is not None
        with self._step("take"):
            self.backups = take(self.site, self.looked)

    def fetch(self) -> None:
        """Begin to recover: fetch the newest of those backups that the operator keeps."""
        settings, fetched = self.site.settings, self.site.directory / "fetched"
        self._began_ns = self.clock.now()
        self.journal.write("shadow.began", drill=self.site.id, at_ns=self._began_ns)
        if self._client.from_the_start:
            self._start_prober()
        if settings.database.source != TAKE:
            with self._phase("fetch database"):
                at = fetching(self.site, fetched / "database")
                self.backups.database = database_sources()[settings.database.source].fetch(settings.database, at)
        if settings.objects.source != TAKE:
            with self._phase("fetch objects"):
                at = fetching(self.site, fetched / "objects")
                self.backups.objects = object_sources()[settings.objects.source].fetch(settings.objects, at)
        if self._goes_on:
            self.backups = self.backups.kept()
        self._tell_backups()

    def _tell_backups(self) -> None:
        for store, each in self._both():
            self.journal.write(
                "shadow.fetched",
                drill=self.site.id,
                store=store,
                label=each.label,
                form=each.form,
                instant=each.instant,
                known_by=each.known_by,
                taken=each.taken,
                bytes=each.bytes,
            )
            for what, reason in each.not_tested:
                self.journal.write("not_tested", drill=self.site.id, what=what, reason=reason)
            if each.taken:
                reason = f"it was {each.label}: [shadow.{store}] names no place where the operator keeps backups"
                self.journal.write(
                    "not_tested", drill=self.site.id, what=f"the operator's own backup of the {store}", reason=reason
                )

    def _both(self) -> list[tuple[str, Fetched]]:
        assert self.backups.database is not None and self.backups.objects is not None
        return [("database", self.backups.database), ("objects", self.backups.objects)]

    def restore(self) -> None:
        """Provision the sandbox, and restore both stores into it."""
        site, looked, seconds = self.site, self.looked, self.site.profile.restore_limit_ns / NANOSECONDS
        assert looked is not None
        (_, database), (_, objects) = self._both()
        with self._phase("provision"):
            site.sandbox.provision(database=database.form != "files")
        with (
            self._phase("restore database"),
            self._restoring("database"),
            watched(site.progress, "restoring the database, bytes", self._database_bytes, looked.database_bytes),
        ):
            self._put_back = put_back_database(database, site.sandbox, jobs=site.profile.jobs, seconds=seconds)
        with (
            self._phase("restore objects"),
            self._restoring("objects"),
            watched(site.progress, "restoring objects", site.sandbox.count_objects, looked.objects),
        ):
            put_back_objects(objects, site.sandbox, jobs=site.profile.jobs, seconds=seconds)

    @contextlib.contextmanager
    def _restoring(self, component: str) -> Iterator[None]:
        """A restore that its tool gives up is a finding about the backup, not a fault of the suite."""
        try:
            yield
        except (HarnessError, psycopg.Error) as problem:
            with checked(self.journal, self.site.id, f"restore {component}") as check:
                check.looked_at = {"commands": 1}
                check.findings = [Finding(code="RESTORE-FAILED", seen=str(problem), where=component)]
            raise Failure(f"RESTORE-FAILED {component}: {problem}") from problem

    def _database_bytes(self) -> int:
        with self.site.sandbox.database.connect() as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0

    def boot(self) -> None:
        """Hold the restored state for comparison, boot the application, wait for the first business transaction."""
        site = self.site
        with self._phase("start"):
            # Nobody was let in yet: what is compared later is what was restored, whatever the application writes then.
            self._restored = self._held.enter_context(hold_snapshot(site.sandbox.database.connect))
            self._booted = utc_now()
            role = site.sandbox.let_in(site.role)
            if role != site.role and site.sandbox.services:
                reason = f"it is booted as {role}: configuration.file does not tell the application's own role"
                self.journal.write("not_tested", drill=site.id, what="the application's rights", reason=reason)
            if site.settings.egress_closed:
                site.sandbox.close_egress()
            site.sandbox.boot(shadow_verification.configuration(site))
            if not self._client.from_the_start:
                self._start_prober()
        with self._phase("ready"):
            site.sandbox.await_ready(seconds=site.profile.start_limit_ns / NANOSECONDS)
        with self._phase("first transaction"):
            assert self._prober is not None
            seconds = site.profile.start_limit_ns / NANOSECONDS
            if not self._prober.await_success(seconds=seconds):
                last = self._prober.last_failed
                raise Failure(f"{self._client.basis}: none succeeded within {seconds:g} s; last seen: {last}")

    def _start_prober(self) -> None:
        self._prober = Prober(
            self._client.open(),
            journal=self.journal,
            drill=self.site.id,
            prefix=f"probe/{self.site.record.run_id}/",
            interval_ns=self.site.profile.probe_interval_ns,
            limit_ns=self.site.profile.transaction_limit_ns,
            door=functools.partial(answers, self._client.door) if self._client.door else lambda: True,
        )
        self._prober.start()

    def verify(self) -> None:
        """Compare what was restored with what it must be, and say how far back it goes."""
        assert self._restored is not None and self.looked is not None
        with self._phase("verify"):
            self._bucket = shadow_verification.verify(
                self.site, self.backups, self.looked, self._restored, self._put_back, booted=self._booted
            )
            if self._client.basis == TRANSACTION:
                self._see_traces()
            recovery_point(self.site, self.backups, self.looked, self._restored, began_ns=self._began_ns)
            with checked(self.journal, self.site.id, "what the tools said") as check:
                for finished in self._said:
                    check.findings += lies(finished.errors, Path(finished.argv[0]).name)
                check.looked_at = {"commands": len(self._said)}

    def _see_traces(self) -> None:
        """Make one transaction more, which must leave something in the restored stores."""
        with checked(self.journal, self.site.id, "the transaction reached the copy") as check:
            client = self._client.open()
            try:
                name, until_ns = f"probe/{self.site.record.run_id}/traced", monotonic_ns()
                until_ns += self.site.profile.start_limit_ns
                check.findings = traces_of(
                    self.site, lambda: client.transact(name, CONTENT.format(n=0).encode(), deadline_ns=until_ns)
                )
            finally:
                client.close()
            check.looked_at = {"transactions": 1}

    def prove_controls(self) -> None:
        """Break throw-away copies of what was restored, and see each one caught."""
        assert self._restored is not None
        with self._phase("controls"):
            self.site.sandbox.stop_services()
            beats = read_beats(self._restored.connection)
            self._held.close()
            expected = shadow_verification.structure_of(self.site)
            prove_in_sandbox(self.site, expected, self._restored, self._bucket, beats)

    def judge(self) -> None:
        """End the drill and hold its figures against the objectives.

        Raises:
            Failure: an objective missed, a finding, or a control not caught.
            HarnessError: something could not be verified.
        """
        self.outcome, self.problem = "done", ""
        self.end()
        assessment = self.site.record.assess(self.site.id)
        self._require_passed(assessment)

    def end(self) -> None:
        """End prober, snapshot and sandbox, and close the drill in the journal. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as steps:
            steps.callback(self._write_closed)
            if not self._goes_on:
                steps.callback(self.site.sandbox.remove)
            steps.callback(self._held.close)
            if self._prober is not None:
                steps.callback(self._prober.stop)

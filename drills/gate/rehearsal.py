"""The rehearsal: the upgrade on a restored copy, what it changed, whether the new version works, and the way back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import httpx
import psycopg

from checks.checked import Check, checked
from checks.conformance.registry import every_check
from checks.references import check_references
from checks.snapshot import HeldSnapshot, hold_snapshot, reading
from checks.upgraded import Allowed
from drills import shadow_verification, watching
from drills.chain import Chain
from drills.controls.prove import database_copy, prove_each
from drills.gate.before import (
    Before,
    Compared,
    compare_objects,
    compare_rows,
    compare_structure,
    see_before,
    see_restructured,
)
from drills.gate.controls import Proof, controls
from drills.gate.copy import copy_of, subject_of
from drills.gate.trying import Tried, asking, boot_and_await, first_line, try_services
from drills.gate.versions import judge_versions, versions_of
from drills.gate.ways_out import close_ways_out
from drills.probe import Prober
from drills.shadow import EMPTY_BYTES, Shadow
from drills.shadow_probe import client_of
from drills.sources.putting_back import put_back_database, put_back_objects, require_room
from fixtures.application import ApplicationError
from fixtures.deployment import NotGiven
from fixtures.objectives import Objective
from fixtures.processes import CommandFailed, Finished
from fixtures.providers.sandbox import Sandbox
from fixtures.upgrade_settings import UpgradeSettings
from reports.records import NANOSECONDS, Failure, Finding, HarnessError, utc_now

REHEARSAL: Final = "upgrade-rehearsal"
# Set aside, upgraded, for a control, restored once more.
COPIES: Final = 4


class Rehearsal(Chain):
    """The rehearsal of one upgrade. The methods are its steps, to be called in this order.

    Args:
        shadow: a shadow restore that passed, and left its sandbox.
        upgrade: how it is done.
        another: makes the sandbox that is rolled back into.
        rto: the objective that the way back is held to.
    """

    def __init__(
        self, shadow: Shadow, upgrade: UpgradeSettings, *, another: Callable[[], Sandbox], rto: Objective
    ) -> None:
        super().__init__(shadow.journal, REHEARSAL)
        self._shadow, self._another, self.upgrade_settings = shadow, another, upgrade
        self.site = dataclasses.replace(shadow.site, id=REHEARSAL, directory=shadow.site.directory / "rehearsal")
        self.site.directory.mkdir()
        self._held = contextlib.ExitStack()
        self._allowed = Allowed(
            renamed=upgrade.renamed, may_change=upgrade.may_change, may_grow=upgrade.may_grow
        )  # fmt: skip
        self._said: list[Finished] = []
        self._before: Before | None = None
        self._compared: Compared | None = None
        self._upgraded: HeldSnapshot | None = None
        self._works = False
        self._data = f"{upgrade.old} upgraded to {upgrade.new}"
        self.journal.write(
            "rehearsal.opened",
            drill=self.id,
            deployment=self.site.deployment.name,
            stand_in=self.site.deployment.stand_in,
            old=upgrade.old,
            new=upgrade.new,
            commands=[list(words) for words in upgrade.commands],
            objective=dataclasses.asdict(rto),
            basis=client_of(self.site).basis,
        )
        self.site.processes.record = functools.partial(watching.journal_command, self.journal, self.id, self._said)

    def prepare(self) -> None:
        """Set a copy of the restored data aside, untouched, to hold the upgraded data against.

        Raises:
            HarnessError: there is no room for it, or the copy could reach the deployment by itself.
        """
        site, name = self.site, f"enprivacy_drill_before_{self.site.record.run_id.lower()}"
        looked = self._shadow.looked
        assert looked is not None
        with self._phase("set aside"):
            require_room(site.directory, EMPTY_BYTES + COPIES * looked.database_bytes + 2 * looked.object_bytes)
            site.sandbox.stop_services()
            reason = "dropped in the copy, so that its server logs in to no other: what needs it does not work there"
            for mapping in self._close_ways_out():
                self.journal.write("not_tested", drill=self.id, what=f"the user mapping of {mapping}", reason=reason)
            self._tell(self._backup, self.upgrade_settings.old, Tried(works=True, seen="the shadow restore"))
            self._held.enter_context(database_copy(site.sandbox.database, name))
            self._before = see_before(site, name)

    def _close_ways_out(self) -> list[str]:
        """Before the new version comes to a copy; the user mappings that were dropped in it."""
        return close_ways_out(self.site.sandbox.database) if self.site.settings.egress_closed else []

    @property
    def _backup(self) -> str:
        return f"backup of {self.upgrade_settings.old}"

    def upgrade(self) -> None:
        """Run the upgrade on the restored copy, as the profile says, and hold what came of it."""
        settings, sandbox = self.upgrade_settings, self.site.sandbox
        self.journal.write("upgrade.began", drill=self.id, at_ns=self.site.record.clock.now())
        with self._phase("upgrade"), self._check("the upgrade comes to its end") as check:
            check.looked_at = {"commands": 0}
            for words in settings.commands:
                try:
                    sandbox.run(
                        words, settings.environment, passed_on=settings.variables,
                        seconds=settings.limit_ns / NANOSECONDS, where="upgrade",
                    )  # fmt: skip
                except CommandFailed as problem:
                    check.findings = [Finding(code="UPGRADE-FAILED", seen=problem.seen, where=" ".join(words)[-200:])]
                    self._data = f"{settings.old}, its upgrade to {settings.new} failed"
                    break
                finally:
                    check.looked_at["commands"] += 1
            else:
                self._works = True
        self._upgraded = self._held.enter_context(hold_snapshot(sandbox.database.connect))

    def run_new(self) -> None:
        """Boot the new version on the upgraded data; where the upgrade failed there is nothing to be booted on."""
        settings, booted = self.upgrade_settings, utc_now()
        if self._works:
            tried, self._works = Tried(works=False, seen="it could not be told"), False
            with self._check("the new version does its business") as check, self._probing("upgraded") as prober:
                check.looked_at = {"transactions": 1}
                try:
                    boot_and_await(self.site, prober, settings.services, phase="upgraded")
                    tried, self._works = Tried(works=True, seen=client_of(self.site).basis), True
                except (Failure, HarnessError, ApplicationError, httpx.HTTPError) as problem:
                    tried = Tried(works=False, seen=first_line(problem))
                    check.findings = [Finding(code="UPGRADE-UNUSABLE", seen=tried.seen, where=settings.new)]
            self._tell(self._data, settings.new, tried, required=True)
        self._verify(booted_at=booted)

    def _verify(self, *, booted_at: datetime) -> None:
        site, before, held = self.site, self._before, self._upgraded
        assert before is not None and held is not None
        with self._phase("verify upgraded"):
            with self._check("rows that the upgrade must not change") as check:
                self._compared = compare_rows(before, site.sandbox.database.name, held, self._allowed, check)
            with self._check("structure and sequences after the upgrade") as check:
                compare_structure(before, held, self._allowed, check)
            with self._check("objects after the upgrade") as check:
                bucket = compare_objects(before, check, booted=booted_at)
            if not self._works:
                return
            with self._check("the services leave the structure as the upgrade left it") as check:
                check.findings, check.looked_at = see_restructured(site, held)
            with self._check("references after the upgrade", optional=True) as check:
                if not site.references_query:
                    raise NotGiven("references to objects", remedy="give queries.references in the profile")
                with reading(site.sandbox.database.connect, snapshot=held.name) as connection:
                    found, check.looked_at = check_references(connection, site.references_query, bucket)
                check.findings = [each for each in found if each.code != shadow_verification.ORPHANED]
            self._see_version(self.upgrade_settings.new, "after the upgrade")
            subject = subject_of(site)
            for conformance in every_check().values():
                if conformance.after_restore:
                    with self._check(conformance.id, optional=True) as check:
                        conformance.look(subject, check)

    def _see_version(self, wanted: str, when: str) -> None:
        with self._check(f"the version that runs {when}", optional=True) as check:
            found = versions_of(self.site.sandbox, self.upgrade_settings) if self.upgrade_settings.version_path else {}
            if not found:
                raise NotGiven(f"the version that runs {when}", remedy="give upgrade.version_path in the profile")
            check.findings, check.looked_at = judge_versions(found, wanted), {"services": len(found)}

    def try_old(self) -> None:
        """Try the old version on what the upgrade has left: whether one could go back without a restore."""
        with self._phase("old version on upgraded data"):
            self.site.sandbox.stop_services()
            tried = try_services(self.site, {}, name=self._name("old-on-new"))
            self._tell(self._data, self.upgrade_settings.old, tried)

    def roll_back(self) -> None:
        """Restore the same backup again, into an empty sandbox, boot the old version, and verify as after a restore."""
        shadow, seconds = self._shadow, self.site.profile.restore_limit_ns / NANOSECONDS
        database, objects = shadow.backups.database, shadow.backups.objects
        assert database is not None and objects is not None and shadow.looked is not None
        directory, sandbox = self.site.directory / "rolled-back", self._another()
        self.site = dataclasses.replace(self.site, sandbox=sandbox, directory=directory)
        directory.mkdir()
        self.journal.write("rollback.began", drill=self.id, at_ns=self.site.record.clock.now())
        tried = Tried(works=False, seen="it could not be told")
        with self._check("the way back") as check, self._probing("rolled-back") as prober:
            check.looked_at = {"restores": 1}
            try:
                with self._phase("roll back"):
                    sandbox.provision(database=database.form != "files")
                    put_back = put_back_database(database, sandbox, jobs=self.site.profile.jobs, seconds=seconds)
                    put_back_objects(objects, sandbox, jobs=self.site.profile.jobs, seconds=seconds)
                restored = self._held.enter_context(hold_snapshot(sandbox.database.connect))
                booted_at = utc_now()
                sandbox.let_in(self.site.role)
                if self.site.settings.egress_closed:
                    sandbox.close_egress()
                boot_and_await(self.site, prober, {}, phase="rolled back")
                tried = Tried(works=True, seen=client_of(self.site).basis)
            except (Failure, HarnessError, psycopg.Error) as problem:
                tried = Tried(works=False, seen=first_line(problem))
                check.findings = [Finding(code="ROLLBACK-FAILED", seen=str(problem)[:1000], where="restore")]
        data = f"{self._backup}, restored after the upgrade"
        self._tell(data, self.upgrade_settings.old, tried, required=True)
        if not tried.works:
            return
        with self._phase("verify rolled back"):
            self._see_version(self.upgrade_settings.old, "after the way back")
            shadow_verification.verify(self.site, shadow.backups, shadow.looked, restored, put_back, booted=booted_at)

    def try_new(self) -> None:
        """Try the new version on data that were not upgraded, as they come out of the backup."""
        if not self.site.sandbox.running:
            return
        with self._phase("new version on old data"):
            self.site.sandbox.stop_services()
            self._close_ways_out()
            tried = try_services(self.site, self.upgrade_settings.services, name=self._name("new-on-old"))
            self._tell(self._backup, self.upgrade_settings.new, tried)

    def prove_controls(self) -> None:
        """Break what the upgrade is held against, and see each one caught."""
        assert self._before is not None and self._compared is not None and self._upgraded is not None
        proof = Proof(before=self._before, compared=self._compared, allowed=self._allowed,
                      upgrade=self.upgrade_settings)  # fmt: skip
        with self._phase("controls"):
            prove_each(self.journal, self.id, copy_of(self.site), controls(proof))  # type: ignore[arg-type]

    def judge(self) -> None:
        """End the rehearsal.

        Raises:
            Failure: it found something.
            HarnessError: something could not be verified.
        """
        self.outcome, self.problem = "done", ""
        self.end()
        self._require_passed(self.site.record.assess_rehearsal())

    def end(self) -> None:
        """End both sandboxes, and close the rehearsal in the journal. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as steps:
            steps.callback(self._write_closed)
            steps.callback(self.site.sandbox.remove)
            steps.callback(self._shadow.site.sandbox.remove)
            steps.callback(self._held.close)

    def _write_closed(self) -> None:
        self.journal.write("rehearsal.closed", drill=self.id, outcome=self.outcome, error=self.problem[:2000])

    @contextlib.contextmanager
    def _check(self, name: str, *, optional: bool = False) -> Iterator[Check]:
        with self._step(name), checked(self.journal, self.id, name, optional=optional) as check:
            yield check

    def _probing(self, what: str) -> contextlib.AbstractContextManager[Prober]:
        return asking(self.site, name=self._name(what))

    def _name(self, what: str) -> str:
        return f"probe/{self.site.record.run_id}/{what}"

    def _tell(self, data: str, services: str, tried: Tried, *, required: bool = False) -> None:
        """One cell of the matrix: what restores, or upgrades, into what."""
        self.journal.write(
            "restored_into", drill=self.id, data=data, services=services, required=required, works=tried.works,
            seen=tried.seen,
        )  # fmt: skip

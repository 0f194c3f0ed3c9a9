"""The gate of one run: what is looked at, on one deployment, and the facts that it is decided from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from checks.checked import checked
from checks.conformance.registry import Conformance, every_check
from checks.conformance.subject import Subject
from drills.gate import backups, prerequisites
from drills.gate.reference import upgrade_of
from drills.gate.rehearsal import Rehearsal
from drills.record import Record
from drills.shadow import Shadow
from drills.shadow_opening import open_sandbox
from fixtures.ground import Ground
from fixtures.objectives import BackupObjectives, Objective
from fixtures.profile import Profile
from reports.records import Failure, HarnessError


class Gate:
    """What a gate looks at. The methods are its steps; each writes facts, and none decides.

    Args:
        subject: the deployment, which is only observed, with its backup sets and what is asked of them.
        shadow: its shadow restore, whose sandbox goes on to the rehearsal.
        objectives: ``rto`` and ``rpo``, as in force.
        needed: bytes that must be free.
    """

    def __init__(
        self, *, subject: Subject, shadow: Shadow, profile: Profile, record: Record, ground: Ground, root: Path,
        objectives: Mapping[str, Objective], asked: BackupObjectives, needed: int,
    ) -> None:  # fmt: skip
        self.subject, self.shadow, self._profile, self._record = subject, shadow, profile, record
        self._ground, self._root, self._objectives, self._asked = ground, root, objectives, asked
        self._needed, self.rehearsal = needed, None
        self._found: list[backups.Aged] = []

    rehearsal: Rehearsal | None

    def see_prerequisites(self) -> None:
        """Look at what a restore needs.

        Raises:
            HarnessError: something is missing.
        """
        rows = prerequisites.prerequisites(
            self._profile, self._ground, self._root, needed=self._needed, redactor=self._record.redactor
        )
        written = [prerequisites.as_record(row) for row in rows]
        for row in written:
            self._record.journal.write("gate.prerequisite", **row)
        if absent := [f"{row['what']}: {row['seen']}" for row in written if row["state"] == "missing"]:
            raise HarnessError("what a restore needs", seen="; ".join(absent), remedy="see each of them")

    def see_backups(self) -> None:
        """Look at the backup sets: how old the newest usable one of each component is."""
        try:
            self._found = backups.ages(self.subject.deployment, self.subject.sets(), self._profile, self._asked)
        except HarnessError as problem:  # says nothing of the restore, which goes on
            self._found = backups.unread(problem, self._profile, self._asked)

    def tell_backups(self) -> None:
        """Write how old they are, once it is known which were fetched.

        Raises:
            Failure: one is too old, or there is none.
        """
        found, self._found = self._found, []
        if self.shadow.backups.database is not None and self.shadow.backups.objects is not None:
            found = backups.ages_with_fetched(found, self.shadow.backups, self._profile, self._asked)
        for each in found:
            self._record.journal.write("gate.backup", **backups.as_record(each))
        if broken := next((each for each in found if each.error), None):
            raise HarnessError("the backup sets", seen=broken.error, remedy=broken.remedy)
        bad = [each for each in found if each.known and (each.age_ns is None or each.age_ns > each.limit_ns)]
        if bad:
            raise Failure("; ".join(f"backup of the {each.component}: {each.seen}" for each in bad))

    def look(self, conformance: Conformance) -> str:
        """One conformance check of the deployment; why it looked at nothing, where it did.

        Raises:
            Failure: it found something.
            HarnessError: it broke.
        """
        with checked(
            self._record.journal, "", conformance.id, title=conformance.title, guide=conformance.guide,
            supports=conformance.supports,
        ) as check:  # fmt: skip
            conformance.look(self.subject, check)
        check.require()
        if any(check.looked_at.values()) or check.findings:
            return ""
        return "; ".join(f"{each['what']}: {each['reason']}" for each in check.not_tested) or "nothing to look at"

    def rehearse(self) -> Rehearsal | None:
        """The rehearsal of the upgrade, ready to begin; none where nobody says how it is done.

        Raises:
            HarnessError: there is no restored copy.
        """
        upgrade = upgrade_of(self._profile)
        if upgrade is None:
            return None
        if not self.shadow.passed:
            remedy = "see what became of the shadow restore"
            raise HarnessError("a restored copy to rehearse on", seen="the shadow restore did not pass", remedy=remedy)
        directory = self.shadow.site.directory / "rolled-back"
        self.rehearsal = Rehearsal(
            self.shadow,
            upgrade,
            another=lambda: open_sandbox(
                self.shadow.site.deployment, directory, profile=self._profile, record=self._record, ground=self._ground
            ),
            rto=self._objectives["rto"],
        )
        return self.rehearsal

    def end(self) -> None:
        """End what still runs of the sandboxes."""
        if self.rehearsal is not None:
            self.rehearsal.end()
        self.shadow.site.sandbox.remove()


def opened(
    record: Record, profile: Profile, *, deployment: str, stand_in: bool, objectives: Mapping[str, Objective],
    asked: BackupObjectives,
) -> None:  # fmt: skip
    """Write what the gate is about, before anything of it is looked at."""
    upgrade = upgrade_of(profile)
    record.journal.write(
        "gate.opened",
        deployment=deployment,
        stand_in=stand_in,
        targets={name: dataclasses.asdict(objective) for name, objective in objectives.items()},
        frequency={name: dataclasses.asdict(objective) for name, objective in asked.frequency.items()},
        stale_days=profile.evidence.stale_days,
        checks=sorted(every_check()),
        upgrade={"old": upgrade.old, "new": upgrade.new} if upgrade else None,
    )

"""What a drill owes to a deployment that somebody else runs: looked at before the strike, brought back whatever comes.

Of a deployment of the suite's own nothing of it is needed, and every step here does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from checks.checked import checked
from drills import by_hand, ledger, restoring
from drills.controls.bench import COPY
from drills.controls.objects import SCRATCH_BUCKET
from drills.made import Made
from drills.site import Site
from fixtures.kept import release, write_by_hand
from fixtures.providers.attached.destroyable import DestroyableDeployment
from reports.records import Failure, Finding, HarnessError

LEDGER_SCHEMA: Final = ledger.TABLE.partition(".")[0]
UPLOADED: Final = (
    "the documents that the suite uploaded through the application, under names that begin with"
    f" {' or '.join(ledger.OWN_NAMES)}"
)


class Guard:
    """The care of one drill. ``told`` is given lines for whoever watches the terminal."""

    def __init__(self, site: Site, told: Callable[[str], None]) -> None:
        self._site, self._told = site, told
        self._theirs = site.deployment if isinstance(site.deployment, DestroyableDeployment) else None
        self._made: Sequence[Made] = ()
        self._struck = self._begun = self._restored = self._held = self._left = False

    def before_strike(self, made: Sequence[Made]) -> None:
        """Look at the interlocks again, say what will be destroyed, and leave word how to restore it by hand.

        Raises:
            UsageProblem: an interlock holds; nothing is destroyed.
        """
        if self._theirs is None:
            return
        site = self._site
        seen = self._theirs.before_strike(site.sets)
        for line in ["will be destroyed now, and restored:", *seen.lines()]:
            self._told(site.record.redactor.clean(line))
        site.journal.write("read_out", drill=site.id, **seen.as_record())
        if site.profile.age_identity is None:
            _write_secret(site, by_hand.IDENTITY, site.keys.identity)
        if site.profile.passphrase is None:
            _write_secret(site, by_hand.PASSPHRASE, site.keys.passphrase)
        # Not redacted, for its paths and commands must be right: it is its owner's only, beside all of the data.
        write_by_hand(site.sets, by_hand.by_hand(site, self._theirs, made[-1]))
        self._made, self._struck = made, True

    def hold_writer(self) -> None:
        """The restore begins. Keep the ledger's writer from writing into it: nothing else shuts it out there."""
        if self._site.profile.attached is not None:
            self._begun = self._held = True
            self._site.load.hold()
            self._site.journal.write("writer.held", drill=self._site.id)

    def let_writer_go(self) -> None:
        """Let it go on."""
        if self._held:
            self._held = False
            self._site.load.let_go()
            self._site.journal.write("writer.let_go", drill=self._site.id)

    def restored(self) -> None:
        """Both stores and the configuration are back."""
        self._restored = True

    def bring_back(self) -> None:
        """Restore what a drill has left destroyed, from the set that it made; where that fails, say where it lies."""
        if self._theirs is None or not self._struck or self._restored:
            return
        site = self._site
        if not self._begun and all(site.scenario.disaster.places(self._theirs).values()):
            self._restored = True  # the strike was given up before anything of it was done
            return
        self._told(f"the drill ended before {self._theirs.name} was restored: it is restored now")
        try:
            restoring.bring_back(site, self._made)
        except (HarnessError, Failure, OSError) as problem:
            said = site.record.redactor.clean(str(problem))[:1000]
            site.journal.write("brought_back", drill=site.id, outcome="failed", error=said)
            self._told(f"it could not be: {said}")
        else:
            self._restored = True
            site.journal.write("brought_back", drill=site.id, outcome="done", error="")

    def leave(self) -> None:
        """Leave it running without what is the suite's; a check of its own. Does nothing the second time.

        Raises:
            Failure: that could not be done.
        """
        if self._theirs is None or self._left or not self._theirs.begun:
            return
        self._left = True
        if self._struck and not self._restored:
            return
        site = self._site
        with checked(site.journal, site.id, "left as it was") as check:
            if self._struck and site.plan.objects != "keep" and not site.plan.database:
                # Rows that survived refer to objects that were younger than the copy. Nobody is left with that.
                restoring.bring_back(site, self._made)
            problems = self._theirs.left_running(
                schema=LEDGER_SCHEMA, copy=COPY, scratch=SCRATCH_BUCKET, prefix=f"{ledger.PREFIX}/"
            )
            check.findings = [Finding(code="NOT-LEFT-AS-IT-WAS", seen=each) for each in problems]
            check.looked_at = {"services": len(self._theirs.services), "stores": 2}
            if ledger.API in site.load.channels:
                reason = "nobody told the suite how documents are deleted"
                check.not_tested = [{"what": f"removing {UPLOADED}", "reason": reason}]
        check.require()

    def close(self, *, well: bool) -> None:
        """Remove the backup sets of a drill that ended well, or that struck nothing; say of others where they lie."""
        if self._theirs is None or not self._site.sets.is_dir():
            return
        if well or not self._struck:
            release(self._site.sets)
            return
        state = "restored, though the drill did not pass" if self._restored else "NOT RESTORED"
        said = (
            f"{self._theirs.name} is {state}. Its backup is kept: {self._site.sets}/{by_hand.FILE} says how to use it"
        )
        self._site.journal.write("backup.kept", drill=self._site.id, path=str(self._site.sets), restored=self._restored)
        self._told(said)


def _write_secret(site: Site, name: str, secret: str) -> None:
    file = site.sets / name
    file.touch(mode=0o600)
    file.write_text(f"{secret}\n", "utf-8")

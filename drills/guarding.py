"""What a drill owes to a deployment that somebody else runs: looked at before the strike, brought back whatever comes.

Of a deployment of the suite's own nothing of it is needed, and every step here does nothing.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

import psycopg

from checks.checked import checked
from drills import by_hand, ledger
from drills.bringing_back import bring_back, say
from drills.controls.bench import copy_name
from drills.controls.objects import scratch_bucket
from drills.made import Made
from drills.site import Site
from fixtures.kept import release, write_by_hand
from fixtures.providers.attached.destroyable import DestroyableDeployment
from reports.records import Failure, Finding, HarnessError

LEDGER_SCHEMA: Final = ledger.TABLE.partition(".")[0]
# A run is ended so by its service manager, or by a terminal that closes.
ASKING_TO_END: Final = (signal.SIGTERM, signal.SIGHUP)
UPLOADED: Final = (
    "the documents that the suite uploaded through the application, under names that begin with"
    f" {' or '.join(name.rstrip('/') for name in ledger.OWN_NAMES)}"
)


class Guard:
    """The care of one drill. ``told`` is given lines for whoever watches the terminal."""

    def __init__(self, site: Site, told: Callable[[str], None]) -> None:
        self._site, self._teller = site, told
        self._signals: dict[signal.Signals, Any] = {}
        self._theirs = site.deployment if isinstance(site.deployment, DestroyableDeployment) else None
        self._made: Sequence[Made] = ()
        self._struck = self._begun = self._restored = self._held = self._left = False

    def before_strike(self, made: Sequence[Made]) -> None:
        """Look at the interlocks again, say what will be destroyed, and leave word how to restore it by hand.

        From here on a signal that asks the run to end interrupts it, so that what was destroyed comes back first.

        Raises:
            UsageProblem: an interlock holds; nothing is destroyed.
        """
        if self._theirs is None:
            return
        self._signals = {each: signal.signal(each, interrupt) for each in ASKING_TO_END
                         if signal.getsignal(each) != signal.SIG_IGN}  # fmt: skip
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
        # The oldest set: a disaster may spoil the newest.
        write_by_hand(site.sets, by_hand.by_hand(site, self._theirs, made))
        self._told(f"should this run not end: {site.sets}/{by_hand.FILE} says how to restore it by hand")
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
        if not self._begun and self._untouched(self._theirs):
            self._restored = True  # the strike was given up before anything of it was done
            return
        self._told(f"the drill ended before {self._theirs.name} was restored: it is restored now")
        try:
            bring_back(site, self._made)
        except (HarnessError, Failure, OSError) as problem:
            said = site.record.redactor.clean(str(problem))[:1000]
            self._told(f"it could not be: {said}")
            say(site, "brought_back", outcome="failed", error=said)
        else:
            self._restored = True
            say(site, "brought_back", outcome="done", error="")

    def _untouched(self, theirs: DestroyableDeployment) -> bool:
        """Whether everything is as it was before the strike; what cannot be told is taken for struck."""
        with contextlib.suppress(HarnessError, OSError, psycopg.Error):
            return all(self._site.scenario.disaster.places(theirs).values())
        return False

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
                bring_back(site, self._made)
            run = site.record.run_id
            problems = self._theirs.left_running(
                schema=LEDGER_SCHEMA, copy=copy_name(run), scratch=scratch_bucket(run),
                prefixes=(f"{ledger.PREFIX}/{run}-", ledger.probe_key(f"{run}-")),
            )  # fmt: skip
            check.findings = [Finding(code="NOT-LEFT-AS-IT-WAS", seen=each) for each in problems]
            check.looked_at = {"services": len(self._theirs.services), "stores": 2}
            if ledger.API in site.load.channels:
                reason = "nobody told the suite how documents are deleted"
                check.not_tested = [{"what": f"removing {UPLOADED}", "reason": reason}]
        check.require()

    def close(self, *, well: bool) -> None:
        """Remove the backup sets of a drill that ended well, or that struck nothing; say of others where they lie."""
        if self._theirs is None:
            return
        while self._signals:
            signal.signal(*self._signals.popitem())
        if not self._site.sets.is_dir():
            return
        if well or not self._struck:
            release(self._site.sets)
            return
        state = "restored, though the drill did not pass" if self._restored else "NOT RESTORED"
        said = (
            f"{self._theirs.name} is {state}. Its backup is kept: {self._site.sets}/{by_hand.FILE} says how to use it"
        )
        self._told(said)
        say(self._site, "backup.kept", path=str(self._site.sets), restored=self._restored)

    def _told(self, line: str) -> None:
        """Say it, where somebody is there: the terminal may be gone, and that changes nothing of what is to be done."""
        with contextlib.suppress(OSError, ValueError):
            self._teller(line)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Once is enough: what follows is bringing the deployment back, and only SIGKILL ends that."""
    del frame
    for each in ASKING_TO_END:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _write_secret(site: Site, name: str, secret: str) -> None:
    file = site.sets / name
    file.touch(mode=0o600)
    file.write_text(f"{secret}\n", "utf-8")

"""What a failover drill owes to somebody else's cluster: mended before anything else is ended, and seen whole."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

from drills.guarding import ASKING_TO_END, interrupt
from fixtures.providers.attached.redundant import AttachedClusterDeployment
from reports.records import HarnessError


class Care:
    """What one drill owes to somebody else's cluster; of one of the suite's own nothing.

    From the beginning on a signal that asks the run to end interrupts it, so that what was broken is mended first.
    """

    def __init__(self, theirs: AttachedClusterDeployment | None, tell: Callable[[str], None]) -> None:
        self._theirs, self._tell = theirs, tell
        self._signals: dict[signal.Signals, Any] = {}
        if theirs is not None:
            self._signals = {each: signal.signal(each, interrupt) for each in ASKING_TO_END
                             if signal.getsignal(each) != signal.SIG_IGN}  # fmt: skip

    def mend(self) -> None:
        """Mend what the drill has left broken, before anything else is ended. Only SIGKILL keeps it from that."""
        if self._theirs is None:
            return
        self._signals.setdefault(signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
        for problem in self._theirs.mending.mend():
            self._say(f"{self._theirs.name}: not mended yet: {problem}")

    def close(self) -> None:
        """See the cluster whole.

        Raises:
            HarnessError: it is not; where the word lies that says what to do.
        """
        if self._theirs is None:
            return
        problems, word = self._theirs.settle(), self._theirs.mending.file
        while self._signals:
            signal.signal(*self._signals.popitem())
        if problems:
            says = f"; {word} says by which commands that is done" if word else ""
            told = f"{self._theirs.name} is NOT MENDED{says}"
            self._say(told)
            raise HarnessError(told, seen="; ".join(problems), remedy="see the agents' logs")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            self._tell(line)

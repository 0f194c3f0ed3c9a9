"""Asks, from the strike on and without pause, whether the deployment does its business again."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from fixtures.application import ApplicationError
from reports.records import NANOSECONDS, Journal, monotonic_ns

DOOR: Final = "connect"
SHUT: Final = "nobody listens"
CONTENT: Final = "Probe {n} of a restore drill. Write to probe{n}@example.org or call +49 30 5550 {n:04d}.\n"


class Transacts(Protocol):
    """Whoever does the deployment's business once, and says at which step it failed."""

    def transact(self, name: str, content: bytes, *, deadline_ns: int) -> None:
        """One whole business transaction, until ``deadline_ns`` of ``monotonic_ns``."""

    def close(self) -> None:
        """Give the connections back."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """One business transaction that was tried: when (nanoseconds of the run's clock), and how it ended."""

    outcome: str
    started_ns: int
    ended_ns: int
    step: str
    seen: str
    failed_before: int


class Prober:
    """A thread that makes one business transaction after the other until the first succeeds.

    Args:
        interval_ns: from the end of a failed one to the start of the next; a fifth of it where the door was shut.
        limit_ns: how long one may take.
        door: whether anybody listens where clients knock; asked before each transaction, because it costs next to
            nothing and a refused transaction does not, on a machine that is busy restoring.
    """

    def __init__(
        self,
        application: Transacts,
        *,
        journal: Journal,
        drill: str,
        prefix: str,
        interval_ns: int,
        limit_ns: int,
        door: Callable[[], bool] = lambda: True,
    ) -> None:
        self._application, self._journal, self._drill, self._prefix = application, journal, drill, prefix
        self._interval_ns, self._limit_ns, self._door = interval_ns, limit_ns, door
        self._stop, self._succeeded = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._probe_until_success, daemon=True)
        self.last_failed: Probe | None = None
        self.success: Probe | None = None

    def start(self) -> None:
        """Begin, at the strike."""
        self._thread.start()

    def await_success(self, *, seconds: float) -> bool:
        """Wait for the first success; whether it came."""
        return self._succeeded.wait(seconds)

    def stop(self) -> None:
        """End the thread and close the connection."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._application.close()

    def _probe_until_success(self) -> None:
        failed = 0
        while not self._stop.is_set():
            probe = self._probe(failed)
            if probe.outcome == "succeeded":
                if self.last_failed is not None and failed > 1:
                    self._write(self.last_failed)
                self._write(probe)
                self.success = probe
                self._succeeded.set()
                return
            if failed == 0:
                self._write(probe)
            failed, self.last_failed = failed + 1, probe
            interval_ns = self._interval_ns // 5 if probe.step == DOOR else self._interval_ns
            self._stop.wait(interval_ns / NANOSECONDS)
        if self.last_failed is not None and failed > 1:
            self._write(self.last_failed)

    def _probe(self, failed: int) -> Probe:
        now = self._journal.clock.now
        started = now()
        if not self._door():
            return Probe(
                outcome="failed", started_ns=started, ended_ns=now(), step=DOOR, seen=SHUT, failed_before=failed
            )
        content = CONTENT.format(n=failed).encode()
        try:
            self._application.transact(f"{self._prefix}{failed}", content, deadline_ns=monotonic_ns() + self._limit_ns)
        except Exception as problem:
            # Whatever it is, the business is not done: half an answer is no answer.
            step, _, seen = (
                str(problem).partition(": ") if isinstance(problem, ApplicationError) else ("request", "", str(problem))
            )
            return Probe(
                outcome="failed",
                started_ns=started,
                ended_ns=now(),
                step=step,
                seen=f"{type(problem).__name__}: {seen}"[:500],
                failed_before=failed,
            )
        return Probe(outcome="succeeded", started_ns=started, ended_ns=now(), step="", seen="", failed_before=failed)

    def _write(self, probe: Probe) -> None:
        fields: dict[str, Any] = dataclasses.asdict(probe)
        self._journal.write("probe", drill=self._drill, **fields)

"""Asks, without pause, whether the deployment does its business: until it does so again, or all through a drill."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from fixtures.application import ApplicationError
from reports.records import NANOSECONDS, Clock, Journal, monotonic_ns

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
DOOR: Final = "connect"
SHUT: Final = "nobody listens"
# How many of a continuous prober's transactions are under way at once.
MOST: Final = 12
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
            probe = try_once(
                self._application,
                self._journal.clock,
                f"{self._prefix}{failed}",
                number=failed,
                failed_before=failed,
                limit_ns=self._limit_ns,
                door=self._door,
            )
            if probe.outcome == SUCCEEDED:
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

    def _write(self, probe: Probe) -> None:
        fields: dict[str, Any] = dataclasses.asdict(probe)
        self._journal.write("probe", drill=self._drill, **fields)


class ContinuousProber:
    """Makes business transactions from before the strike until it is stopped, each under a name of its own.

    While they go well one follows the other. Where one takes long, others are begun beside it: else nothing would be
    known of all the time that a client waits. Each is journalled when it ends; at the end, how many there were.

    Args:
        open_application: makes a client; as many are made as were under way at once.
        interval_ns: from the end of one to the start of the next, where no other is under way.
        limit_ns: how long one may take. While any is under way, the next begins a twelfth of this after the last began,
            or as long after it as the last success took, for who is only slow must not get more to do; and no more than
            twelve are under way.
    """

    def __init__(
        self,
        open_application: Callable[[], Transacts],
        *,
        journal: Journal,
        drill: str,
        prefix: str,
        interval_ns: int,
        limit_ns: int,
    ) -> None:
        self._open, self._journal, self._drill, self._prefix = open_application, journal, drill, prefix
        self._interval_ns, self._limit_ns = interval_ns, limit_ns
        self._apart_ns = max(interval_ns, limit_ns // MOST)
        # Whatever follows is changed and read while this is held.
        self._turned = threading.Condition()
        self._stopping, self._under_way = False, 0
        self._idle: list[Transacts] = []
        self._count, self.failed, self._in_row, self._first_ns = 0, 0, 0, 0
        self._thread = threading.Thread(target=self._begin_until_stopped, daemon=True)
        self.last: Probe | None = None
        self.last_failed: Probe | None = None
        self.last_success: Probe | None = None

    def start(self) -> None:
        """Begin, before the strike."""
        self._thread.start()

    def await_success(self, *, since: int, seconds: float) -> bool:
        """Wait until a probe succeeded that began after an instant of the run's clock; whether it came in time."""

        def succeeded() -> bool:
            return self.last_success is not None and self.last_success.started_ns > since

        with self._turned:
            return self._turned.wait_for(succeeded, seconds)

    def stop(self) -> None:
        """Begin no more, let those under way end, and journal the whole. Once, however often asked."""
        with self._turned:
            if self._stopping:
                return
            self._stopping = True
            self._turned.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        for application in self._idle:
            application.close()
        if self.last is None:
            return
        self._journal.write(
            "probes", drill=self._drill, count=self._count, failed=self.failed, first_ns=self._first_ns,
            last_ended_ns=self.last.ended_ns,
        )  # fmt: skip

    def _begin_until_stopped(self) -> None:
        number, began_ns = 0, 0
        with ThreadPoolExecutor(MOST) as pool:
            while True:
                with self._turned:
                    self._turned.wait_for(lambda: self._stopping or not self._under_way, self._left(began_ns))
                    # Twelve may be under way for a moment longer than each of them is allowed.
                    self._turned.wait_for(lambda: self._stopping or self._under_way < MOST)
                    if not self._under_way:
                        self._turned.wait_for(lambda: self._stopping, self._interval_ns / NANOSECONDS if number else 0)
                    if self._stopping:
                        return
                    self._under_way += 1
                    application = self._idle.pop() if self._idle else None
                began_ns = monotonic_ns()
                pool.submit(self._probe, application or self._open(), number)
                number += 1

    def _left(self, began_ns: int) -> float:
        usual = self.last_success
        apart_ns = max(self._apart_ns, usual.ended_ns - usual.started_ns if usual else 0)
        return max(0, began_ns + apart_ns - monotonic_ns()) / NANOSECONDS

    def _probe(self, application: Transacts, number: int) -> None:
        name, clock = f"{self._prefix}{number}", self._journal.clock
        probe = try_once(application, clock, name, number=number, failed_before=0, limit_ns=self._limit_ns)
        with self._turned:
            self._under_way -= 1
            self._idle.append(application)
            self._take(probe)
            self._turned.notify_all()

    def _take(self, probe: Probe) -> None:
        failed = probe.outcome == FAILED
        self.last = dataclasses.replace(probe, failed_before=self._in_row)
        self._in_row = self._in_row + 1 if failed else 0
        self._first_ns = min(self._first_ns, probe.started_ns) if self._count else probe.started_ns
        self._count, self.failed = self._count + 1, self.failed + failed
        if failed:
            self.last_failed = self.last
        elif self.last_success is None or self.last_success.started_ns < probe.started_ns:
            self.last_success = self.last
        fields: dict[str, Any] = dataclasses.asdict(self.last)
        self._journal.write("probe", drill=self._drill, **fields)


def try_once(
    application: Transacts,
    clock: Clock,
    name: str,
    *,
    number: int,
    failed_before: int,
    limit_ns: int,
    door: Callable[[], bool] = lambda: True,
) -> Probe:
    """One business transaction under a name of its own, and how it ended."""
    started = clock.now()

    def ended(outcome: str, step: str = "", seen: str = "") -> Probe:
        return Probe(
            outcome=outcome,
            started_ns=started,
            ended_ns=clock.now(),
            step=step,
            seen=seen,
            failed_before=failed_before,
        )

    if not door():
        return ended(FAILED, DOOR, SHUT)
    try:
        application.transact(name, CONTENT.format(n=number).encode(), deadline_ns=monotonic_ns() + limit_ns)
    except Exception as problem:
        # Whatever it is, the business is not done: half an answer is no answer.
        step, _, said = (
            str(problem).partition(": ") if isinstance(problem, ApplicationError) else ("request", "", str(problem))
        )
        return ended(FAILED, step, f"{type(problem).__name__}: {said}"[:500])
    return ended(SUCCEEDED)

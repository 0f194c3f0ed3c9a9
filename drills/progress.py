"""Long work told while it goes on: how much of how much, and about how long the rest will take."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from reports.records import NANOSECONDS, format_duration, monotonic_ns

# Told what is being done, how much of it is done, and of how much; 0 of 0 ends the line.
Progress = Callable[[str, int, int], None]
EVERY_SECONDS: Final = 1.0
# At most one part in so many of the time is spent on looking.
COSTS: Final = 20
# Before this share is done, an estimate would be a guess.
LEAST_SHARE: Final = 0.02
LEAST_NS: Final = 2 * NANOSECONDS


class Estimate:
    """How long the rest of something will take, from how long the part behind it took."""

    def __init__(self) -> None:
        self._what, self._began_ns, self._from = "", 0, 0

    def told(self, what: str, done: int, of: int) -> str:
        """The rest, as ``about 40s left``; empty where it is too early to tell."""
        now = monotonic_ns()
        if what != self._what or done < self._from:
            self._what, self._began_ns, self._from = what, now, done
        passed, share = now - self._began_ns, (done - self._from) / max(of - self._from, 1)
        if passed < LEAST_NS or share < LEAST_SHARE or done >= of:
            return ""
        rest = round(passed * (1 - share) / share / NANOSECONDS)
        return f", about {format_duration(max(rest, 1) * NANOSECONDS)} left"


@contextlib.contextmanager
def watched(progress: Progress, what: str, measure: Callable[[], int], of: int) -> Iterator[None]:
    """Tell how far work has come while the block runs: once a second, or less often where looking costs more.

    Args:
        measure: how much is done; what it raises is passed over, for nobody's result depends on it.
        of: how much there is in all, about.
    """
    stop = threading.Event()

    def tell() -> None:
        seconds = EVERY_SECONDS
        while not stop.wait(seconds):
            began_ns = monotonic_ns()
            with contextlib.suppress(Exception):
                progress(what, min(measure(), of), of)
            seconds = max(EVERY_SECONDS, COSTS * (monotonic_ns() - began_ns) / NANOSECONDS)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        progress(what, of, of)

"""Users at work while something is done to a deployment: their requests, each of them counted."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from fixtures.deployment import Application
from reports.records import pause, wait_until

INTERVAL_SECONDS: Final = 0.03
ANSWER_SECONDS: Final = 20.0


@dataclasses.dataclass(kw_only=True)
class Requests:
    """What the users attempted so far; ``first`` is what the first failure was."""

    attempted: int = 0
    answered: int = 0
    failed: int = 0
    first: str = ""

    def await_answer(self) -> None:
        """Wait until a request is answered that began after this call.

        Raises:
            HarnessError: none was in 20 s.
        """
        # The one under way began before.
        until = self.answered + 2
        wait_until(
            lambda: self.answered >= until,
            seconds=ANSWER_SECONDS,
            interval=0.01,
            what="an upload that succeeds",
            remedy=f"first failure: {self.first}",
        )


@contextlib.contextmanager
def under_load(client: Callable[[], Application]) -> Iterator[Requests]:
    """Upload small documents, some twenty a second, until the block ends; entered once the first was answered.

    Args:
        client: makes the client, in the thread that uses it.
    """
    requests, stop, tag = Requests(), threading.Event(), uuid.uuid4().hex

    def work() -> None:
        application = client()
        try:
            while not stop.is_set():
                requests.attempted += 1
                try:
                    application.upload(f"rotation/{tag}/{requests.attempted}", b"Written while a password was rotated.")
                    requests.answered += 1
                # Whatever the client saw instead of its answer is a request that failed.
                except Exception as problem:
                    requests.failed += 1
                    requests.first = requests.first or f"{type(problem).__name__}: {problem}"
                pause(INTERVAL_SECONDS, why="users are not a flood")
        finally:
            application.close()

    thread = threading.Thread(target=work, name="users at work", daemon=True)
    thread.start()
    try:
        requests.await_answer()
        yield requests
    finally:
        stop.set()
        thread.join()

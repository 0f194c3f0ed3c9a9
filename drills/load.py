"""The ledger's writer as the engine sees it: started, watched, stopped, and its writes searched for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from drills import ledger
from drills.verification import OwnWrites
from fixtures.backup_set import sha256_of
from fixtures.deployment import Deployment
from fixtures.processes import Running, ended_within, tail
from reports.records import Clock, HarnessError, Journal, read_lines, wait_until

# What acknowledges nothing for this long is not coming by itself.
ACKNOWLEDGED_SECONDS: Final = 10.0


class Load:
    """The writes that go on during one drill.

    Args:
        path: the ledger's file; what was observed of it lies beside.
        relative: the same path as the journal names it.
        tag: stands in the name of every write, so that writes of other runs are not taken for ours.
    """

    def __init__(
        self, *, deployment: Deployment, journal: Journal, drill: str, path: Path, relative: Path, tag: str
    ) -> None:
        self.deployment, self.journal, self.drill = deployment, journal, drill
        self.path, self.observed, self.relative, self.tag = path, path.with_name("observed.jsonl"), relative, tag
        self._writer: Running | None = None

    @property
    def prefix(self) -> str:
        """What the keys of the ledger's own objects begin with."""
        return f"{ledger.PREFIX}/{self.tag}/"

    def own_writes(self, *, since: int) -> OwnWrites:
        """What the ledger attempted, and how many uploads after an instant got no answer; when the writer has ended."""
        attempted, unanswered = set(), 0
        for entry in read_lines(self.path):
            if entry["event"] == "attempt" and entry["channel"] == "object":
                attempted.add(self.prefix + entry["id"])
            elif entry["event"] == "failed" and entry["channel"] == "api" and entry["t"] > since:
                unanswered += entry["error"] != ledger.REFUSED
        return OwnWrites(prefix=self.prefix, attempted=frozenset(attempted), unanswered=unanswered)

    def start(self, *, clock: Clock, interval_ns: int) -> None:
        """Start the writer, and see each channel acknowledge."""
        self.journal.write("ledger.opened", drill=self.drill, path=self.relative.as_posix())
        self._writer = self.deployment.processes.start_module("ledger-writer", "drills.ledger", pipe_input=True)
        source = self._writer.popen.stdin
        assert source is not None
        source.write(
            ledger.writer_input(
                self.deployment.client_access(), run_id=self.tag, path=self.path, clock=clock, interval_ns=interval_ns
            )
        )
        source.flush()
        self.await_acknowledgements(since=0)

    def await_acknowledgements(self, *, since: int) -> None:
        """Wait until every channel has acknowledged a write after an instant.

        Raises:
            HarnessError: one did not in ten seconds, or the writer has ended.
        """
        writer = self._writer
        assert writer is not None, "the load was started"

        def all_acknowledged() -> bool:
            if not writer.alive():
                raise HarnessError(
                    "the ledger's writer",
                    seen=f"it ended: {tail(writer.errors, self.deployment.processes.redactor)}",
                    remedy="see the message",
                )
            return ledger.channels_acknowledged_since(self.path, since) == set(ledger.CHANNELS)

        wait_until(
            all_acknowledged,
            seconds=ACKNOWLEDGED_SECONDS,
            interval=0.02,
            what=f"an acknowledged write in each of {', '.join(ledger.CHANNELS)}",
            remedy="see the ledger's failed lines and the services' logs",
        )

    def stop(self) -> None:
        """End the writer after its writes under way; does nothing where it does not run."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        assert writer.popen.stdin is not None
        with contextlib.suppress(OSError):
            writer.popen.stdin.close()
        if not ended_within(writer.popen, 10):
            writer.kill()
        self.path.touch()
        self.journal.write(
            "ledger.closed", drill=self.drill, path=self.relative.as_posix(), sha256=sha256_of(self.path)
        )

    def observe(self) -> None:
        """Write down every write that the deployment now holds."""
        application = self.deployment.application(timeout=10.0)
        try:
            _write_lines(self.observed, ledger.observe(self.deployment, application, self.tag))
        finally:
            application.close()
        self.journal.write(
            "ledger.observed",
            drill=self.drill,
            path=self.relative.with_name(self.observed.name).as_posix(),
            sha256=sha256_of(self.observed),
        )


def _write_lines(path: Path, lines: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")

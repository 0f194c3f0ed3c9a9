"""The witness of a cluster as the engine sees it: started, seen to look, and stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from drills import witness
from drills.lines import last_lines
from fixtures.backup_set import sha256_of
from fixtures.deployment import Database
from fixtures.processes import Processes, Running, ended_within, tail
from reports.records import Clock, HarnessError, Journal, wait_until

FIRST_LOOK_SECONDS: Final = 10.0


class Watched(Protocol):
    """A node as far as the witness is concerned."""

    name: str

    @property
    def database(self) -> Database:
        """The server itself as its superuser, past everything that may be cut."""


class Watch:
    """What is seen of every node during one drill.

    Args:
        path: the file of what was seen, beside the ledger.
        relative: the same path as the journal names it.
    """

    def __init__(self, *, processes: Processes, journal: Journal, drill: str, path: Path, relative: Path) -> None:
        self.path = path
        self._processes, self._journal, self._drill, self._relative = processes, journal, drill, relative
        self._witness: Running | None = None

    def launch(self) -> None:
        """Start the witness's process, which waits to be told whom to look at; ``start`` does it where nobody did."""
        self._witness = self._processes.start_module("witness", "drills.witness", pipe_input=True)

    def start(self, nodes: Sequence[Watched], *, clock: Clock) -> None:
        """Have it look at the nodes, all of them well, and see that it can.

        Raises:
            HarnessError: a node did not answer it, or it has ended: then nothing could be told of who was leader.
        """
        if self._witness is None:
            self.launch()
        running = self._witness
        assert running is not None and running.popen.stdin is not None
        given = [witness.node_input(node.name, node.database) for node in nodes]
        running.popen.stdin.write(witness.witness_input(given, path=self.path, clock=clock))
        running.popen.stdin.flush()
        wanted = {node.name for node in nodes}

        def all_seen() -> bool:
            if not running.alive():
                raise HarnessError(
                    "the cluster's witness",
                    seen=f"it ended: {tail(running.errors, self._processes.redactor)}",
                    remedy="see the message",
                )
            well = (witness.ACCEPTS, witness.STANDBY)
            return {line["node"] for line in last_lines(self.path) if line["state"] in well} >= wanted

        wait_until(
            all_seen,
            seconds=FIRST_LOOK_SECONDS,
            interval=0.02,
            what=f"an answer to the witness from each of {', '.join(sorted(wanted))}",
            remedy=f"see the errors in {self._relative}, and that the superuser may log in at each node directly",
        )

    def stop(self) -> None:
        """End it after its looks under way; does nothing where it does not run."""
        running, self._witness = self._witness, None
        if running is None:
            return
        assert running.popen.stdin is not None
        with contextlib.suppress(OSError):
            running.popen.stdin.close()
        if not ended_within(running.popen, 10):
            running.kill()
        self.path.touch()
        self._journal.write(
            "witness.closed", drill=self._drill, path=self._relative.as_posix(), sha256=sha256_of(self.path)
        )

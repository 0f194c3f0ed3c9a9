"""The register of a runs directory: a line per run, sealed, aborted or retired, with the digest of the line before.

``register.jsonl`` lies beside the runs. A run is written into it when it is sealed; one that was killed, when the next
run opens. Whoever reads or appends holds an exclusive lock on the runs directory, so that runs may begin and end beside
each other. While a run lives it holds a lock on its own journal: that is how a killed one is told from one at work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports.records import GENESIS, HarnessError, UsageProblem, canonical, read_lines, wait_until

FILE_NAME: Final = "register.jsonl"
JOURNAL: Final = "journal.jsonl"
SUMS: Final = "SHA256SUMS"
SEALED, UNSEALED, ABORTED, RETIRED = "sealed", "unsealed", "aborted", "retired"
STATES: Final = (SEALED, UNSEALED, ABORTED, RETIRED)
Line = Mapping[str, Any]
_TEXTS: Final = ("run_id", "state", "opened_utc", "sha256", "verdict", "key_id", "prev", "hash")
_PATIENCE_SECONDS: Final = 60.0


def read(runs_directory: Path) -> list[Line]:
    """The register's lines, their chain checked; none where there is no register.

    Raises:
        UsageProblem: a line was altered, dropped, added, moved or cut short, or the file cannot be read.
    """
    path = runs_directory / FILE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise UsageProblem(
            str(path), seen=problem.strerror or str(problem), remedy="make it a file that can be read"
        ) from None
    lines: list[Line] = []
    for text in content.splitlines(keepends=True):
        line = _line(text)
        before = lines[-1]["hash"] if lines else GENESIS
        if line is None or line["n"] != len(lines) or line["prev"] != before:
            raise UsageProblem(
                f"{path}, line {len(lines) + 1}",
                seen="the chain of digests is broken here: a line was altered, dropped, added, moved or cut short",
                remedy="keep it for whoever asks, and fetch the register from its archive, or begin another runs"
                " directory with --runs-directory",
            )
        lines.append(line)
    return lines


def _line(text: bytes) -> Line | None:
    """One line in just the bytes that it is written in; ``None`` of anything else."""
    try:
        line = json.loads(text)
        body = {key: value for key, value in line.items() if key != "hash"}
        sound = (
            canonical(line) + b"\n" == text
            and all(isinstance(line[key], str) for key in _TEXTS)
            and type(line["n"]) is int
            and line["state"] in STATES
            and line["hash"] == hashlib.sha256(canonical(body)).hexdigest()
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return line if sound else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Register:
    """The register while its lock is held: ``lines`` grows as lines are appended."""

    runs_directory: Path
    lines: list[Line]

    def append(self, run_id: str, state: str, **fields: Any) -> Line:
        """Append a line and hand it back, on the platter when this returns.

        Args:
            run_id: the run's, which is the name of its directory.
            state: one of ``STATES``.
            fields: ``opened_utc``, ``sha256`` (of ``SHA256SUMS``, or of the journal where there is none), ``verdict``,
                ``key_id`` (empty: not signed), and of a retired run whatever is to be kept of it.

        Raises:
            HarnessError: the file cannot be written.
        """
        line = {"n": len(self.lines), "run_id": run_id, "state": state, **fields}
        line["prev"] = self.lines[-1]["hash"] if self.lines else GENESIS
        line["hash"] = hashlib.sha256(canonical(line)).hexdigest()
        text, path = canonical(line) + b"\n", self.runs_directory / FILE_NAME
        try:
            with path.open("ab", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if file.write(text) != len(text):
                    file.truncate(size)  # a disk that is full leaves a line in it whole or not at all
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as problem:
            raise HarnessError(
                str(path), seen=problem.strerror or str(problem), remedy="make room; the next run registers this one"
            ) from None
        self.lines.append(line)
        return line

    def catch_up(self) -> list[Line]:
        """Register every run that is dead and in no line: killed, or made before there was a register.

        Returns:
            The lines that were added, oldest run first.
        """
        known = {line["run_id"] for line in self.lines}
        # A pipe in the place of a journal would never end, and the lock is held: verify names it.
        here = sorted(path.parent for path in self.runs_directory.glob(f"*/{JOURNAL}") if path.is_file())
        return [self._found(each) for each in here if each.name not in known and not is_live(each)]

    def _found(self, directory: Path) -> Line:
        opened, closed = _ends(directory / JOURNAL)
        state = SEALED if (directory / SUMS).is_file() else UNSEALED if closed else ABORTED
        return self.append(
            directory.name,
            state,
            opened_utc=str(opened.get("utc", "")),
            sha256=digest_of(directory / (SUMS if state == SEALED else JOURNAL)),
            verdict=verdict_of(directory) if closed else "error",
            key_id="",
        )


@contextlib.contextmanager
def locked(runs_directory: Path) -> Iterator[Register]:
    """The register of a runs directory, for as long as nobody else may touch it. Not to be nested.

    Raises:
        UsageProblem: the directory is not there, or the register's chain is broken.
        HarnessError: somebody else held it for a minute.
    """
    try:
        place = os.open(runs_directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        raise UsageProblem(
            str(runs_directory), seen=problem.strerror or str(problem), remedy="name the directory of the runs"
        ) from None
    try:
        wait_until(
            lambda: _taken(place, fcntl.LOCK_EX),
            seconds=_PATIENCE_SECONDS,
            interval=0.01,
            what=f"the lock on {runs_directory}",
            remedy="see which process holds it; the file system must know flock",
        )
        yield Register(runs_directory=runs_directory, lines=read(runs_directory))
    finally:
        os.close(place)


def hold(run_directory: Path) -> int:
    """Mark a run as alive until the descriptor that this hands back is closed, or its process has ended.

    Raises:
        OSError: the journal cannot be opened or locked.
    """
    held = os.open(run_directory / JOURNAL, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def is_live(run_directory: Path) -> bool:
    """Whether the process of a run still holds its journal."""
    try:
        journal = os.open(run_directory / JOURNAL, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(journal).st_mode) and not _taken(journal, fcntl.LOCK_SH)
    finally:
        os.close(journal)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def retire(runs_directory: Path, kept: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Line]:
    """Register runs as retired, each with a summary of it, before their directories are removed.

    Args:
        runs_directory: where they lie.
        kept: the ids of the runs, and what is kept of each; no floats in it.

    Raises:
        UsageProblem: one of them is in no line, or is retired already; none of them is registered then.
        HarnessError: as ``Register.append``.
    """
    with locked(runs_directory) as register:
        register.catch_up()
        lines, added = latest(register.lines), []
        for run_id, _ in (kept := list(kept)):
            if run_id not in lines or lines[run_id]["state"] == RETIRED:
                seen = "retired already" if run_id in lines else "in no line of the register"
                raise UsageProblem(f"run {run_id}", seen=seen, remedy="name a run that has ended and is still there")
        for run_id, summary in kept:
            fields = {key: lines[run_id][key] for key in ("opened_utc", "sha256", "verdict", "key_id")}
            added.append(register.append(run_id, RETIRED, **fields, summary=dict(summary)))
        return added


def latest(lines: Sequence[Line]) -> dict[str, Line]:
    """The last line of each run."""
    return {line["run_id"]: line for line in lines}


def digest_of(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        UsageProblem: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise UsageProblem(
            str(path), seen=problem.strerror or str(problem), remedy="fetch the run's files from their archive"
        ) from None


def _ends(journal: Path) -> tuple[Line, bool]:
    """A journal's first event, and whether the run was closed, as far as it can be read."""
    first: Line = {}
    closed = False
    with contextlib.suppress(HarnessError):
        for number, event in enumerate(read_lines(journal)):
            first = event if number == 0 else first
            closed = event.get("kind") == "run.closed"
    return first, closed


def verdict_of(directory: Path) -> str:
    """What the evidence of a run says; ``error`` where there is none that can be read."""
    path = directory / "evidence.json"
    try:
        verdict = json.loads(path.read_bytes())["verdict"] if path.is_file() else "error"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "error"
    return verdict if isinstance(verdict, str) else "error"

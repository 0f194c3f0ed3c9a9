"""A full ``pg_basebackup`` and increments on it, combined by ``pg_combinebackup``, and an archive of the log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from drills.contract import Basis, Job, Means
from fixtures import wal
from fixtures.deployment import Database
from fixtures.wal_segments import find_gaps
from reports.records import Finding, HarnessError

OLDEST_SERVER: Final = 17
FULL: Final = "full"
INCREMENT: Final = "incremental"


class BasebackupIncremental:
    """See ``drills.contract.DatabaseMethod``, ``Archives`` and ``NeedsMeans``.

    A backup set is a whole chain, ``1-full``, ``2-incremental``, …: without a set before it, a full backup and at once
    an increment, so that every drill combines; otherwise a copy of the chain of the set before, and one more increment.
    """

    name = "basebackup_incremental"
    basis: Basis = "target"
    into: Literal["server", "files"] = "files"
    takes_long = True

    def unavailable(self, means: Means) -> str:
        """Servers before version 17 make no increments."""
        if means.tools.major < OLDEST_SERVER:
            return f"PostgreSQL {means.tools.version} makes no incremental backups; {OLDEST_SERVER} does"
        if not (means.tools.directory / "pg_combinebackup").is_file():
            return f"no pg_combinebackup in {means.tools.directory}"
        return ""

    def settings(self, job: Job) -> Mapping[str, str]:
        """What the server needs in order to archive, and to know what changed between two backups."""
        settings = wal.archive_settings(job.archive, stream=job.stream_wal, own=job.own)
        return settings | {"summarize_wal": "on"}

    def streams(self, wanted: bool) -> bool:
        """Where that is wanted."""
        return wanted

    def start_archiving(self, source: Database, job: Job) -> None:
        """Start the receiver, where the log is streamed."""
        wal.start_archiving(job.processes, source, job.archive, stream=job.stream_wal, seconds=job.seconds)

    def flush(self, source: Database, job: Job) -> None:
        """See that the archive holds everything up to now."""
        wal.flush(source, job.archive, seconds=job.seconds)

    def check_archive(self, backup: Path, archive: Path, job: Job) -> list[Finding]:
        """Whether the log is whole from the last increment's start to its newest segment, or to the target at least."""
        needed = wal.needed_range(_chain(backup)[-1])
        return find_gaps(archive, needed, until=job.until.lsn if job.until else "")

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """Add an increment to a copy of the previous set's chain, or make a full backup and an increment on it."""
        target.chmod(0o700)
        if job.previous is None:
            self._add(source, target, job, since=None)
        else:
            for part in _chain(job.previous):
                # Not hard links: what damages one set in place would damage the one to fall back to.
                job.processes.run(["cp", "-a", "--reflink=auto", part, target], timeout=job.seconds)
        self._add(source, target, job, since=_chain(target)[-1])

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Verify the chain, combine it into files, and have the server recover when it is started.

        Each part is verified before, not the result after: where a part is cut short ``pg_combinebackup`` fills up with
        zeros and writes a manifest that agrees. Nothing is forced to disk here: the server does that itself before it
        recovers, since a base backup's files say that their server did not shut down.
        """
        wal.refuse_present(target.data_directory)
        for part in _chain(backup):
            wal.verify_base(job.processes, target, part, seconds=job.seconds)
        job.processes.run(
            [
                target.tools.path("pg_combinebackup"),
                f"--output={target.data_directory}",
                "--no-sync",
                *_chain(backup),
            ],
            timeout=job.seconds,
        )
        wal.write_recovery(target.data_directory, job.archive, until=job.until, own=job.own)

    def _add(self, source: Database, target: Path, job: Job, *, since: Path | None) -> None:
        number = sum(1 for _ in target.iterdir()) + 1
        wal.take_base(
            job.processes,
            source,
            target / f"{number}-{INCREMENT if since else FULL}",
            archive=job.archive,
            seconds=job.seconds,
            since=since,
        )


def _chain(backup: Path) -> list[Path]:
    """The parts of a backup set, the full one first.

    Raises:
        HarnessError: one is missing; the rest would be combined into something that never was.
    """
    found = sorted(part.name for part in backup.iterdir())
    chain = [f"{number}-{INCREMENT if number > 1 else FULL}" for number in range(1, len(found) + 1)]
    if sorted(chain) != found or not chain:
        raise HarnessError(
            f"the chain of backups in {backup}",
            seen=", ".join(found) or "nothing",
            remedy=f"{FULL} and every {INCREMENT} on it must be there: fetch the set again",
        )
    return [backup / name for name in chain]


METHOD: Final = BasebackupIncremental()

"""``pg_basebackup`` and the archive of the write-ahead log: recovery to any instant up to the last one archived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from drills.contract import Basis, Job
from fixtures import wal
from fixtures.deployment import Database
from fixtures.wal_segments import find_gaps
from reports.records import Finding

BASE: Final = "base"


class BasebackupWal:
    """See ``drills.contract.DatabaseMethod`` and ``Archives``.

    The base backup holds the whole cluster, roles with their password verifiers among it, readable for its owner only.
    A cluster with tablespaces outside its data directory is refused by ``pg_basebackup``.
    """

    name = "basebackup_wal"
    basis: Basis = "target"
    into: Literal["server", "files"] = "files"

    def settings(self, job: Job) -> Mapping[str, str]:
        """What the server needs in order to archive."""
        return wal.archive_settings(job.archive, stream=job.stream_wal, own=job.own)

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
        """Whether the log is whole from the base backup's start to its newest segment, or to the target at least."""
        return find_gaps(archive, wal.needed_range(backup / BASE), until=job.until.lsn if job.until else "")

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """Copy the cluster's files and verify the copy; the log that makes it consistent is in the archive."""
        target.chmod(0o700)
        wal.take_base(job.processes, source, target / BASE, archive=job.archive, seconds=job.seconds)

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Copy the files back, verify them, and have the server recover when it is started."""
        wal.refuse_present(target.data_directory)
        job.processes.run(
            ["cp", "-a", "--reflink=auto", "--no-target-directory", backup / BASE, target.data_directory],
            timeout=job.seconds,
        )
        wal.verify_base(job.processes, target, target.data_directory, seconds=job.seconds)
        wal.write_recovery(target.data_directory, job.archive, until=job.until, own=job.own)


METHOD: Final = BasebackupWal()

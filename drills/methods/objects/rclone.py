"""``rclone copy`` between a bucket and a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drills.contract import Job
from fixtures.deployment import ObjectStore
from fixtures.tools import find_rclone

REMOTE: Final = "store"


class Rclone:
    """See ``drills.contract.ObjectMethod``."""

    name = "rclone"

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Copy the bucket into the directory; rclone compares sizes and checksums of what it copied."""
        self._copy(f"{REMOTE}:{source.bucket}", str(target), source, job, retries=3)

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Copy the directory into the empty bucket, once as a whole; rclone asks again for single refused requests."""
        self._copy(str(backup), f"{REMOTE}:{target.bucket}", target, job, retries=1)

    def _copy(self, source: str, target: str, store: ObjectStore, job: Job, *, retries: int) -> None:
        job.processes.run(
            [
                find_rclone(),
                "copy",
                source,
                target,
                f"--transfers={4 * job.jobs}",
                f"--checkers={4 * job.jobs}",
                f"--retries={retries}",
                "--fast-list",
                # The target is empty: there is nothing in it to list or compare with.
                "--no-traverse",
                "--no-check-dest",
                "--metadata",
                "--config=",
            ],
            timeout=job.seconds,
            env=store.rclone_environment(REMOTE),
        )


METHOD: Final = Rclone()

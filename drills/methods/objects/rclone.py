"""``rclone copy`` between a bucket and a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drills.contract import Job
from fixtures import rclone
from fixtures.deployment import ObjectStore


class Rclone:
    """See ``drills.contract.ObjectMethod``.

    A second call copies what the bucket says was written since: an object that was overwritten at the same size has a
    new time. Two writes within one tick of the store's clock, with the first call between them, look like one.
    """

    name = "rclone"
    plain = True

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Copy the bucket into the directory, or what of it is new."""
        target.mkdir(parents=True, exist_ok=True)
        rclone.copy(
            rclone.bucket(source),
            rclone.directory(target),
            choice="changed by time" if any(target.iterdir()) else "everything",
            processes=job.processes,
            jobs=job.jobs,
            seconds=job.seconds,
            # An object that goes while it is copied fails the first try; the second no longer finds it in the list.
            retries=3,
        )

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Copy into the bucket what it lacks."""
        rclone.copy(
            rclone.directory(backup),
            rclone.bucket(target),
            choice="missing" if rclone.holds_objects(target) else "everything",
            processes=job.processes,
            jobs=job.jobs,
            seconds=job.seconds,
        )


METHOD: Final = Rclone()

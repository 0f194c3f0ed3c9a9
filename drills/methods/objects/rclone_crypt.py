"""``rclone copy`` into a directory in which contents and names are encrypted with the operator's passphrase."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from drills.contract import Job
from fixtures import rclone
from fixtures.deployment import ObjectStore
from fixtures.processes import CommandFailed
from reports.records import HarnessError


class RcloneCrypt:
    """See ``drills.contract.ObjectMethod``.

    Content types and user metadata are left out: rclone would write them beside the encrypted file as plain text.
    """

    name = "rclone_crypt"
    plain = False

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Copy the bucket into the encrypted directory, or what of it is new."""
        target.mkdir(parents=True, exist_ok=True)
        rclone.copy(
            rclone.bucket(source),
            _sealed(target, job),
            choice="changed by time" if any(target.iterdir()) else "everything",
            processes=job.processes,
            jobs=job.jobs,
            seconds=job.seconds,
            retries=3,
            metadata=False,
        )

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Decrypt into the bucket what it lacks.

        Raises:
            HarnessError: the passphrase is another one.
            CommandFailed: anything else, as a file that was altered.
        """
        sealed = _sealed(backup, job)
        try:
            rclone.copy(
                sealed,
                rclone.bucket(target),
                choice="missing" if rclone.holds_objects(target) else "everything",
                processes=job.processes,
                jobs=job.jobs,
                seconds=job.seconds,
                metadata=False,
            )
        except CommandFailed:
            if rclone.readable(sealed, processes=job.processes, seconds=job.seconds):
                raise
            raise HarnessError(
                "decrypting the object backup",
                seen="the passphrase does not open its names",
                remedy="give the backup.passphrase that it was made with; if it is that one, fetch the backup again",
            ) from None

    def list_copy(self, backup: Path, job: Job) -> Iterator[tuple[str, int]]:
        """See ``drills.contract.ListsCopy``."""
        return rclone.listed(_sealed(backup, job), processes=job.processes, seconds=job.seconds)


def _sealed(path: Path, job: Job) -> rclone.Place:
    if not job.passphrase:
        raise HarnessError(
            "the object backup's passphrase", seen="none", remedy="set backup.passphrase in the profile, as ${NAME}"
        )
    return rclone.encrypted_directory(path, rclone.obscured(job.passphrase, job.processes))


METHOD: Final = RcloneCrypt()

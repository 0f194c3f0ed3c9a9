"""``rclone copy`` from bucket to bucket: the copy lies in a second object store, below the backup set's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from drills.contract import Job
from fixtures import rclone
from fixtures.deployment import ObjectStore
from reports.records import HarnessError

POINTER: Final = "bucket.json"


class RcloneBucket:
    """See ``drills.contract.ObjectMethod`` and ``KeepsInStore``; the directory holds a pointer to the copy.

    A second call compares checksums, which both stores list: their clocks tell nothing about each other. Objects that
    were written in several parts have none in some stores; there only another size shows that one was overwritten.
    """

    name = "rclone_bucket"
    plain = False
    keeps_in_store = True

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Copy the bucket into the other store, or what of it is new.

        Raises:
            HarnessError: there is no other store, or another backup set of this name lies in it.
        """
        store, prefix = _store(job), target.parent.name
        target.mkdir(parents=True, exist_ok=True)
        first = not (target / POINTER).exists()
        if first and rclone.holds_objects(store, f"{prefix}/"):
            raise HarnessError(
                f"bucket {store.bucket}, {prefix}/",
                seen="objects of another backup set of this name",
                remedy="remove them, or give the backup set another name",
            )
        # Before the copy: it says where to look for one that was broken off, too.
        (target / POINTER).write_text(json.dumps({"bucket": store.bucket, "prefix": prefix}) + "\n", "utf-8")
        rclone.copy(
            rclone.bucket(source),
            rclone.bucket(store, prefix, remote="kept"),
            choice="everything" if first else "changed by checksum",
            processes=job.processes,
            jobs=job.jobs,
            seconds=job.seconds,
            retries=3,
        )

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Copy back into the bucket what it lacks.

        Raises:
            HarnessError: the pointer is no pointer, or the copy lies elsewhere.
        """
        store, kept = _store(job), _pointer(backup / POINTER)
        if kept["bucket"] != store.bucket:
            raise HarnessError(
                f"backup {backup}",
                seen=f"its objects lie in the bucket {kept['bucket']}, not in {store.bucket}",
                remedy="name the store that the backup was made into",
            )
        rclone.copy(
            rclone.bucket(store, kept["prefix"], remote="kept"),
            rclone.bucket(target),
            choice="missing" if rclone.holds_objects(target) else "everything",
            processes=job.processes,
            jobs=job.jobs,
            seconds=job.seconds,
        )


def _store(job: Job) -> ObjectStore:
    if job.store is None:
        raise HarnessError(
            "the object store beside the deployment", seen="none", remedy="a method that keeps its copy there needs one"
        )
    return job.store


def _pointer(path: Path) -> dict[str, str]:
    try:
        value: dict[str, str] = json.loads(path.read_text("utf-8"))
        if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("bucket", "prefix")):
            raise ValueError("it names no bucket and prefix")
    except (OSError, ValueError) as problem:
        raise HarnessError(f"pointer {path}", seen=str(problem), remedy="fetch the backup again") from None
    return value


METHOD: Final = RcloneBucket()

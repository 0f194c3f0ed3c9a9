"""Restoring what was fetched into a sandbox, by its form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from checks.inventories import Inventory, ObjectEntry, read_inventory, write_inventory
from checks.objects import inventory_of_directory, take_inventory
from drills.sources.contract import Fetched
from drills.sources.logical import restore_dump
from drills.sources.physical import start_on_files
from fixtures.providers.sandbox import Sandbox
from fixtures.rclone import bucket, copy, directory
from reports.records import Finding, HarnessError

READERS = 8


def put_back_database(fetched: Fetched, sandbox: Sandbox, *, jobs: int, seconds: float) -> list[Finding]:
    """Restore a database into the sandbox: what its backup lacked on the way is found, and made up for.

    Args:
        jobs: how many may restore at once; seconds: how long one command may take.

    Returns:
        What was wrong where it was kept, and what the restore had to do without: ``ROLE-ABSENT``, for one, where the
        backup holds objects of roles that it does not bring: in earnest they would be missed.

    Raises:
        HarnessError: a tool failed; what it said is in the message.
    """
    restore = start_on_files if fetched.form == "files" else restore_dump
    return [*fetched.findings, *restore(fetched, sandbox, jobs=jobs, seconds=seconds)]


def put_back_objects(fetched: Fetched, sandbox: Sandbox, *, jobs: int, seconds: float) -> None:
    """Copy every object into the sandbox's bucket, from the directory or from the store where they are kept.

    Raises:
        CommandFailed: something could not be read or written.
    """
    kept = directory(fetched.place)
    if fetched.store is not None:
        kept = bucket(fetched.store, fetched.prefix, remote="kept")
    copy(
        kept, bucket(sandbox.objects), choice="everything", processes=sandbox.processes, jobs=jobs, seconds=seconds,
        retries=3 if fetched.store is not None else 1,
    )  # fmt: skip


def inventory_of(fetched: Fetched, path: Path) -> Inventory:
    """The inventory of the objects that were fetched, wherever they lie, by the keys that they come back under.

    Args:
        path: the file to write.

    Raises:
        HarnessError: one of them cannot be read.
    """
    if fetched.store is None:
        return inventory_of_directory(fetched.place, path, workers=4)
    store, prefix = fetched.store, f"{fetched.prefix}/" if fetched.prefix else ""
    whole = path.with_name(f"whole-{path.name}")
    keys = (str(item.object_name) for item in store.client().list_objects(store.bucket, prefix=prefix, recursive=True))
    take_inventory(
        store.client(connections=READERS), store.bucket, whole, describe=frozenset(), workers=READERS, keys=keys
    )

    def shortened() -> Iterator[ObjectEntry]:
        # What the keys begin with is the same for all, so their order stays.
        for entry in read_inventory(whole):
            yield ObjectEntry(key=entry.key.removeprefix(prefix), size=entry.size, sha256=entry.sha256)

    try:
        return write_inventory(path, shortened())
    finally:
        whole.unlink()


def require_room(sandbox: Path, needed: int) -> None:
    """See that what comes back has room.

    Raises:
        HarnessError: it has not.
    """
    free = shutil.disk_usage(sandbox).free
    if free < needed:
        raise HarnessError(
            f"room for the sandbox at {sandbox}",
            seen=f"{free >> 20:,} MiB free, {needed >> 20:,} MiB needed",
            remedy="name a larger disk by --work-directory",
        )

"""Whether a set's copy of the bucket holds what lay in the bucket all the while: seen before anything is struck.

A copy is no witness to its own completeness: a tool may pass over a key that it cannot carry, or give it another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from checks.checked import checked
from checks.differences import Cases
from checks.inventories import ObjectEntry, read_inventory, sorted_keys, write_inventory
from checks.objects import list_objects, merged, take_inventory
from drills.across_stores import objects_of
from drills.contract import ListsCopy
from drills.site import Site
from fixtures.backup_set import BackupSet
from fixtures.providers.attached.destroyable import DestroyableDeployment
from reports.records import Finding


def list_before(site: Site, number: int) -> Path | None:
    """The bucket's listing before it is first copied; none where nothing tells what the copy holds."""
    method, store = site.scenario.objects, site.deployment.objects
    if not method.plain and not isinstance(method, ListsCopy):
        return None
    return list_objects(store.client(), store.bucket, site.directory / f"objects-before-{number}.jsonl").path


def require_copied(site: Site, backup: BackupSet, before: Path | None, number: int) -> None:
    """See that every key that the bucket had ``before`` and has now is in the set, with its size where it is unchanged.

    Of somebody else's deployment, see besides that no object has tags, which no copy here keeps.

    Raises:
        Failure: one is not; a restore of this set would lose it.
        HarnessError: the bucket or the copy cannot be read.
    """
    store, scratch = site.deployment.objects, site.directory
    if before is not None:
        with checked(site.journal, site.id, "backup holds the bucket") as check:
            copy = _list_copy(site, backup, scratch / f"objects-of-the-copy-{number}.jsonl")
            now = list_objects(store.client(), store.bucket, scratch / f"objects-after-{number}.jsonl").path
            check.findings, check.looked_at = lacking(before, now, copy)
        check.require()
    if isinstance(site.deployment, DestroyableDeployment):
        with checked(site.journal, site.id, "no object has tags") as check:
            read = take_inventory(
                store.client(connections=8),
                store.bucket,
                scratch / f"objects-tags-{number}.jsonl",
                describe=frozenset({"tags"}),
                workers=8,
            )
            tagged = Cases()
            for entry in read_inventory(read.path):
                if entry.tags:
                    tagged.add(entry.size, f"{entry.key} has tags, and the copy keeps none")
            check.looked_at = {"objects": read.count}
            check.findings = tagged.findings("OBJECT-DESCRIPTION-ALTERED", "tags")
        check.require()


def lacking(before: Path, now: Path, copy: Path) -> tuple[list[Finding], dict[str, int]]:
    """What a copy lacks or holds in another size of the objects that two listings both have; and how many those are."""
    both = copy.with_name(f"{copy.stem}-both.jsonl")

    def stayed() -> Iterator[ObjectEntry]:
        for then, after in merged(read_inventory(before), read_inventory(now)):
            if then is not None and after is not None:
                # What was written over meanwhile may have either size.
                yield after if then == after else ObjectEntry(key=after.key, size=-1, sha256="")

    absent, other = Cases(), Cases()
    count = write_inventory(both, stayed()).count
    for expected, held in merged(read_inventory(both), read_inventory(copy)):
        if expected is None:
            continue
        if held is None:
            absent.add(max(expected.size, 0), f"{expected.key!r}, which the copy lacks")
        elif expected.size not in (-1, held.size):
            other.add(abs(held.size - expected.size), f"{expected.key!r} ({expected.size} bytes, copied {held.size})")
    found = [*absent.findings("OBJECT-LOST", "backup"), *other.findings("OBJECT-ALTERED", "backup")]
    return found, {"objects": count}


def _list_copy(site: Site, backup: BackupSet, path: Path) -> Path:
    method = site.scenario.objects
    if isinstance(method, ListsCopy):
        found = method.list_copy(backup.place("objects"), site.job(site.profile.backup_limit_ns))
        # No key holds a NUL: sorted with its size behind it, a key stays in its place.
        lines = sorted_keys((f"{key}\0{size}" for key, size in found), scratch=site.directory)
        pairs = (line.split("\0") for line in lines)
        write_inventory(path, (ObjectEntry(key=key, size=int(size), sha256="") for key, size in pairs))
    else:
        write_inventory(path, objects_of(backup))
    return path

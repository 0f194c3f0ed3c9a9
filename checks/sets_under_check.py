"""The backup sets that a check looks at, and a copy of them to be broken."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks.checked import Check
from checks.conformance.subject import Subject
from checks.looking_inside import Looked, Means
from fixtures.backup_set import FILES, MANIFEST, NOTED, BackupPlaces, BackupSet, note_manifest, write_manifest
from reports.records import NANOSECONDS

# What a manifest says of its files, which is found anew whenever it is written.
FOUND = ("schema", "components", "files_sha256")


def sets_of(subject: Subject, check: Check) -> list[BackupSet]:
    """The backup sets, the newest name last; says so where there is nothing to look at."""
    if (places := subject.sets()) is None:
        reason = "backup.sets in the profile names no directory with backup sets"
        check.not_tested.append({"what": "backup sets", "reason": reason})
        return []
    return places.every()


def means_of(subject: Subject) -> Means:
    """What there is to look into backups with."""
    return Means(
        processes=subject.deployment.processes,
        tools=subject.deployment.database.tools,
        scratch=subject.directory,
        seconds=subject.profile.backup_limit_ns / NANOSECONDS,
    )


def say_what_stayed_closed(check: Check, looked: Looked, *, encrypted: bool = True) -> None:
    """Tell, by form, how many files could not be looked into."""
    for form, count in looked.closed.items():
        check.not_tested.append({"what": f"{count} files of the backup sets", "reason": f"not looked into: {form}"})
    for form, count in looked.encrypted.items() if encrypted else ():
        check.not_tested.append({"what": f"{count} files of the backup sets", "reason": f"encrypted: {form}"})


@contextlib.contextmanager
def broken(subject: Subject) -> Iterator[tuple[Subject, BackupSet]]:
    """A subject with copies of the backup sets, and the newest of them, to be broken.

    The copies share their bytes with the originals: replace files, never write into them.
    """
    places = subject.sets()
    assert places is not None, "a deployment of the suite's own has backup sets"
    copy = BackupPlaces(sets=subject.directory / "broken" / "sets", apart=subject.directory / "broken" / "sets-apart")
    try:
        for original, target in ((places.sets, copy.sets), (places.apart, copy.apart)):
            shutil.copytree(original, target, copy_function=_link, symlinks=True)
        yield dataclasses.replace(subject, sets=lambda: copy), copy.every()[-1]
    finally:
        shutil.rmtree(copy.sets.parent, ignore_errors=True)


def _link(source: str, target: str) -> None:
    os.link(source, target)


def replace(path: Path, content: bytes) -> None:
    """Another content in the place of a file, that shares nothing with the original."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def rewrite_manifest(backup: BackupSet, **changes: Any) -> None:
    """Write the manifest anew, of the files as they are, with other words besides."""
    about = {key: value for key, value in backup.manifest().items() if key not in FOUND}
    for path in (backup.directory / MANIFEST, backup.directory / FILES, backup.apart / NOTED):
        path.unlink(missing_ok=True)
    write_manifest(backup, {**about, **changes})
    note_manifest(backup)

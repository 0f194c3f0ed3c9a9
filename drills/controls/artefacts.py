"""Breakages of the backup's own files: links to them, of which only the broken one is a copy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import heapq
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from psycopg import sql

from checks.database import Fingerprint, compare, fingerprint
from drills.contract import RestoresBeside
from drills.controls.bench import Bench, Control, Seen
from fixtures.backup_set import FILES, MANIFEST, BackupSet, check_manifest, sha256_of
from fixtures.processes import CommandFailed
from reports.records import Finding, canonical

BESIDE: Final = "enprivacy_drill_beside"
COMPONENT: Final = "database"
# How many of the set's files stand for all of them, and how large they may be: they are copied, each time.
SAMPLE: Final = 3
LARGEST: Final = 1 << 20
Mutation = Callable[[Path], object]


def controls(bench: Bench) -> Iterator[Control]:
    """Each way to break a backup set, and a restore of one that was broken before its manifest was written."""
    yield Control(
        name="healthy twin of the artefacts",
        breaks="nothing",
        every_drill=True,
        look=lambda: _with_artefact(bench, lambda path: None),
    )
    for name, breaks, code, mutate in (
        ("dump cut short", "the largest file of data cut in half", "BACKUP-ARTEFACT-ALTERED", _cut),
        ("dump altered", "one byte changed, the length kept", "BACKUP-ARTEFACT-ALTERED", _flip),
        ("dump incomplete", "a file removed", "BACKUP-ARTEFACT-MISSING", Path.unlink),
        ("dump with more in it", "a file added", "BACKUP-ARTEFACT-UNEXPECTED", _add),
    ):
        look = functools.partial(_with_artefact, bench, mutate)
        yield Control(name=name, breaks=breaks, expects=(code,), every_drill=True, look=look)
    if isinstance(bench.method, RestoresBeside):
        yield Control(
            name="healthy twin of the dump",
            breaks="nothing, restored beside",
            look=lambda: _restore_beside(bench, lambda path: None),
        )
        yield Control(
            name="cut dump restored",
            breaks="a dump cut in half before its manifest was written, restored all the same",
            expects=("RESTORE-FAILED", "ROWS-LOST"),
            look=lambda: _restore_beside(bench, _cut),
        )


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _add(path: Path) -> None:
    path.with_name(path.name + ".added").write_bytes(b"nobody wrote this")


@contextlib.contextmanager
def _directory(bench: Bench) -> Iterator[BackupSet]:
    copy = BackupSet(directory=bench.directory / "control-backup", apart=bench.directory / "control-backup-apart")
    copy.place(COMPONENT).mkdir(parents=True)
    try:
        yield copy
    finally:
        shutil.rmtree(copy.directory, ignore_errors=True)


def _with_artefact(bench: Bench, mutate: Mutation) -> Seen:
    """A set of a few of the backup's files under a manifest of their own, the largest of them broken."""
    with _directory(bench) as copy:
        sample = _sample(bench.backup)
        if not sample:
            return Seen()
        for path, _ in sample:
            place = copy.directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bench.backup.directory / path, place)
        (copy.directory / FILES).write_bytes(b"".join(line for _, line in sorted(sample)))
        manifest = bench.backup.manifest() | {"files_sha256": sha256_of(copy.directory / FILES)}
        (copy.directory / MANIFEST).write_bytes(canonical(manifest))
        victim = sample[0][0]
        mutate(copy.directory / victim)
        findings = check_manifest(copy, contents_of=frozenset({COMPONENT}), components=(COMPONENT,))
        return Seen(victim=victim, findings=findings)


def _sample(backup: BackupSet) -> list[tuple[str, bytes]]:
    """(path, line of the list of files) of the database's largest files that are not too large to copy."""
    found: list[tuple[int, str, bytes]] = []
    with (backup.directory / FILES).open("rb") as file:
        for line in file:
            entry = json.loads(line)
            if entry["path"].startswith(f"{COMPONENT}/") and entry["size"]:
                # The smallest one of those that are too large comes after all that are not.
                size = entry["size"] if entry["size"] <= LARGEST else -entry["size"]
                found = heapq.nlargest(SAMPLE, [*found, (size, entry["path"], line)])
    small = [each for each in found if each[0] > 0]
    return [(path, line) for _, path, line in small or found[:1]]


def _restore_beside(bench: Bench, mutate: Mutation) -> Seen:
    """What the manifest cannot tell, the restore or the comparison after it must."""
    assert isinstance(bench.method, RestoresBeside)
    database = bench.deployment.database
    with _directory(bench) as copy, database.connect("postgres") as connection:
        place = copy.place(COMPONENT)
        shutil.copytree(bench.backup.place(COMPONENT), place, copy_function=os.link, dirs_exist_ok=True)
        victim = max((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = victim.with_name(victim.name + ".copy")
        shutil.copy(victim, content)
        content.replace(victim)
        mutate(victim)
        name = sql.Identifier(BESIDE)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        try:
            bench.method.restore_beside(place, database, BESIDE, bench.job)
            findings = _compare_rows(bench.expected.database, _beside(bench))
        except CommandFailed as problem:
            findings = [Finding(code="RESTORE-FAILED", seen=str(problem))]
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        return Seen(victim=victim.name, findings=findings)


def _beside(bench: Bench) -> Fingerprint:
    """The database restored beside."""
    return fingerprint(
        lambda: bench.deployment.database.connect(BESIDE), held=None, jobs=bench.job.jobs, key=bench.expected.key
    )


def _compare_rows(expected: Fingerprint, observed: Fingerprint) -> list[Finding]:
    """What the tables of one database lack beside another's; settings, grants and sequences are not asked for."""
    return compare(_only_tables(expected), _only_tables(observed))


def _only_tables(fingerprint: Fingerprint) -> Fingerprint:
    tables = fingerprint.catalogue.get("table", {})
    digests = {name: digest for name, digest in fingerprint.tables.items() if name in tables}
    return dataclasses.replace(fingerprint, catalogue={"table": tables}, tables=digests, sequences={})

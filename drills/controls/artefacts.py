"""Breakages of the backup's own files: links to them, of which only the broken one is a copy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from psycopg import sql

from checks.database import Fingerprint, compare, fingerprint
from drills.contract import RestoresBeside
from drills.controls.bench import Bench, Control, Seen
from fixtures.backup_set import FILES, MANIFEST, BackupSet, check_manifest
from fixtures.processes import CommandFailed
from reports.records import Finding

BESIDE: Final = "enprivacy_drill_beside"


def controls(bench: Bench) -> Iterator[Control]:
    """Each way to break a backup set, and a restore of one that was broken before its manifest was written."""
    for name, breaks, code, mutate in (
        ("dump cut short", "the largest file of data cut in half", "BACKUP-ARTEFACT-ALTERED", _cut),
        ("dump altered", "one byte changed, the length kept", "BACKUP-ARTEFACT-ALTERED", _flip),
        ("dump incomplete", "a file removed", "BACKUP-ARTEFACT-MISSING", Path.unlink),
    ):
        look = functools.partial(_with_artefact, bench, mutate)
        yield Control(name=name, breaks=breaks, expects=(code,), look=look)
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


@contextlib.contextmanager
def _backup_copy(bench: Bench) -> Iterator[tuple[BackupSet, Path]]:
    """The database's part of the backup set: links to its files, and a real copy of the one that is broken."""
    copy = BackupSet(directory=bench.directory / "control-backup", apart=bench.directory / "control-backup-apart")
    place = copy.place("database")
    try:
        shutil.copytree(bench.backup.place("database"), place, copy_function=os.link)
        for name in (MANIFEST, FILES):
            shutil.copy(bench.backup.directory / name, copy.directory / name)
        victim = bench.method.bulk(place)
        content = victim.with_name(victim.name + ".copy")
        shutil.copy(victim, content)
        content.replace(victim)
        yield copy, victim
    finally:
        shutil.rmtree(copy.directory, ignore_errors=True)


def _with_artefact(bench: Bench, mutate: Callable[[Path], object]) -> Seen:
    with _backup_copy(bench) as (copy, victim):
        mutate(victim)
        findings = check_manifest(copy, contents_of=frozenset({"database"}), components=("database",))
        return Seen(victim=victim.name, findings=findings)


def _restore_beside(bench: Bench, mutate: Callable[[Path], object]) -> Seen:
    """What the manifest cannot tell, the restore or the comparison after it must."""
    assert isinstance(bench.method, RestoresBeside)
    database = bench.deployment.database
    with _backup_copy(bench) as (copy, victim), database.connect("postgres") as connection:
        mutate(victim)
        name = sql.Identifier(BESIDE)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        try:
            bench.method.restore_beside(copy.place("database"), database, BESIDE, bench.job)
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

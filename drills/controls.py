"""Negative controls: the proof, in every run, that the checks can fail.

Each control breaks a throw-away copy of what was just restored, in one known way, and looks at it with the very
functions that judged the restore. One that sees nothing fails the run. The healthy twin is such a copy left alone.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import minio
import minio.commonconfig
import psycopg
from psycopg import sql

from checks.configuration import check_sealed, compare_configuration, digest_configuration
from checks.database import Fingerprint, compare, fingerprint, fingerprint_on, sequences_behind_columns
from checks.inventories import ObjectEntry, read_inventory, write_inventory
from checks.objects import compare_inventories, merged, take_inventory
from checks.snapshot import read_sequences, reading
from drills.breakages import BREAKAGES, Breakage
from drills.contract import DatabaseMethod, Job, RestoresBeside
from drills.verification import Compared, WhatWasHeld, ours, references
from fixtures.backup_set import FILES, MANIFEST, BackupSet, check_manifest
from fixtures.deployment import Deployment
from fixtures.processes import CommandFailed
from reports.records import Finding, Journal, read_lines

COPY: Final = "enprivacy_drill_copy"
BESIDE: Final = "enprivacy_drill_beside"
SCRATCH_BUCKET: Final = "enprivacy-drill-copy"
SAMPLE: Final = 4
HEALTHY: Final = "healthy twin"
HEALTHY_OBJECTS: Final = "healthy twin of the objects"
HEALTHY_LEDGER: Final = "healthy twin of the ledger"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the controls work, and what the copies are compared with."""

    deployment: Deployment
    journal: Journal
    drill: str
    backup: BackupSet
    expected: WhatWasHeld
    method: DatabaseMethod
    twin: Fingerprint
    compared: Compared
    directory: Path
    job: Job
    # One connection for all breakages: a new one would have to learn the whole catalogue again.
    connection: psycopg.Connection[Any]

    def connect(self) -> psycopg.Connection[Any]:
        """A superuser's connection to the copy of the database."""
        return self.deployment.database.connect(COPY)


@dataclasses.dataclass(kw_only=True)
class Seen:
    """What a control's look at the copy gave; ``victim`` says what was broken, empty where there was nothing to."""

    victim: str = ""
    findings: Sequence[Finding] = ()


def prove(
    *,
    deployment: Deployment,
    journal: Journal,
    drill: str,
    backup: BackupSet,
    expected: WhatWasHeld,
    compared: Compared,
    method: DatabaseMethod,
    observed: Path,
    account: Callable[[Iterable[Mapping[str, Any]]], list[Finding]],
    directory: Path,
    job: Job,
) -> None:
    """Run every control that applies and journal each; what could not be broken here is journalled as not tested.

    Args:
        observed: the ledger's writes as found after recovery.
        account: what the ledger's accounting finds in such lines.
    """
    started = journal.clock.now()
    with _database_copy(deployment), deployment.database.connect(COPY) as connection:
        bench = Bench(
            deployment=deployment,
            journal=journal,
            drill=drill,
            backup=backup,
            expected=expected,
            method=method,
            twin=fingerprint(lambda: deployment.database.connect(COPY), held=None, jobs=job.jobs, key=expected.key),
            compared=compared,
            directory=directory,
            job=job,
            connection=connection,
        )
        lanes = [
            [*_database_controls(bench)],
            [
                *_object_controls(bench),
                *_configuration_controls(bench),
                *_artefact_controls(bench),
                *_ledger_controls(observed, account),
            ],
        ]
        # What breaks the database's copy goes one after the other; the rest touches nothing of it and runs beside.
        with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
            untested = [name for names in pool.map(functools.partial(_run_all, bench), lanes) for name in names]
    journal.write(
        "check",
        drill=drill,
        check="controls that apply",
        started_ns=started,
        ended_ns=journal.clock.now(),
        looked_at={"controls": sum(len(lane) for lane in lanes)},
        findings=[],
        error="",
        not_tested=[
            {"what": f"control {name}", "reason": "nothing of that kind is here to break"} for name in untested
        ],
    )


Look = Callable[[], Seen]
Control = tuple[str, str, tuple[str, ...], Look]


def _run_all(bench: Bench, controls: Sequence[Control]) -> list[str]:
    """Run controls one after the other; the names of those that found nothing to break."""
    return [control[0] for control in controls if not _run(bench, *control)]


def _run(bench: Bench, name: str, breaks: str, expects: tuple[str, ...], look: Look) -> bool:
    """Run one control and journal it; whether there was something to break."""
    started, error, seen = bench.journal.clock.now(), "", Seen()
    try:
        seen = look()
    except Exception as problem:
        # A control that breaks has proved nothing, whatever broke it.
        error = f"{type(problem).__name__}: {problem}"
    if not seen.victim and not error:
        return False
    codes = sorted({finding.code for finding in seen.findings if finding.kind.severity == "failure"})
    caught = not error and (bool(set(codes) & set(expects)) if expects else not codes)
    bench.journal.write(
        "control",
        drill=bench.drill,
        control=name,
        breaks=f"{breaks}: {seen.victim}"[:500] if seen.victim else breaks,
        expects=list(expects),
        saw=codes,
        caught=caught,
        error=error[:2000],
        started_ns=started,
        ended_ns=bench.journal.clock.now(),
    )
    return True


@contextlib.contextmanager
def _database_copy(deployment: Deployment) -> Iterator[None]:
    """A copy of the restored database, with the settings, privileges and comment that a template does not pass on."""
    database = deployment.database
    copy, original = sql.Identifier(COPY), sql.Identifier(database.name)
    with database.connect("postgres") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (database.name,),
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                copy, original, sql.Identifier(_owner(connection, database.name))
            )
        )
        try:
            names = {"copy": COPY, "original": database.name}
            connection.execute(
                "UPDATE pg_database c SET datacl = o.datacl, datconnlimit = o.datconnlimit FROM pg_database o"
                " WHERE c.datname = %(copy)s AND o.datname = %(original)s",
                names,
            )
            connection.execute(
                "INSERT INTO pg_db_role_setting (setdatabase, setrole, setconfig)"
                " SELECT c.oid, s.setrole, s.setconfig FROM pg_db_role_setting s"
                " JOIN pg_database o ON o.oid = s.setdatabase AND o.datname = %(original)s"
                " JOIN pg_database c ON c.datname = %(copy)s",
                names,
            )
            connection.execute(
                "INSERT INTO pg_shdescription (objoid, classoid, description)"
                " SELECT c.oid, s.classoid, s.description FROM pg_shdescription s"
                " JOIN pg_database o ON o.oid = s.objoid AND o.datname = %(original)s"
                " JOIN pg_database c ON c.datname = %(copy)s WHERE s.classoid = 'pg_database'::regclass",
                names,
            )
            yield
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(copy))


def _owner(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (name,)).fetchone()
    assert row is not None
    return str(row[0])


# Database.


def _database_controls(bench: Bench) -> Iterator[Control]:
    yield HEALTHY, "nothing", (), lambda: _healthy(bench)
    for breakage in BREAKAGES:
        yield breakage.name, breakage.breaks, breakage.expects, functools.partial(_break, bench, breakage)
    for name, breaks, expects, behind in (
        ("sequence set back", "a sequence set before the position it had", ("SEQUENCE-SET-BACK",), False),
        ("sequence behind its column", "a sequence set under a value in use", ("SEQUENCE-BEHIND-COLUMN",), True),
    ):
        yield name, breaks, expects, functools.partial(_move_sequence, bench, behind_column=behind)


def _healthy(bench: Bench) -> Seen:
    """The untouched copy: its structure as the backup held it, its contents read twice over, its sequences."""
    with bench.connection.transaction(force_rollback=True):
        again = fingerprint_on(bench.connection, key=bench.expected.key, tables=list(bench.twin.tables))
    structure = compare(
        dataclasses.replace(bench.expected.database, tables={}, sequences={}),
        dataclasses.replace(bench.twin, tables={}, sequences={}),
    )
    with reading(bench.connect, snapshot=None) as connection:
        behind = sequences_behind_columns(connection)
    contents = compare(bench.twin, again, matviews_refreshed=False)
    return Seen(victim="the copy as it is", findings=[*structure, *contents, *behind])


def _break(bench: Bench, breakage: Breakage) -> Seen:
    """Break the copy in a transaction, look at it from inside, and roll back."""
    connection = bench.connection
    for victim, *tables in connection.execute(breakage.victims.encode()).fetchall():
        touched = [str(tables[0])] if breakage.table else []
        before = dataclasses.replace(bench.twin, tables={table: bench.twin.tables[table] for table in touched})
        statement = breakage.break_it.replace("{table}", touched[0] if touched else "").replace("{}", str(victim))
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL client_min_messages = error")
                if breakage.without_triggers:
                    connection.execute("SET LOCAL session_replication_role = replica")
                changed = connection.execute(statement.encode()).rowcount
                after = fingerprint_on(connection, key=bench.expected.key, tables=touched)
        except psycopg.Error:
            continue  # a constraint protects this victim: try the next
        if changed != 0:
            return Seen(victim=str(victim), findings=compare(before, after))
    return Seen()


def _move_sequence(bench: Bench, *, behind_column: bool) -> Seen:
    """Set a sequence back on the copy, look, and put it where it was: positions are no part of a transaction."""
    moved = [name for name, position in sorted(bench.twin.sequences.items()) if position.next > position.increment > 0]
    for name in moved:
        with bench.connect() as connection:
            connection.execute("SELECT setval(%s, 1, false)", (name,))
            try:
                with reading(bench.connect, snapshot=None) as reader:
                    behind = sequences_behind_columns(reader)
                    positions = read_sequences(reader)
            finally:
                connection.execute("SELECT setval(%s, %s, false)", (name, bench.twin.sequences[name].next))
        if behind_column and not behind:
            continue  # it feeds no filled column
        after = dataclasses.replace(bench.twin, sequences=positions)
        return Seen(victim=name, findings=behind if behind_column else compare(bench.twin, after))
    return Seen()


# Objects: a few are copied into a bucket of their own, broken there, and put in their place in the inventory.


def _object_controls(bench: Bench) -> Iterator[Control]:
    lost = ("OBJECT-LOST",)
    yield HEALTHY_OBJECTS, "nothing", (), lambda: _with_objects(bench, lambda client, keys: "the copies as they are")
    yield "object lost", "an object removed", lost, lambda: _with_objects(bench, _remove)
    yield "object altered", "one byte of an object changed", ("OBJECT-ALTERED",), lambda: _with_objects(bench, _alter)
    yield "object added", "an object that nobody wrote", ("OBJECT-UNEXPECTED",), lambda: _with_objects(bench, _add)
    yield (
        "reference dangling",
        "an object removed that a row refers to",
        ("REFERENCE-DANGLING",),
        lambda: _with_objects(bench, _remove, refer=True),
    )
    yield (
        "reference altered",
        "one byte changed of an object that a row refers to",
        ("REFERENCE-ALTERED",),
        lambda: _with_objects(bench, _alter, refer=True),
    )


Mutation = Callable[[minio.Minio, list[str]], str]


def _remove(client: minio.Minio, keys: list[str]) -> str:
    client.remove_object(SCRATCH_BUCKET, keys[0])
    return keys[0]


def _alter(client: minio.Minio, keys: list[str]) -> str:
    response = client.get_object(SCRATCH_BUCKET, keys[0])
    try:
        content = bytearray(response.read())
    finally:
        response.close()
        response.release_conn()
    content[len(content) // 2] ^= 1
    client.put_object(SCRATCH_BUCKET, keys[0], io.BytesIO(bytes(content)), len(content))
    return keys[0]


def _add(client: minio.Minio, keys: list[str]) -> str:
    key = keys[0] + "-added"
    client.put_object(SCRATCH_BUCKET, key, io.BytesIO(b"nobody wrote this"), 17)
    return key


def _with_objects(bench: Bench, mutate: Mutation, *, refer: bool = False) -> Seen:
    """Copy a sample of the restored objects, break one, and judge the bucket's inventory with it in its place."""
    store = bench.deployment.objects
    client = store.client(connections=4)
    sample = _referenced(bench) if refer else [entry.key for entry in _sample(bench)]
    if not sample:
        return Seen()
    client.make_bucket(SCRATCH_BUCKET)
    try:
        for key in sample:
            client.copy_object(SCRATCH_BUCKET, key, minio.commonconfig.CopySource(store.bucket, key))
        victim = mutate(client, sample)
        scratch = take_inventory(
            client, SCRATCH_BUCKET, bench.directory / "control-sample.jsonl", describe=frozenset(), workers=4
        )
    finally:
        for item in list(client.list_objects(SCRATCH_BUCKET, recursive=True)):
            client.remove_object(SCRATCH_BUCKET, str(item.object_name))
        client.remove_bucket(SCRATCH_BUCKET)
    observed = bench.directory / "control-observed.jsonl"
    write_inventory(observed, _with_sample(bench.compared.observed_objects, scratch.path, set(sample)))
    if refer:
        findings, _ = references(bench.deployment, observed)
    else:
        findings = compare_inventories(
            bench.compared.expected_objects, observed, explained=bench.compared.known_since.__contains__
        )
    return Seen(victim=victim, findings=findings)


def _with_sample(observed: Path, sample: Path, taken: set[str]) -> Iterator[ObjectEntry]:
    """The bucket's inventory with the sampled objects as they are now in the scratch bucket."""
    for kept, replaced in merged(read_inventory(observed), read_inventory(sample)):
        if replaced is not None:
            yield replaced
        elif kept is not None and kept.key not in taken:
            yield kept


def _sample(bench: Bench) -> list[ObjectEntry]:
    """The first few restored objects that hold something and that are not the ledger's own."""
    entries = (entry for entry in read_inventory(bench.compared.expected_objects) if entry.size and not ours(entry.key))
    return list(itertools.islice(entries, SAMPLE))


def _referenced(bench: Bench) -> list[str]:
    """Keys that rows of the restored database refer to, with the digest that the object must have."""
    query = (
        f"SELECT key FROM ({bench.deployment.references_query}) AS r (key, sha256, c, d, e) WHERE sha256 IS NOT NULL"
    )
    with bench.deployment.database.connect() as connection:
        return [str(key) for (key,) in connection.execute(f"{query} ORDER BY 1 LIMIT {SAMPLE}".encode())]


# Configuration.


def _configuration_controls(bench: Bench) -> Iterator[Control]:
    values = bench.deployment.configuration()
    secret = [name for name in sorted(values) if "ENCRYPTION_KEY" in name]

    def compared_with(changed: dict[str, str], victim: str) -> Seen:
        digests = digest_configuration(changed, bench.expected.key)
        return Seen(victim=victim, findings=compare_configuration(bench.expected.configuration, digests))

    def wrong_secret() -> Seen:
        if not secret:
            return Seen()
        # A key of the same form that seals and opens, only not what was sealed before.
        wrong = values | {secret[0]: base64.b64encode(os.urandom(32)).decode()}
        with bench.connect() as connection:
            findings, counts = check_sealed(bench.deployment.sealed_values(connection, wrong))
        return Seen(victim=secret[0] if counts["tried"] else "", findings=findings)

    last = max(values)
    yield "encryption secret wrong", "the column key replaced by another", ("SECRET-USELESS",), wrong_secret
    yield (
        "configuration variable lost",
        "a variable taken out",
        ("CONFIGURATION-LOST",),
        lambda: compared_with({name: value for name, value in values.items() if name != last}, last),
    )
    yield (
        "configuration value altered",
        "a value changed",
        ("CONFIGURATION-ALTERED",),
        lambda: compared_with(values | {last: values[last] + "x"}, last),
    )


# The backup's own files.


def _artefact_controls(bench: Bench) -> Iterator[Control]:
    altered = ("BACKUP-ARTEFACT-ALTERED",)
    yield "dump cut short", "the largest file of data cut in half", altered, lambda: _with_artefact(bench, _cut)
    yield "dump altered", "one byte of the dump changed, its length kept", altered, lambda: _with_artefact(bench, _flip)
    yield (
        "dump incomplete",
        "a file of the dump removed",
        ("BACKUP-ARTEFACT-MISSING",),
        lambda: _with_artefact(bench, lambda path: path.unlink()),
    )
    if isinstance(bench.method, RestoresBeside):
        yield (
            "cut dump restored",
            "a dump cut in half before its manifest was written, restored all the same",
            ("RESTORE-FAILED", "ROWS-LOST"),
            lambda: _restore_cut_dump(bench),
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


def _with_artefact(bench: Bench, mutate: Callable[[Path], None]) -> Seen:
    with _backup_copy(bench) as (copy, victim):
        mutate(victim)
        findings = check_manifest(copy, contents_of=frozenset({"database"}), components=("database",))
        return Seen(victim=victim.name, findings=findings)


def _restore_cut_dump(bench: Bench) -> Seen:
    """What the manifest cannot tell, the restore or the comparison after it must."""
    assert isinstance(bench.method, RestoresBeside)
    database = bench.deployment.database
    with _backup_copy(bench) as (copy, victim), database.connect("postgres") as connection:
        _cut(victim)
        name = sql.Identifier(BESIDE)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        try:
            bench.method.restore_beside(copy.place("database"), database, BESIDE, bench.job)
            observed = fingerprint(
                lambda: database.connect(BESIDE), held=None, jobs=bench.job.jobs, key=bench.expected.key
            )
            findings = compare(bench.expected.database, observed)
        except CommandFailed as problem:
            findings = [Finding(code="RESTORE-FAILED", seen=str(problem))]
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        return Seen(victim=victim.name, findings=findings)


# The ledger's accounting.


def _ledger_controls(
    observed: Path, account: Callable[[Iterable[Mapping[str, Any]]], list[Finding]]
) -> Iterator[Control]:
    """Damage what was observed of the ledger's writes: the accounting must see each."""
    lines = list(read_lines(observed))
    victim = next((line for line in lines if line["channel"] == "row"), None)

    def accounted(changed: Iterable[Mapping[str, Any]]) -> Seen:
        return Seen(victim=victim["id"] if victim else "", findings=account(changed) if victim else ())

    def replaced(**fields: str) -> list[Mapping[str, Any]]:
        return [{**line, **fields} if line is victim else line for line in lines]

    yield HEALTHY_LEDGER, "nothing", (), lambda: accounted(lines)
    yield (
        "early write lost",
        "the first recovered write taken away",
        ("WRITES-HOLE",),
        lambda: accounted(line for line in lines if line is not victim),
    )
    yield "write altered", "another digest", ("WRITE-ALTERED",), lambda: accounted(replaced(sha256="0" * 64))
    yield (
        "write doubled",
        "one write found twice",
        ("WRITE-DUPLICATED",),
        lambda: accounted([*lines, *(line for line in lines if line is victim)]),
    )
    yield (
        "write invented",
        "a write found that nobody attempted",
        ("WRITE-PHANTOM",),
        lambda: accounted([*lines, {"channel": "row", "id": "never-attempted", "sha256": "0" * 64}]),
    )

"""Restoring a dump: pg_dump's archives by ``pg_restore``, SQL by ``psql``; the first error ends either."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from drills.sources.contract import Fetched
from drills.sources.kinds import MAGIC, PACKED, kind_of, unpacked
from drills.sources.roles import make_up_for, roles_of
from drills.sources.script import Script, one_database, read_file
from fixtures.deployment import Database
from fixtures.processes import Processes
from fixtures.providers.sandbox import Sandbox
from fixtures.secret_file import secret_file
from reports.records import Finding, HarnessError

LARGE_OBJECTS: Final = re.compile(r"^\d+; \d+ \d+ BLOB(?: METADATA)? .* (?P<owner>\S+)$", re.MULTILINE)
IN_TABLESPACE: Final = re.compile(rb" TABLESPACE = [^ ;]+")
QUIET: Final = {"PGOPTIONS": "-c log_min_error_statement=panic"}
# What CREATE DATABASE says where this machine or this server's build does not have the locale.
NO_LOCALE: Final = (
    psycopg.errors.WrongObjectType,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.InvalidObjectDefinition,
)


def restore_dump(fetched: Fetched, sandbox: Sandbox, *, jobs: int, seconds: float) -> list[Finding]:
    """Restore a dump with the roles that came with it into the database of the deployment's name.

    Args:
        jobs: how many may restore at once; seconds: how long one command may take.

    Returns:
        ``ROLE-ABSENT`` and ``LOCALE-ABSENT``, where the restore had to do without.

    Raises:
        HarnessError: a tool failed; what it said is in the message.
    """
    database, processes = sandbox.database, sandbox.processes
    if fetched.roles is not None:
        _run_sql(roles_of(fetched.roles, database.user), database, "postgres", processes, seconds)
    scratch = sandbox.directory / "scratch"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if fetched.form == "archive":
            return _restore_archive(fetched, database, processes, scratch, jobs=jobs, seconds=seconds)
        return _restore_script(fetched, database, processes, scratch, seconds)
    finally:
        shutil.rmtree(scratch)


def _restore_archive(
    fetched: Fetched, database: Database, processes: Processes, scratch: Path, *, jobs: int, seconds: float
) -> list[Finding]:
    place, program = fetched.place, database.tools.path("pg_restore")
    schema = scratch / "schema.sql"
    processes.run([program, "--schema-only", "--create", "--file=-", place], timeout=seconds, stdout=schema)
    listed = processes.run([program, "--list", place], timeout=seconds)
    script = read_file(schema)
    owners = {match["owner"] for match in LARGE_OBJECTS.finditer(listed.output.read_text("utf-8", "replace"))}
    findings = _prepare(script, database, more_roles=owners - {"-"}, brought=fetched.roles is not None)
    if script.creates == database.name:
        findings += _create_as_told(script, database, processes, seconds)
    else:
        _create(database)
    processes.run(
        [
            program,
            *database.connection_arguments(),
            f"--dbname={database.name}",
            "--exit-on-error",
            # A tar archive cannot be read by several; a file of custom form and a directory can.
            *([f"--jobs={jobs}"] if place.is_dir() or _custom(place) else []),
            place,
        ],
        timeout=seconds,
        env=database.environment(),
    )
    return findings


def _restore_script(
    fetched: Fetched, database: Database, processes: Processes, scratch: Path, seconds: float
) -> list[Finding]:
    place = fetched.place
    if kind_of(place).what == "cluster":
        one_database(place, database.name, scratch / "one.sql")
        place = scratch / "one.sql"
    elif _packed(place):
        # Also to see that it can be unpacked to its end.
        read_file(place)
        with place.open("rb") as packed, (scratch / "plain.sql").open("wb") as target:
            shutil.copyfileobj(unpacked(packed), target, 1 << 20)
        place = scratch / "plain.sql"
    script = read_file(place)
    if script.creates not in ("", database.name):
        raise HarnessError(
            f"SQL dump {fetched.label}",
            seen=f"it makes a database {script.creates}, and the deployment's is {database.name}",
            remedy="name the place of this deployment's backups, or dump without --create",
        )
    findings = _prepare(script, database, brought=fetched.roles is not None)
    if not script.creates:
        _create(database)
    _run_script(place, database, "postgres" if script.creates else database.name, processes, seconds)
    return findings


def _prepare(script: Script, database: Database, *, more_roles: Iterable[str] = (), brought: bool) -> list[Finding]:
    """Make what the dump takes for granted: tablespaces, which lie within the data directory here, and roles."""
    with database.connect("postgres") as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        for name in sorted(script.tablespaces):
            connection.execute(sql.SQL("CREATE TABLESPACE {} LOCATION ''").format(sql.Identifier(name)))
    return make_up_for({*script.roles, *more_roles}, database, brought=brought)


def _create_as_told(script: Script, database: Database, processes: Processes, seconds: float) -> list[Finding]:
    """Make the database as the archive describes it: locale, owner, grants, settings, comment."""
    at = next(number for number, line in enumerate(script.about) if line.startswith(b"CREATE DATABASE "))
    findings = []
    with database.connect("postgres") as connection:
        try:
            connection.execute(IN_TABLESPACE.sub(b"", script.about[at]))
        except NO_LOCALE as problem:
            _create(database)
            told = str(problem).splitlines()[0]
            findings.append(Finding(code="LOCALE-ABSENT", seen=told, where=f"database {database.name}"))
    rest = b"\n".join(script.about[:at] + script.about[at + 1 :]) + b"\n"
    _run_sql(rest, database, "postgres", processes, seconds)
    return findings


def _create(database: Database) -> None:
    with database.connect("postgres") as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (database.name,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database.name)))


def _custom(place: Path) -> bool:
    with place.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _packed(place: Path) -> bool:
    with place.open("rb") as file:
        return file.read(8).startswith(tuple(PACKED))


def _run_sql(text: bytes, database: Database, name: str, processes: Processes, seconds: float) -> None:
    with secret_file(processes.logs) as place:
        place.write_bytes(text)
        _run_script(place, database, name, processes, seconds)


def _run_script(script: Path, database: Database, name: str, processes: Processes, seconds: float) -> None:
    processes.run(
        [
            database.tools.path("psql"),
            *database.connection_arguments(),
            f"--dbname={name}",
            "--no-psqlrc",
            "--quiet",
            # Without it psql exits 0 whatever went wrong.
            "--set=ON_ERROR_STOP=1",
            # A row's values, or a password, stand in an error's detail and context.
            "--set=VERBOSITY=terse",
            "--set=SHOW_CONTEXT=never",
        ],
        timeout=seconds,
        # An error would have the server log the statement, password verifier and all.
        env=database.environment() | QUIET,
        stdin=script,
        stdout=Path(os.devnull),
    )

"""``pg_dump`` in directory format, parallel, with the cluster's roles beside it, restored by ``pg_restore``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal

import pyrage

from drills.contract import Basis, Job
from fixtures.deployment import Database
from fixtures.postgres_tools import PostgresTools
from reports.records import HarnessError

DUMP: Final = "dump"
# A database dump carries no roles, memberships and role settings. They hold password verifiers, so they are encrypted.
ROLES: Final = "roles.sql.age"
MAKES: Final = re.compile(rb"CREATE DATABASE .*?( WITH TEMPLATE = .*;)\s*$")


class PgDump:
    """See ``drills.contract.DatabaseMethod``."""

    name = "pg_dump"
    basis: Basis = "snapshot"
    into: Literal["server", "files"] = "server"

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """Dump the database as of the exported snapshot, then the roles."""
        tools, environment = source.tools, source.environment()
        job.processes.run(
            [
                tools.path("pg_dump"),
                *source.connection_arguments(),
                f"--dbname={source.name}",
                "--format=directory",
                f"--jobs={job.jobs}",
                f"--compress={_compression(tools, job)}",
                f"--snapshot={job.snapshot}",
                "--lock-wait-timeout=60s",
                f"--file={target / DUMP}",
            ],
            timeout=job.seconds,
            env=environment,
        )
        plain = job.processes.logs / "roles.sql"
        os.close(os.open(plain, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        try:
            job.processes.run(
                [tools.path("pg_dumpall"), *source.connection_arguments(), "--globals-only"],
                timeout=job.seconds,
                env=environment,
                stdout=plain,
            )
            recipient = pyrage.x25519.Recipient.from_str(job.recipient)
            (target / ROLES).write_bytes(pyrage.encrypt(plain.read_bytes(), [recipient]))
        finally:
            plain.unlink()

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Restore the roles, then the database with its owner, grants and settings; the first error ends it."""
        self._restore_roles(backup, target, job)
        self._restore(backup, target, "postgres", job, "--create")

    def rehearse(self, backup: Path, target: Database, name: str, job: Job) -> None:
        """See ``drills.contract.Rehearses``: the statements that make the database are the dump's own."""
        self._restore_roles(backup, target, job, ending=b"\nROLLBACK;\n")
        made = job.processes.run(
            [target.tools.path("pg_restore"), "--create", "--schema-only", "--file=-", backup / DUMP],
            timeout=job.seconds,
            env=target.environment(),
        )
        statement = _making(made.output, name)
        with target.connect("postgres") as connection:
            connection.execute(statement)
        self._restore(backup, target, name, job)

    def _restore_roles(self, backup: Path, target: Database, job: Job, *, ending: bytes = b"") -> None:
        tools, environment = target.tools, target.environment()
        plain = job.processes.logs / "roles.sql"
        os.close(os.open(plain, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        try:
            plain.write_bytes(_without_those_there(_decrypt(backup / ROLES, job), target) + ending)
            job.processes.run(
                [
                    tools.path("psql"),
                    *target.connection_arguments(),
                    "--dbname=postgres",
                    "--no-psqlrc",
                    "--quiet",
                    "--single-transaction",
                    # Without it psql exits 0 whatever went wrong.
                    "--set=ON_ERROR_STOP=1",
                ],
                timeout=job.seconds,
                # An error would have the server log the statement, password verifier and all.
                env=environment | {"PGOPTIONS": "-c log_min_error_statement=panic"},
                stdin=plain,
            )
        finally:
            plain.unlink()

    def restore_beside(self, backup: Path, target: Database, name: str, job: Job) -> None:
        """Restore the dump's tables with their rows into an empty database of any name; no indexes and constraints."""
        self._restore(backup, target, name, job, "--section=pre-data", "--section=data")

    def _restore(self, backup: Path, target: Database, name: str, job: Job, *options: str) -> None:
        job.processes.run(
            [
                target.tools.path("pg_restore"),
                *target.connection_arguments(),
                f"--dbname={name}",
                *options,
                "--exit-on-error",
                f"--jobs={job.jobs}",
                backup / DUMP,
            ],
            timeout=job.seconds,
            env=target.environment(),
        )


def _compression(tools: PostgresTools, job: Job) -> str:
    """Zstandard where this pg_dump was built with it, else gzip's fastest level: higher ones take most of the time."""
    shown = job.processes.run([tools.path("pg_config"), "--configure"], timeout=20).output.read_text()
    return "zstd:1" if tools.major >= 16 and "--with-zstd" in shown else "1"


def _without_those_there(script: bytes, target: Database) -> bytes:
    """The script without creating what the server has: its superuser; of one that lived on, other roles, tablespaces.

    Creating one again would end the script. All else of it is as good for what is there: it sets what the backup held.
    """
    with target.connect("postgres") as connection:
        # The script's names are quoted where they must be, whatever the server's own setting says.
        connection.execute("SET quote_all_identifiers = off")
        roles = connection.execute("SELECT quote_ident(rolname) FROM pg_roles").fetchall()
        spaces = connection.execute("SELECT quote_ident(spcname) FROM pg_tablespace").fetchall()
    there = {f"CREATE ROLE {name};".encode() for (name,) in roles}
    places = tuple(f"CREATE TABLESPACE {name} ".encode() for (name,) in spaces)
    lines = script.split(b"\n")
    return b"\n".join(line for line in lines if line not in there and not line.startswith(places))


def _making(script: Path, name: str) -> bytes:
    """The statement of a dump's script that makes its database, for one of another name.

    Raises:
        HarnessError: there is none.
    """
    with script.open("rb") as file:
        for line in file:
            if match := MAKES.match(line):
                return b'CREATE DATABASE "%s"%s' % (name.replace('"', '""').encode(), match[1])
    raise HarnessError(f"dump {script}", seen="no statement makes its database", remedy="report it")


def _decrypt(path: Path, job: Job) -> bytes:
    try:
        return bytes(pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.from_str(job.identity)]))
    except (pyrage.DecryptError, pyrage.IdentityError) as problem:
        raise HarnessError(
            f"decrypting {path.name}", seen=str(problem), remedy="give the private key that belongs to the recipient"
        ) from None


METHOD: Final = PgDump()

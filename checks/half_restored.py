"""The states through which a restore leads a database, made in the place of the one that the services use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from fixtures.deployment import Database
from fixtures.processes import Processes
from reports.records import HarnessError, wait_until

ASIDE: Final = "_set_aside"
# Above it a dump takes longer than the check of an endpoint is worth.
MOST_BYTES: Final = 256 * 2**20
SECONDS: Final = 60.0
# What pg_restore does one after the other, and the words for a restore that stopped there.
SECTIONS: Final = {"pre-data": "tables without rows", "data": "rows without keys and indexes"}


@contextlib.contextmanager
def empty_in_its_place(database: Database) -> Iterator[None]:
    """Set the database aside under another name and put an empty one in its place; undone at the end."""
    name, aside = sql.Identifier(database.name), sql.Identifier(database.name + ASIDE)
    with database.connect("postgres") as connection:
        owner = sql.Identifier(_one(connection, _OWNER, database.name))
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            _rename(connection, database.name, name, aside)
            try:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(name, owner))
                yield
            finally:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(aside, name))
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def end_sessions(connection: psycopg.Connection[Any], database: str) -> int:
    """Ask every other session in a database to end; how many there were."""
    return int(_one(connection, _END, database))


def _rename(connection: psycopg.Connection[Any], database: str, name: sql.Identifier, to: sql.Identifier) -> None:
    def gone() -> bool:
        return end_sessions(connection, database) == 0

    wait_until(gone, seconds=SECONDS, interval=0.005, what=f"the end of the sessions in {database}")
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(name, to))


def size_of(database: Database) -> int:
    """Bytes of the database on disk."""
    with database.connect() as connection:
        return int(_one(connection, "SELECT pg_database_size(%s)", database.name))


def dump(database: Database, target: Path, processes: Processes) -> None:
    """Dump the database into a file that ``restore_section`` reads."""
    processes.run(
        [database.tools.path("pg_dump"), *database.connection_arguments(), f"--dbname={database.name}",
         "--format=custom", "--compress=0", "--no-sync", f"--file={target}"],
        timeout=SECONDS, env=database.environment(),
    )  # fmt: skip


def restore_section(database: Database, source: Path, section: str, processes: Processes) -> None:
    """Restore one of ``SECTIONS`` into the database in place."""
    processes.run(
        [database.tools.path("pg_restore"), *database.connection_arguments(), f"--dbname={database.name}",
         f"--section={section}", "--exit-on-error", source],
        timeout=SECONDS, env=database.environment(),
    )  # fmt: skip


def _one(connection: psycopg.Connection[Any], query: str, *values: str) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    if row is None:
        raise HarnessError(f"database {values[0]}", seen="the server knows none of that name", remedy="see its log")
    return row[0]


_OWNER: Final = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
_END: Final = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
)

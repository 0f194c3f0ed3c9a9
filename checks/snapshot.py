"""One instant of one database, held open: the snapshot that the backup and the fingerprint share.

PostgreSQL lets several connections see exactly the same rows (``pg_export_snapshot``; manual, 9.28.5 "Snapshot
Synchronization Functions"). Sequences stand outside transactions, so their positions are read beside it, at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from reports.records import NANOSECONDS, HarnessError, monotonic_ns, pause

Connect = Callable[[], "psycopg.Connection[Any]"]

# What would change how a value reads as text, or end a long read. Every reader of this room runs under these.
_SETTINGS = {
    "search_path": "",
    # The one zone that every PostgreSQL knows, also without time zone files.
    "timezone": "GMT",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    # A role that row security filters must get an error, never a smaller table.
    "row_security": "off",
    "statement_timeout": "0",
    # Who waits for an exclusive lock has everybody else wait behind him.
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "0",
    # Compiling costs more than it saves on statements as short as these.
    "jit": "off",
    # Work is shared between our own connections, so that it does not depend on the server's limits on workers.
    "max_parallel_workers_per_gather": "0",
}
_SETTINGS_17 = {"transaction_timeout": "0"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequencePosition:
    """Where a sequence stands: ``next`` is the value that ``nextval`` would give, before any wrap."""

    next: int
    increment: int
    cycle: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldSnapshot:
    """A snapshot that others may use while it is held, and what was read with it."""

    name: str
    connection: psycopg.Connection[Any]
    wal_lsn: str
    database_time: str
    """The server's clock at that instant: RFC 3339, UTC, microseconds."""
    sequences: Mapping[str, SequencePosition]
    restore_point: str = ""
    """Name of the restore point at that instant in the write-ahead log; empty where none was made."""
    restore_lsn: str = ""
    """Where the restore point's record ends. Recovery to this position must not include it
    (``recovery_target_inclusive = off``): it would take in the record after it."""


@contextlib.contextmanager
def reading(connect: Connect, *, snapshot: str | None) -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own in a read-only transaction at ``snapshot`` (or a new one), under fixed settings.

    Raises:
        HarnessError: the database refused or vanished; what it said is in the text.
    """
    with telling("reading the database"):
        connection = connect()
        try:
            connection.autocommit = True
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot is not None:
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            fix_settings(connection)
            yield connection
        finally:
            connection.close()


def fix_settings(connection: psycopg.Connection[Any]) -> None:
    """Within the connection's transaction, settle all that changes how values and definitions read as text."""
    settings = _SETTINGS | (_SETTINGS_17 if connection.info.server_version >= 170000 else {})
    connection.execute(
        sql.SQL("SELECT {}").format(
            sql.SQL(", ").join(
                sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
                for name, value in settings.items()
            )
        )
    )


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn the driver's errors into the project's, with what was being done."""
    try:
        yield
    except psycopg.Error as problem:
        code = problem.sqlstate or type(problem).__name__
        seen = f"{str(problem).strip()} [{code}]"
        remedy = "read the server's log"
        if problem.sqlstate in ("42P01", "42703", "XX000"):
            remedy = "something was dropped or altered meanwhile: run no migrations during a backup, and repeat"
        elif problem.sqlstate in ("42501",):
            remedy = "connect as a superuser, or as a role with BYPASSRLS that may read everything"
        raise HarnessError(what, seen=seen, remedy=remedy) from problem


@contextlib.contextmanager
def hold_snapshot(connect: Connect) -> Iterator[HeldSnapshot]:
    """Hold one instant of the database open until the block ends.

    The transaction keeps old row versions from being cleaned up, so hold it no longer than the backup lasts.

    Raises:
        HarnessError: the database refused or vanished.
    """
    with reading(connect, snapshot=None) as connection:
        row = connection.execute(
            "SELECT pg_export_snapshot(),"
            " (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text,"
            " to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        ).fetchone()
        assert row is not None
        yield HeldSnapshot(
            name=row[0],
            wal_lsn=row[1],
            database_time=row[2],
            sequences=read_sequences(connection),
            connection=connection,
        )


_NOW = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
# Transactions that have a number and may be committing. One that waits for its client's next statement is not.
_COMMITTING = """
SELECT coalesce(l.pid::text, 'prepared'), coalesce(a.application_name, ''), coalesce(a.state, a.backend_type, '')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
  AND coalesce(a.state, '') NOT IN ('idle in transaction', 'idle in transaction (aborted)')
"""


@contextlib.contextmanager
def hold_snapshot_at_mark(
    connect: Connect, name: str, *, tries: int = 200, seconds: float = 5.0
) -> Iterator[HeldSnapshot]:
    """As ``hold_snapshot``, with a restore point in the write-ahead log at exactly that instant.

    The transactions that the snapshot sees are those whose commit stands before the restore point in the log. A commit
    is in the log a moment before others see it, and that moment lasts as long as the log takes to reach the disk. So
    the snapshot is taken first and the restore point after it, and the two are one instant if then, in this order, no
    transaction can be committing and a new snapshot is the old one. Otherwise both are made anew.

    Args:
        connect: makes connections, as a superuser or a role that may execute ``pg_create_restore_point``.
        name: of the restore point, at most 58 bytes; a number is added from the second try on.
        tries: how often to try, and for at most so many ``seconds``.

    Raises:
        HarnessError: the database refused or vanished, or was never without a commit under way; the message names
            what was writing.
    """
    with telling("taking a snapshot at a restore point"):
        connection, second = connect(), connect()
        try:
            connection.autocommit = second.autocommit = True
            until = monotonic_ns() + round(seconds * NANOSECONDS)
            for number in range(1, tries + 1):
                point = name if number == 1 else f"{name}-{number}"
                # Before the instant: recovery to it may find a sequence here or further on, never before.
                sequences = read_sequences(connection)
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                seen = _row(connection, "SELECT pg_current_snapshot()::text")
                lsn, time = _row(second, f"SELECT pg_create_restore_point(%s)::text, {_NOW}", point)
                committing = second.execute(_COMMITTING).fetchall()
                if not committing and _row(second, "SELECT pg_current_snapshot()::text") == seen:
                    break
                connection.execute("ROLLBACK")
                if number == tries or monotonic_ns() > until:
                    shown = ", ".join(
                        f"{application} {process} ({state})" for process, application, state in committing
                    )
                    raise HarnessError(
                        "an instant without a commit under way",
                        seen=f"none in {number} tries; writing: {shown or 'transactions too short to be named'}",
                        remedy="back up at a time of less load, or stop what writes without a pause",
                    )
                pause(0.002, why="what is committing ends meanwhile")
            second.close()
            fix_settings(connection)
            yield HeldSnapshot(
                name=_row(connection, "SELECT pg_export_snapshot()")[0],
                wal_lsn=lsn,
                database_time=time,
                sequences=sequences,
                connection=connection,
                restore_point=point,
                restore_lsn=lsn,
            )
        finally:
            connection.close()
            second.close()


def _row(connection: psycopg.Connection[Any], query: str, *values: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return tuple(row)


_LIST_SEQUENCES = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqcycle, format('%I.%I', n.nspname, c.relname)
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_(toast|temp)' ORDER BY 5
"""


def read_sequences(connection: psycopg.Connection[Any]) -> dict[str, SequencePosition]:
    """Where every sequence of the database stands now, by quoted full name; two round trips per two hundred.

    Raises:
        HarnessError: a sequence was dropped meanwhile, or may not be read.
    """
    with telling("reading the sequences"):
        listed = connection.execute(_LIST_SEQUENCES).fetchall()
        positions: dict[str, SequencePosition] = {}
        for start in range(0, len(listed), 200):
            part = listed[start : start + 200]
            rows = connection.execute(
                sql.SQL(" UNION ALL ").join(
                    sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
                        sql.Literal(number), sql.Identifier(schema, name)
                    )
                    for number, (schema, name, *_) in enumerate(part)
                )
            ).fetchall()
            for number, last, called in rows:
                _, _, increment, cycle, identity = part[number]
                following = last + increment if called else last
                positions[identity] = SequencePosition(next=following, increment=increment, cycle=cycle)
    return positions

"""How many rows each table holds and a digest of them, computed inside PostgreSQL, whatever the order of the rows.

A row's digest covers the whole row at once; the table's digest is the exact sum of its rows' digests. Three things
about ``hash_record_extended`` (src/backend/utils/adt/rowtypes.c) decide how it may be used:

- it adds up ``31**i * hash(column i)``. A sum over rows of that is a sum over columns of sums, so that exchanging two
  cells of one column between two rows would change nothing. Each row's hash therefore goes through a mixing step that
  is not linear before it is added;
- it hashes by each type's own equality: 1.0 and 1.00, -0 and 0, or two cases of a citext would be the same, and an
  enum is hashed by an internal number that changes on restore. Such types go in as their binary or text output;
- eight-byte integers and times are folded to four bytes first (1 and 2**32 collide): they go in as bytes.

Columns are taken in the order of their names, since a restore may move the columns of an inheriting table.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from checks.snapshot import Connect, hold_snapshot, reading, telling
from reports.records import HarnessError

LARGE_OBJECTS: Final = "(large objects)"
Method = Literal["record", "text"]

# Pages of one task: 64 MB of 8 kB pages, about a tenth of a second, so that connections end together.
_CHUNK = 8192
# Below this many pages in all, another connection costs more than it saves.
_WORTH_A_CONNECTION = 1024

# Types whose equality is equality of bytes and whose hash uses all of them.
_DIRECT = ["int2", "int4", "bool", "uuid", "date", "bytea", "oid", "text", "varchar", "bpchar", "name", "char"]
# Types of fixed meaning whose binary output tells every difference, and is cheaper than their text.
_BINARY = ["int8", "float4", "float8", "numeric", "timestamp", "timestamptz", "time", "timetz", "interval", "money"]

_LIST_TABLES: Final = """
SELECT format('%%I.%%I', n.nspname, c.relname), n.nspname, c.relname,
       pg_relation_size(c.oid) / current_setting('block_size')::int, columns.hashed, columns.plain
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT string_agg(CASE
               WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typname = ANY (%(direct)s)
                    AND NOT (t.typname = 'bpchar' AND a.atttypmod < 0) THEN quote_ident(a.attname)
               WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typname = ANY (%(binary)s)
                    THEN format('%%s(%%I)', t.typsend, a.attname)
               ELSE format('textin(%%I.%%I(%%I))', o.pronamespace::regnamespace::text, o.proname, a.attname)
           END, ', ' ORDER BY a.attname COLLATE "C") AS hashed,
           string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C") AS plain
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_proc o ON o.oid = t.typoutput
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
) AS columns ON true
WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
  AND NOT EXISTS (
      SELECT FROM pg_depend d LEFT JOIN pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
        AND NOT coalesce(c.oid = ANY (e.extconfig), false))
"""

# Pages that hold nothing but zeros, and zeros at a page's end, read the same whether they are stored or not: a dump
# writes out the holes of a sparse large object. The sizes, taken apart, tell how far each one really goes.
_LARGE_OBJECT_PAGES: Final = """(
    SELECT loid, pageno, trimmed FROM (
        SELECT loid, pageno, rtrim(data, '\\x00'::bytea) AS trimmed FROM pg_largeobject WHERE {range} OFFSET 0
    ) AS stored WHERE trimmed <> '')"""
_LARGE_OBJECT_SIZES: Final = """(
    SELECT m.oid, coalesce((
        SELECT l.pageno * (current_setting('block_size')::bigint / 4) + octet_length(l.data)
        FROM pg_largeobject l WHERE l.loid = m.oid ORDER BY l.pageno DESC LIMIT 1), 0) AS size
    FROM pg_largeobject_metadata m)"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableDigest:
    """``rows`` and their digest: 32 hexadecimal digits of the sum modulo 2**128; of large objects, ``bytes`` too."""

    rows: int
    digest: str
    bytes: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    table: str
    statement: sql.Composed


def digest_tables(
    connect: Connect,
    *,
    snapshot: str | None,
    tables: Sequence[str] | None,
    jobs: int,
    method: Method = "record",
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, TableDigest]:
    """Rows and digest of every table, partition and filled materialised view, and of all large objects together.

    Args:
        connect: makes a connection; each job uses one of its own.
        snapshot: name of a snapshot that is being held; none takes one for the call.
        tables: quoted full names, e.g. ``public."Order"``; none means all, and only then large objects are included
            (under ``LARGE_OBJECTS``), unless that name is among those given.
        jobs: how many connections may work at once.
        method: ``record`` compares within one major version; ``text`` also across two, at about twice the cost.
        columns: of each table only these (quoted names), in this order, by their text; of one that is not named the
            rows are only counted.

    Raises:
        HarnessError: a table vanished, may not be read, or is not there.
    """
    with contextlib.ExitStack() as held:
        name = snapshot or held.enter_context(hold_snapshot(connect)).name
        with reading(connect, snapshot=name) as connection:
            with telling("listing the tables"):
                tasks, pages, found = _plan(connection, tables, method, columns)
            sums = {table: [0, 0] for table in found}
            extra = min(max(jobs, 1), len(tasks), 1 + pages // _WORTH_A_CONNECTION) - 1
            others = [functools.partial(reading, connect, snapshot=name)] * extra
            _share_out(collections.deque(tasks), sums, connection, others)
            return _digests(connection, sums)


def digest_on(
    connection: psycopg.Connection[Any],
    *,
    tables: Sequence[str] | None = None,
    method: Method = "record",
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, TableDigest]:
    """As ``digest_tables``, on one connection within its own transaction: it also sees what is not committed."""
    with telling("listing the tables"):
        tasks, _, found = _plan(connection, tables, method, columns)
    sums = {table: [0, 0] for table in found}
    _share_out(collections.deque(tasks), sums, connection, [])
    return _digests(connection, sums)


def _digests(connection: psycopg.Connection[Any], sums: Mapping[str, list[int]]) -> dict[str, TableDigest]:
    digests = {table: TableDigest(rows=rows, digest=f"{total % 2**128:032x}") for table, (rows, total) in sums.items()}
    if LARGE_OBJECTS in sums:
        digests[LARGE_OBJECTS] = _large_objects(connection, sums[LARGE_OBJECTS][1])
    return dict(sorted(digests.items()))


def _plan(
    connection: psycopg.Connection[Any],
    tables: Sequence[str] | None,
    method: Method,
    chosen: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[_Task], int, list[str]]:
    listed = connection.execute(_LIST_TABLES, {"direct": _DIRECT, "binary": _BINARY}).fetchall()
    wanted = None if tables is None else set(tables)
    missing = (wanted or set()) - {row[0] for row in listed} - {LARGE_OBJECTS}
    if missing:
        raise HarnessError(
            "digesting tables", seen=f"no such table: {', '.join(sorted(missing))}", remedy="give quoted full names"
        )
    tasks: list[tuple[int, _Task]] = []
    found: list[str] = []
    total = 0
    for table, schema, name, pages, hashed, plain in listed:
        if wanted is not None and table not in wanted:
            continue
        if pages is None:
            raise HarnessError(
                table, seen="vanished while it was listed", remedy="run no migrations during a backup, and repeat"
            )
        found.append(table)
        total += pages
        source = sql.SQL("ONLY {}").format(sql.Identifier(schema, name))
        columns = plain if method == "text" else hashed
        if chosen is not None:
            columns, method = ", ".join(chosen.get(table, ())) or None, "text"
        for size, rows in _ranges(pages):
            tasks.append((size, _Task(table=table, statement=_statement(source, columns, rows, method))))
    if wanted is None or LARGE_OBJECTS in wanted:
        found.append(LARGE_OBJECTS)
        pages = _one(connection, "SELECT pg_relation_size('pg_largeobject') / current_setting('block_size')::int")[0]
        total += pages
        for size, rows in _ranges(pages) if pages else []:
            source = sql.SQL(_LARGE_OBJECT_PAGES).format(range=rows)
            statement = _statement(source, "loid, pageno, trimmed", sql.SQL("true"), "record")
            tasks.append((size, _Task(table=LARGE_OBJECTS, statement=statement)))
    tasks.sort(key=lambda task: -task[0])
    return [task for _, task in tasks], total, found


def _ranges(pages: int) -> list[tuple[int, sql.Composable]]:
    """Conditions that cut a table into pieces; the last is open, so that nothing depends on the size just read."""
    if pages <= _CHUNK:
        return [(pages, sql.SQL("true"))]
    starts = range(0, pages, _CHUNK)
    pieces: list[tuple[int, sql.Composable]] = []
    for start in starts:
        condition = f"ctid >= '({start},0)'"
        if start != starts[-1]:
            condition += f" AND ctid < '({start + _CHUNK},0)'"
        pieces.append((min(_CHUNK, pages - start), sql.SQL(condition)))
    return pieces


def _statement(source: sql.Composable, columns: str | None, rows: sql.Composable, method: Method) -> sql.Composed:
    # The columns' text was put together by the server, quoted by quote_ident and format('%I').
    listed = sql.SQL(columns or "")
    if columns is None:
        digest: sql.Composable = sql.SQL("1::bigint")
    elif method == "text":
        digest = sql.SQL("hashtextextended(ROW({})::text, 0)").format(listed)
    else:
        digest = sql.SQL("hash_record_extended(ROW({}), 0)").format(listed)
    # OFFSET 0 keeps the hash from being computed twice; `#` is exclusive or.
    return sql.SQL(
        "SELECT count(*), coalesce(sum(h # hashint8extended(h, 1)), 0)::text"
        " FROM (SELECT {digest} AS h FROM {source} AS r WHERE {rows} OFFSET 0) AS hashed"
    ).format(digest=digest, source=source, rows=rows)


def _share_out(
    tasks: collections.deque[_Task],
    sums: Mapping[str, list[int]],
    first: psycopg.Connection[Any],
    others: Sequence[Callable[[], contextlib.AbstractContextManager[psycopg.Connection[Any]]]],
) -> None:
    """Work through the tasks, largest first, on the first connection and those that ``others`` open."""
    lock = threading.Lock()

    def work(connection: psycopg.Connection[Any]) -> None:
        while True:
            try:
                task = tasks.popleft()
            except IndexError:
                return
            with telling(f"digesting {task.table}"):
                rows, total = _one(connection, task.statement)
            with lock:
                sums[task.table][0] += rows
                sums[task.table][1] += int(total)

    def work_on_another(opened: Callable[[], contextlib.AbstractContextManager[psycopg.Connection[Any]]]) -> None:
        with opened() as connection:
            work(connection)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(len(others), 1)) as pool:
        running = [pool.submit(work_on_another, opened) for opened in others]
        try:
            work(first)
            for other in running:
                other.result()
        except BaseException:
            # What is running ends within one task; nothing new is begun.
            tasks.clear()
            raise


def _large_objects(connection: psycopg.Connection[Any], content: int) -> TableDigest:
    source = sql.SQL(_LARGE_OBJECT_SIZES)
    _, total = _one(connection, _statement(source, "oid, size", sql.SQL("true"), "record"))
    count, size = _one(
        connection, sql.SQL("SELECT count(*), coalesce(sum(size), 0)::bigint FROM {} AS s").format(source)
    )
    return TableDigest(rows=count, digest=f"{(content + int(total)) % 2**128:032x}", bytes=size)


def _one(connection: psycopg.Connection[Any], statement: Any) -> tuple[Any, ...]:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return tuple(row)

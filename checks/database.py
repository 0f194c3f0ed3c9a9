"""Does a restored database equal what the backup held: a fingerprint of each, and what differs between the two."""

from __future__ import annotations

import contextlib
import dataclasses
import decimal
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from checks import differences
from checks.catalogue import Catalogue, read_catalogue
from checks.contents import LARGE_OBJECTS, Method, TableDigest, digest_on, digest_tables
from checks.snapshot import (
    Connect,
    HeldSnapshot,
    SequencePosition,
    fix_settings,
    hold_snapshot,
    read_sequences,
    reading,
    telling,
)
from reports.records import Finding, HarnessError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """All that is compared of one database at one instant. Stored beside the backup as JSON."""

    catalogue: Catalogue
    tables: dict[str, TableDigest]
    sequences: dict[str, SequencePosition]
    server_version: int
    """As ``server_version_num``, e.g. 170010."""
    method: Method

    def to_json(self) -> str:
        """The fingerprint as canonical JSON text."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """The fingerprint that ``to_json`` wrote.

        Raises:
            HarnessError: the text is something else.
        """
        try:
            value = json.loads(text)
            return cls(
                catalogue={str(kind): dict(objects) for kind, objects in value["catalogue"].items()},
                tables={table: TableDigest(**digest) for table, digest in value["tables"].items()},
                sequences={name: SequencePosition(**position) for name, position in value["sequences"].items()},
                server_version=int(value["server_version"]),
                method="text" if value["method"] == "text" else "record",
            )
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise HarnessError(
                "the stored fingerprint",
                seen=f"not readable ({type(problem).__name__}: {problem})",
                remedy="fetch the backup set again",
            ) from None


def fingerprint(
    connect: Connect,
    *,
    held: HeldSnapshot | None,
    jobs: int,
    key: bytes,
    tables: Sequence[str] | None = None,
    method: Method = "record",
) -> Fingerprint:
    """Read catalogue, contents and sequence positions of one instant.

    Args:
        connect: makes connections to the database, as a superuser or a role that may read everything.
        held: the instant, shared with the backup; none holds one for the call.
        jobs: how many connections may digest tables at once.
        key: keys the digests of password verifiers; the same one on both sides.
        tables: only these tables' contents (quoted full names); none means all, and large objects.
        method: see ``digest_tables``; only fingerprints of the same method can be compared.

    Raises:
        HarnessError: something vanished meanwhile, or may not be read.
    """
    with contextlib.ExitStack() as stack:
        instant = held or stack.enter_context(hold_snapshot(connect))
        with reading(connect, snapshot=instant.name) as connection:
            catalogue = read_catalogue(connection, key=key)
            version = connection.info.server_version
        return Fingerprint(
            catalogue=catalogue,
            tables=digest_tables(connect, snapshot=instant.name, tables=tables, jobs=jobs, method=method),
            sequences=dict(instant.sequences),
            server_version=version,
            method=method,
        )


def fingerprint_on(
    connection: psycopg.Connection[Any], *, key: bytes, tables: Sequence[str] | None = None, method: Method = "record"
) -> Fingerprint:
    """As ``fingerprint``, on one connection within its own transaction: it also sees what is not committed.

    Sequences stand outside transactions: their positions are those of now.
    """
    with telling("settling the session"):
        fix_settings(connection)
    return Fingerprint(
        catalogue=read_catalogue(connection, key=key),
        tables=digest_on(connection, tables=tables, method=method),
        sequences=read_sequences(connection),
        server_version=connection.info.server_version,
        method=method,
    )


def compare(
    expected: Fingerprint,
    observed: Fingerprint,
    *,
    sequences_until: Mapping[str, SequencePosition] | None = None,
    matviews_refreshed: bool = True,
    live: Collection[str] = (),
    unlogged_emptied: bool = False,
) -> list[Finding]:
    """What the restored database lacks, has altered, or has too much of; nothing where they are equal.

    Args:
        expected: taken in the backup's snapshot.
        observed: taken after the restore.
        sequences_until: positions read when the dump had ended. A dump reads sequences after its snapshot, so that a
            position between the two is right. Before the snapshot's is SEQUENCE-SET-BACK. Beyond (with the 32
            values that PostgreSQL logs ahead and a crash recovery may skip) is the notice SEQUENCE-AHEAD: numbers
            are skipped, and nothing collides. None leaves the upper end open.
        matviews_refreshed: the restore computes materialised views anew (pg_restore does), so that one that was
            stale may rightly differ: whether they are filled is compared, their rows are not.
        live: tables that went on changing after ``expected`` was taken, as ``tables_that_changed`` names them. That
            they are there, and how they are made, is compared; their rows are not, and sequences may be further on.
        unlogged_emptied: the server's files were restored: unlogged tables come back without rows and unlogged
            sequences at their start, since the write-ahead log does not have them.

    Raises:
        HarnessError: the two were not taken by the same method, or over the same tables.
    """
    if expected.method != observed.method:
        raise HarnessError(
            "comparing two fingerprints",
            seen=f"one was taken by method {expected.method}, the other by {observed.method}",
            remedy="take both by the same method",
        )
    majors = expected.server_version // 10000, observed.server_version // 10000
    if majors[0] != majors[1] and expected.method == "record":
        raise HarnessError(
            "comparing two fingerprints",
            seen=f"PostgreSQL {majors[0]} and {majors[1]} need not hash alike",
            remedy="take both by method text",
        )
    refreshed = expected.catalogue.get("materialised view", {}) if matviews_refreshed else {}
    skipped = {*refreshed, *live}
    before = _emptied(expected) if unlogged_emptied else expected
    return [
        *differences.of_catalogues(
            _without_large_objects(before.catalogue) if LARGE_OBJECTS in live else before.catalogue,
            _without_large_objects(observed.catalogue) if LARGE_OBJECTS in live else observed.catalogue,
            majors=majors,
        ),
        *differences.of_tables(
            _without(before.tables, skipped),
            _without(observed.tables, skipped),
            known=set(observed.catalogue.get("table", ())) | set(observed.catalogue.get("materialised view", ())),
        ),
        *differences.of_sequences(before.sequences, observed.sequences, until=None if live else sequences_until),
    ]


def tables_that_changed(first: Fingerprint, second: Fingerprint) -> set[str]:
    """The tables (and ``LARGE_OBJECTS``) of which two fingerprints of one database do not hold the same rows."""
    names = first.tables.keys() | second.tables.keys()
    return {name for name in names if first.tables.get(name) != second.tables.get(name)}


def _without(tables: Mapping[str, TableDigest], skipped: set[str]) -> dict[str, TableDigest]:
    return {table: digest for table, digest in tables.items() if table not in skipped}


def _emptied(fingerprint: Fingerprint) -> Fingerprint:
    """The fingerprint as recovery from a crash leaves the database: the catalogue says of each what is unlogged."""
    unlogged = {
        name
        for kind in ("table", "sequence")
        for name, definition in fingerprint.catalogue.get(kind, {}).items()
        if json.loads(definition).get("persistence") == "u"
    }
    empty = TableDigest(rows=0, digest=f"{0:032x}")
    return dataclasses.replace(
        fingerprint,
        tables={name: empty if name in unlogged else digest for name, digest in fingerprint.tables.items()},
        sequences={name: position for name, position in fingerprint.sequences.items() if name not in unlogged},
    )


def _without_large_objects(catalogue: Catalogue) -> Catalogue:
    """The catalogue without large objects, and without what is granted on and said of single ones."""
    return {
        kind: {name: definition for name, definition in objects.items() if not name.startswith("large object ")}
        for kind, objects in catalogue.items()
        if kind != "large object"
    }


# Columns of whole numbers that a sequence feeds: it is owned by them, or is all that their default calls.
_FED_COLUMNS = """
SELECT DISTINCT format('%I.%I', sn.nspname, s.relname), n.nspname, c.relname, a.attname
FROM pg_depend d
JOIN pg_class s ON s.oid = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid ELSE d.refobjid END
     AND s.relkind = 'S'
JOIN pg_namespace sn ON sn.oid = s.relnamespace
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
JOIN pg_attribute a ON (a.attrelid, a.attnum) = (coalesce(f.adrelid, d.refobjid), coalesce(f.adnum, d.refobjsubid))
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
       OR f.oid IS NOT NULL AND d.refclassid = 'pg_class'::regclass
          AND pg_get_expr(f.adbin, f.adrelid) ~ '^[(]*nextval[(][^()]*[)][)]*(::[a-z]+)?$')
  AND c.relkind IN ('r', 'p') AND NOT a.attisdropped
  AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY 1, 2, 3, 4
"""


def sequences_behind_columns(
    connection: psycopg.Connection[Any], sequences: Mapping[str, SequencePosition] | None = None
) -> list[Finding]:
    """Sequences whose next value a column that they feed has already reached.

    Args:
        connection: in a transaction of ``reading``. The largest value comes from the column's index where it has one.
        sequences: their positions at the connection's snapshot or after; none reads them now, after the columns.

    Raises:
        HarnessError: a table vanished meanwhile, or may not be read.
    """
    with telling("comparing sequences with their columns"):
        fed = connection.execute(_FED_COLUMNS).fetchall()
        extremes: list[tuple[str, str, str | None, str | None]] = []
        for name, schema, table, column in fed:
            row = connection.execute(
                sql.SQL("SELECT min({c})::text, max({c})::text FROM {t}").format(
                    c=sql.Identifier(column), t=sql.Identifier(schema, table)
                )
            ).fetchone()
            lowest, highest = row or (None, None)
            extremes.append((name, f"{schema}.{table}.{column}", lowest, highest))
        positions = read_sequences(connection) if sequences is None else sequences
    behind: list[tuple[int, str]] = []
    for name, column, lowest, highest in extremes:
        position = positions.get(name)
        if position is None or position.cycle or lowest is None or highest is None or "NaN" in (lowest, highest):
            continue
        up = position.increment > 0
        reached = int(decimal.Decimal(highest if up else lowest))
        gap = reached - position.next if up else position.next - reached
        if gap >= 0:
            seen = f"{name} gives {position.next} next, and {column} holds {reached}"
            behind.append((gap, seen))
    return differences.summed_up("SEQUENCE-BEHIND-COLUMN", "sequence", behind)

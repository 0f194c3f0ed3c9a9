"""Which tables users may have changed after the last fingerprint before a disaster, and how many rows they took."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg import sql

from checks.contents import TableDigest
from checks.differences import summed_up
from checks.snapshot import telling
from reports.records import Finding

# Foreign keys whose rows go, or lose their reference, with the row that they refer to.
_FOLLOWING = """
WITH RECURSIVE named AS (
    SELECT c.oid, format('%%I.%%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
), live AS (
    SELECT oid FROM named WHERE name = ANY (%s)
    UNION
    SELECT k.conrelid FROM pg_constraint k JOIN live ON live.oid = k.confrelid
    WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
)
SELECT named.name FROM live JOIN named USING (oid)
"""


def with_those_they_change(connection: psycopg.Connection[Any], tables: Collection[str]) -> set[str]:
    """Tables that users write to, and those that change with them because a foreign key says so.

    Args:
        tables: quoted full names.

    Raises:
        HarnessError: the catalogue cannot be read.
    """
    with telling("following foreign keys"):
        return {*tables, *(str(name) for (name,) in connection.execute(_FOLLOWING, (list(tables),)))}


# Foreign keys between live tables whose rows go with the row that they refer to.
_CASCADES = """
WITH named AS (
    SELECT c.oid, n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
)
SELECT child.name, parent.name, child.nspname, child.relname,
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) AS u (number)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number)
FROM pg_constraint k JOIN named child ON child.oid = k.conrelid JOIN named parent ON parent.oid = k.confrelid
WHERE k.contype = 'f' AND k.confdeltype = 'c' AND child.oid <> parent.oid
    AND child.name = ANY (%(live)s) AND parent.name = ANY (%(live)s)
"""


def rows_lost(
    connection: psycopg.Connection[Any],
    expected: Mapping[str, TableDigest],
    observed: Mapping[str, TableDigest],
    live: Collection[str],
    *,
    deletions: int,
) -> list[Finding]:
    """Live tables with fewer rows than users can have left: their rows cannot be compared, their number can.

    With one deletion goes one row of a table, and of those that follow it by a foreign key as many as any one row has.

    Args:
        connection: to the restored database.
        expected: as last read before the disaster.
        deletions: how many users may have made since.

    Raises:
        HarnessError: the database cannot be read.
    """
    most = _most_that_go(connection, live)
    return summed_up(
        "ROWS-LOST",
        "table that users went on writing to",
        (
            (before - after, f"{name} had {before:,} rows, has {after:,}; {deletions} deletions since")
            for name in sorted({*live} & expected.keys() & observed.keys())
            for before, after in [(expected[name].rows, observed[name].rows)]
            if after < before - deletions * most.get(name, 1)
        ),
    )


def _most_that_go(connection: psycopg.Connection[Any], live: Collection[str]) -> dict[str, int]:
    """How many rows of each table at most go with one row of another."""
    parents: dict[str, list[tuple[str, int]]] = {}
    with telling("counting rows that go with others"):
        for name, parent, schema, table, columns in connection.execute(_CASCADES, {"live": list(live)}).fetchall():
            query = sql.SQL(
                "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM {} GROUP BY {}) AS each"
            ).format(sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, columns)))
            row = connection.execute(query).fetchone()
            parents.setdefault(name, []).append((parent, row[0] if row else 0))

    def most(name: str, below: tuple[str, ...]) -> int:
        each = (rows * most(parent, (*below, name)) for parent, rows in parents.get(name, []) if parent not in below)
        return max(1, sum(each))

    return {name: most(name, ()) for name in live}

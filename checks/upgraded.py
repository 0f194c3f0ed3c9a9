"""Did an upgrade leave alone what it must not change: every row of before it, by the columns that both sides have.

What must not change is everything but what somebody has said that it may: a list of what is protected would be
forgotten when a table is added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import psycopg

from checks import differences
from checks.catalogue import Catalogue
from checks.contents import LARGE_OBJECTS, TableDigest, digest_tables
from checks.differences import summed_up
from checks.snapshot import Connect, telling
from reports.records import Finding

COLUMNS: Final = """
SELECT format('%I.%I', n.nspname, c.relname), array_agg(quote_ident(a.attname) ORDER BY a.attname COLLATE "C")
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND NOT EXISTS (
      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY 1
"""
Columns = Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowed:
    """What an upgrade may do to data: ``renamed`` columns to their new names; tables and columns it ``may_change``.

    To tables that ``may_grow`` rows may be added, and none of theirs may go. Tables are ``schema.table``, columns
    ``schema.table.column``, quoted as PostgreSQL quotes them.
    """

    renamed: Mapping[str, str]
    may_change: Collection[str]
    may_grow: Collection[str] = ()

    def table(self, name: str) -> bool:
        """Whether all of it may change."""
        return name in self.may_change

    def column(self, table: str, name: str) -> bool:
        """Whether its values may change, or it may go."""
        return f"{table}.{name}" in self.may_change

    def called(self, table: str, name: str) -> str:
        """What a column of before is called afterwards."""
        return self.renamed.get(f"{table}.{name}", name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """What can be compared: of each table its columns of before, and the same under their names of after.

    ``gone``: tables and columns that are there no more, and that nobody allowed to go.
    """

    before: Columns
    after: Columns
    gone: Sequence[str]


def columns_of(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """The columns of every table and partition of its own storage, by its name."""
    with telling("listing the columns"):
        return {str(table): list(columns) for table, columns in connection.execute(COLUMNS)}


def kept_columns(before: Columns, after: Columns, allowed: Allowed) -> Kept:
    """Pair the columns of before with those of after."""
    old: dict[str, list[str]] = {}
    new: dict[str, list[str]] = {}
    gone: list[str] = []
    for table, names in before.items():
        if allowed.table(table):
            continue
        if table not in after:
            gone.append(table)
            continue
        pairs = [(name, allowed.called(table, name)) for name in names if not allowed.column(table, name)]
        gone += [f"{table}.{name}" for name, called in pairs if called not in after[table]]
        pairs = [(name, called) for name, called in pairs if called in after[table]]
        old[table], new[table] = [name for name, _ in pairs], [called for _, called in pairs]
    return Kept(before=old, after=new, gone=gone)


def digest_kept(
    connect: Connect, columns: Columns, *, jobs: int, snapshot: str | None = None
) -> dict[str, TableDigest]:
    """Rows and digest of each table by just these columns, and of all large objects; now, or in a snapshot held."""
    return digest_tables(
        connect, snapshot=snapshot, tables=[*columns, LARGE_OBJECTS], jobs=jobs, method="text", columns=columns
    )


def judge_rows(
    before: Mapping[str, TableDigest], after: Mapping[str, TableDigest], kept: Kept, *, may_grow: Collection[str] = ()
) -> list[Finding]:
    """Rows that are gone, are too many, or are not what they were; tables and columns that are gone.

    Of a table that ``may_grow``, and did, one cannot tell from the digests whether its old rows are what they were.
    """
    fewer: list[tuple[int, str]] = []
    other: list[tuple[int, str]] = []
    for table, then in before.items():
        now = after.get(table, TableDigest(rows=0, digest=""))
        if now.rows < then.rows:
            fewer.append((then.rows - now.rows, f"{table} has {now.rows:,} of {then.rows:,} rows"))
        elif now.rows > then.rows and table in may_grow:
            continue
        elif now.rows > then.rows:
            other.append((now.rows - then.rows, f"{table} has {now.rows:,} rows, and had {then.rows:,}"))
        elif now != then:
            other.append((0, f"{table}: values of its {now.rows:,} rows are not those of before"))
    return [
        *summed_up("UPGRADE-LOSES-ROWS", "table", fewer),
        *summed_up("UPGRADE-ALTERS-ROWS", "table", other),
        *summed_up("UPGRADE-DROPS-DATA", "table or column", [(0, name) for name in kept.gone]),
    ]


def judge_structure(before: Catalogue, after: Catalogue, allowed: Allowed) -> tuple[list[Finding], dict[str, int]]:
    """What of the structure an upgrade took away, as a notice: it may have meant to; and how much it kept and added."""
    removed, kept, added = [], 0, 0
    for kind in sorted(before.keys() | after.keys()):
        then, now = before.get(kind, {}), after.get(kind, {})
        removed += [(0, f"{kind} {name}") for name in then if name not in now and name not in allowed.renamed]
        kept += sum(name in now for name in then)
        added += sum(name not in then for name in now)
    findings = summed_up("UPGRADE-REMOVES-STRUCTURE", "structure", removed)
    return findings, {"catalogue objects kept": kept, "catalogue objects added": added}


def judge_restructured(then: Columns, now: Columns) -> list[Finding]:
    """Tables that have other columns than when the upgrade's commands had ended; new ones are nobody's loss."""
    other = [(0, f"{table}, by a service that started") for table in then if now.get(table) != then[table]]
    return summed_up("UPGRADE-DROPS-DATA", "table changed after the upgrade's commands", other)


def judge_sequences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Finding]:
    """Sequences that an upgrade has set back."""
    there = {name: position for name, position in before.items() if name in after}
    return differences.of_sequences(there, after, until=None)

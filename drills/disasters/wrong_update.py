"""Somebody forgets a WHERE and deletes the wrong rows: both statements are committed, and clients go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, Literal

import psycopg
from psycopg import sql

from drills.contract import Disaster
from fixtures.damage import (
    Connection,
    Overwritten,
    Table,
    bound,
    overwrite,
    rewritable,
    struck,
    user_tables,
    writable_columns,
)
from fixtures.deployment import Deployment
from reports.records import HarnessError

# Upper case and one word: what most rules about a column's form let through.
MARK: Final = "OVERWRITTEN"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deleted:
    """What one DELETE did: so many ``rows`` are gone, among them those two of these digests."""

    table: Table
    rows: int
    digests: tuple[str, str]

    def __str__(self) -> str:
        return f"table {self.table}, {self.rows:,} rows deleted"

    def speaks_against(self, connection: Connection) -> str:
        """Empty text where neither of the two rows is there."""
        statement = sql.SQL("SELECT count(*) FROM {} AS r WHERE md5(r::text) IN ({}, {})").format(
            self.table.identifier, *map(sql.Literal, self.digests)
        )
        row = connection.execute(statement).fetchone()
        return "" if row == (0,) else "rows that were deleted are there"


class WrongUpdate:
    """See ``drills.contract.Disaster``."""

    name = "wrong_update"
    database: Literal["", "gone", "wrong"] = "wrong"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = False
    health = False

    def __init__(self) -> None:
        self._struck: list[Overwritten | Deleted] = []

    def strike(self, deployment: Deployment) -> None:
        """Write over the text of one table, and delete half the rows of another.

        Both are the largest that constraints and triggers allow, up to 1 GiB; larger ones only where there is no other.
        A table that nobody refers to comes first for the second, since others may hold its rows fast.

        Raises:
            HarnessError: no table can be written over, or none can be deleted from.
        """
        self._struck = []
        with deployment.database.connect() as connection:
            bound(connection)
            tables = rewritable(user_tables(connection))
            for table in tables:
                columns = [column for column in writable_columns(connection, table) if column.kind == "text"]
                done = overwrite(connection, table, columns, mark=MARK, value=lambda column: sql.Literal(MARK))
                if done is not None:
                    self._struck.append(done)
                    break
            others = [table for table in tables if table not in [done.table for done in self._struck]]
            for table in sorted(others, key=lambda table: table.referred_to):
                deleted = _delete_half(connection, table)
                if deleted is not None:
                    self._struck.append(deleted)
                    break
        if len(self._struck) != 2:
            raise HarnessError(
                "a careless UPDATE and DELETE",
                seen=f"{len(tables)} tables; struck only: {', '.join(map(str, self._struck)) or 'nothing'}",
                remedy="leave wrong_update out where constraints and triggers protect every table",
            )

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Both tables, read again."""
        if not self._struck:
            return {"tables": "none was struck"}
        try:
            with deployment.database.connect() as connection:
                return {str(done): done.speaks_against(connection) for done in self._struck}
        except psycopg.Error as problem:
            return {str(done): f"cannot be told: {problem}" for done in self._struck}


def _delete_half(connection: Connection, table: Table) -> Deleted | None:
    """Delete half of a table's rows; none where it has fewer than two, no primary key, or where something forbids it.

    Without a primary key two rows can be equal, and a row's absence could not be seen.
    """
    if table.partitioned or not table.has_primary_key:
        return None
    statement = sql.SQL(
        "WITH gone AS (DELETE FROM {table} AS r WHERE ctid IN"
        " (SELECT ctid FROM {table} LIMIT (SELECT count(*) / 2 FROM {table})) RETURNING md5(r::text) AS digest)"
        " SELECT count(*), min(digest), max(digest) FROM gone"
    ).format(table=table.identifier)
    try:
        row = struck(connection, statement).fetchone()
    except psycopg.Error:
        return None
    return Deleted(table=table, rows=row[0], digests=(row[1], row[2])) if row and row[0] else None


DISASTER: Final[Disaster] = WrongUpdate()

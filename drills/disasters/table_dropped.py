"""Somebody drops a table, and with it whatever depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import psycopg
from psycopg import sql

from drills.contract import Disaster
from fixtures.damage import Table, bound, struck, user_tables
from fixtures.deployment import Deployment
from reports.records import HarnessError


class TableDropped:
    """See ``drills.contract.Disaster``."""

    name = "table_dropped"
    database: Literal["", "gone", "wrong"] = "wrong"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = False
    health = False

    def __init__(self) -> None:
        self._dropped: Table | None = None

    def strike(self, deployment: Deployment) -> None:
        """``DROP TABLE … CASCADE`` on the largest table that others refer to, or, if there is none, on the largest.

        Raises:
            HarnessError: no table can be dropped.
        """
        self._dropped, refused = None, "the database has no table"
        with deployment.database.connect() as connection:
            bound(connection)
            for table in sorted(user_tables(connection), key=lambda table: not table.referred_to):
                try:
                    struck(connection, sql.SQL("DROP TABLE {} CASCADE").format(table.identifier))
                except psycopg.Error as problem:
                    refused = f"{table}: {str(problem).strip()}"
                else:
                    self._dropped = table
                    return
        raise HarnessError("dropping a table", seen=refused, remedy="see the message, or leave table_dropped out")

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The catalogue, asked for that table."""
        if self._dropped is None:
            return {"a table": "none was dropped"}
        place = f"table {self._dropped}"
        try:
            with deployment.database.connect() as connection:
                query = "SELECT FROM pg_class WHERE oid = %s"
                found = connection.execute(query, (self._dropped.oid,)).fetchone()
        except psycopg.Error as problem:
            return {place: f"cannot be told: {problem}"}
        return {place: "" if found is None else "the catalogue still lists it"}


DISASTER: Final[Disaster] = TableDropped()

"""Somebody drops the database on a server that lives on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import psycopg
from psycopg import sql

from drills.contract import Disaster
from fixtures.damage import bound, struck
from fixtures.deployment import Database, Deployment
from reports.records import HarnessError

REMEDY: Final = "end what holds the database: prepared transactions, subscriptions, logical replication slots"


class DatabaseDropped:
    """See ``drills.contract.Disaster``."""

    name = "database_dropped"
    database: Literal["", "gone", "wrong"] = "wrong"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = False
    health = True

    def strike(self, deployment: Deployment) -> None:
        """``DROP DATABASE … WITH (FORCE)`` as the superuser, whoever is connected.

        Raises:
            HarnessError: the server refused.
        """
        database = deployment.database
        try:
            with database.connect(_beside(database)) as connection:
                bound(connection)
                struck(connection, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))
        except psycopg.Error as problem:
            raise HarnessError(f"dropping {database.name}", seen=str(problem).strip(), remedy=REMEDY) from problem

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The server's list of databases."""
        database = deployment.database
        place = f"database {database.name}"
        try:
            with database.connect(_beside(database)) as connection:
                query = "SELECT FROM pg_database WHERE datname = %s"
                found = connection.execute(query, (database.name,)).fetchone()
        except psycopg.Error as problem:
            return {place: f"cannot be told: {problem}"}
        return {place: "" if found is None else "the server still lists it"}


def _beside(database: Database) -> str:
    """A database of the same server that can be connected to while the other is dropped."""
    return "template1" if database.name == "postgres" else "postgres"


DISASTER: Final[Disaster] = DatabaseDropped()

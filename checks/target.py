"""What a restore target lacks before anything is restored into it: extensions, roles, the same sort order."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from checks.database import Fingerprint
from checks.differences import summed_up
from checks.snapshot import telling
from reports.records import Finding


def prerequisites(
    connection: psycopg.Connection[Any], expected: Fingerprint, *, roles_given: bool = False, physical: bool = False
) -> list[Finding]:
    """What is missing on the server of this connection for a restore of the database with this fingerprint.

    Args:
        connection: to any database of the server.
        roles_given: the backup carries no roles, so that they must be there already.
        physical: the files themselves are restored, with indexes in the old sort order: a collation whose version
            differs is COLLATION-MISMATCH then, and otherwise the notice COLLATION-CHANGED.

    Raises:
        HarnessError: the server refused or vanished.
    """
    with telling("reading what the restore target offers"):
        offered = {
            (str(name), str(version))
            for name, version in connection.execute(
                "SELECT quote_ident(name), version FROM pg_available_extension_versions"
            )
        }
        present = {str(name) for (name,) in connection.execute("SELECT quote_ident(rolname) FROM pg_roles")}
        versions = {
            str(collation): version
            for collation, version in connection.execute(
                "SELECT oid::regcollation::text, pg_collation_actual_version(oid) FROM pg_collation"
                " WHERE collversion IS NOT NULL"
            )
        } | _of_databases(connection, expected)
    extensions = [
        (0, f"{name} {version}" + ("" if known else ", of which no version is there"))
        for name, definition in sorted(expected.catalogue.get("extension", {}).items())
        for version in [str(json.loads(definition)["version"])]
        for known in [any(name == each for each, _ in offered)]
        if (name, version) not in offered
    ]
    roles = [(0, name) for name in sorted(expected.catalogue.get("role", {})) if roles_given and name not in present]
    collations = [
        (0, f"{name}: was {recorded}, the system's is {versions[name]}")
        for name, definition in sorted(expected.catalogue.get("collation version", {}).items())
        for recorded in [json.loads(definition).get("recorded")]
        if name in versions and recorded is not None and versions[name] != recorded
    ]
    return [
        *summed_up("EXTENSION-ABSENT", "extension", extensions),
        *summed_up("ROLE-ABSENT", "role", roles),
        *summed_up("COLLATION-MISMATCH" if physical else "COLLATION-CHANGED", "collation version", collations),
    ]


def _of_databases(connection: psycopg.Connection[Any], expected: Fingerprint) -> dict[str, str | None]:
    """The version that a database of the expected one's locale would get here, where the server has such a database."""
    definition = json.loads(expected.catalogue.get("database", {}).get("database", "{}"))
    row = connection.execute(
        "SELECT pg_database_collation_actual_version(oid) FROM pg_database"
        " WHERE datlocprovider::text = %s AND datcollate = %s LIMIT 1",
        (definition.get("provider"), definition.get("collate")),
    ).fetchone()
    # ICU's versions go with a locale of its own, which is not asked for here.
    return {"database": row[0]} if row is not None and definition.get("provider") == "c" else {}

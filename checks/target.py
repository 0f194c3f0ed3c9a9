"""What a restore target lacks before anything is restored into it: extensions, roles, locale, sort order, tools, room.

What a backup needs is told by its database's fingerprint, or, without reading as much, by its manifest.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

from checks.database import Fingerprint
from checks.differences import summed_up
from checks.snapshot import telling
from reports.records import Finding, UsageProblem

# Of the locales, those that every libc has; the other providers bring their own.
EVERYWHERE: Final = ("C", "POSIX", "C.UTF-8", "C.utf8")
LIBC: Final = "c"
ICU: Final = "i"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offer:
    """What a server offers: extensions with their versions, roles, versions of collations, and whether the locale."""

    extensions: frozenset[tuple[str, str]]
    roles: frozenset[str]
    versions: Mapping[str, str | None]
    locale_refused: str = ""


def needs_of(fingerprint: Fingerprint) -> dict[str, Any]:
    """What a server must offer for a restore of this database, for the manifest of its backup.

    Its keys are ASCII whatever the names are; the values hold no secret.
    """
    catalogue = fingerprint.catalogue
    definition = json.loads(catalogue.get("database", {}).get("database", "{}"))
    return {
        "extensions": [
            {"name": name, "version": str(json.loads(text)["version"])}
            for name, text in sorted(catalogue.get("extension", {}).items())
        ],
        "roles": sorted(catalogue.get("role", {})),
        "locale": {key: definition.get(key) for key in ("provider", "collate", "ctype", "locale", "encoding")},
        "collations": [
            {"name": name, "version": recorded}
            for name, text in sorted(catalogue.get("collation version", {}).items())
            for recorded in [json.loads(text).get("recorded")]
            if recorded is not None
        ],
    }


def read_offer(connection: psycopg.Connection[Any], needs: Mapping[str, Any]) -> Offer:
    """What the server of this connection offers of what is needed. Leaves nothing on it.

    Raises:
        HarnessError: the server refused or vanished.
    """
    with telling("reading what the restore target offers"):
        extensions = connection.execute("SELECT quote_ident(name), version FROM pg_available_extension_versions")
        roles = connection.execute("SELECT quote_ident(rolname) FROM pg_roles")
        versions = connection.execute(
            "SELECT oid::regcollation::text, pg_collation_actual_version(oid) FROM pg_collation"
            " WHERE collversion IS NOT NULL"
        )
        return Offer(
            extensions=frozenset((str(name), str(version)) for name, version in extensions),
            roles=frozenset(str(name) for (name,) in roles),
            versions={str(name): version for name, version in versions} | _of_databases(connection, needs["locale"]),
            locale_refused=_refused(connection, needs["locale"]),
        )


def _of_databases(connection: psycopg.Connection[Any], locale: Mapping[str, Any]) -> dict[str, str | None]:
    """The version that a database of the expected one's locale would get here, where the server can tell."""
    if locale.get("provider") == LIBC:
        row = connection.execute(
            "SELECT pg_database_collation_actual_version(oid) FROM pg_database"
            " WHERE datlocprovider::text = %s AND datcollate = %s LIMIT 1",
            (LIBC, locale.get("collate")),
        ).fetchone()
    elif locale.get("provider") == ICU:
        row = connection.execute(
            "SELECT pg_collation_actual_version(oid) FROM pg_collation c WHERE collprovider::text = %s"
            " AND coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale') = %s LIMIT 1",
            (ICU, locale.get("locale")),
        ).fetchone()
    else:
        row = None
    return {"database": row[0]} if row is not None else {}


def _refused(connection: psycopg.Connection[Any], locale: Mapping[str, Any]) -> str:
    """What the server says against a locale of the C library's; empty text where it takes it."""
    for name in sorted({str(locale[key]) for key in ("collate", "ctype") if locale.get(key)}):
        known = connection.execute(
            "SELECT FROM pg_collation WHERE collprovider::text = %s AND %s IN (collcollate, collctype) UNION ALL"
            " SELECT FROM pg_database WHERE %s IN (datcollate, datctype) LIMIT 1",
            (LIBC, name, name),
        ).fetchone()
        if known is not None or name in EVERYWHERE:
            continue
        try:
            # The only way to ask the C library itself; it goes with the transaction.
            with connection.transaction(force_rollback=True):
                connection.execute(
                    sql.SQL("CREATE COLLATION pg_temp.enprivacy_drill_probe (provider = libc, locale = {})").format(
                        sql.Literal(name)
                    )
                )
        except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue) as problem:
            return f"{name}: {str(problem).splitlines()[0]}"
    return ""


def judge_offer(
    needs: Mapping[str, Any], offer: Offer, *, roles_given: bool = False, physical: bool = False
) -> list[Finding]:
    """What of the needs the offer lacks.

    Args:
        needs: as ``needs_of`` gives them, and as a manifest holds them.
        roles_given: the backup carries no roles, so that they must be there already.
        physical: the files themselves are restored, with indexes in the old sort order: a collation whose version
            differs is COLLATION-MISMATCH then, and otherwise the notice COLLATION-CHANGED.

    Raises:
        UsageProblem: the needs are not of this form.
    """
    try:
        wanted = [(str(each["name"]), str(each["version"])) for each in needs["extensions"]]
        collations = [(str(each["name"]), str(each["version"])) for each in needs["collations"]]
        roles = [str(name) for name in needs["roles"]]
    except (KeyError, TypeError) as problem:
        raise UsageProblem(
            "what a backup needs, as its manifest says", seen=f"not readable ({type(problem).__name__}: {problem})",
            remedy="name a set that this release made",
        ) from None  # fmt: skip
    known = {name for name, _ in offer.extensions}
    return [
        *summed_up("EXTENSION-ABSENT", "extension", [
            (0, f"{name} {version}" + ("" if name in known else ", of which no version is there"))
            for name, version in wanted if (name, version) not in offer.extensions
        ]),
        *summed_up("ROLE-ABSENT", "role", [(0, name) for name in roles if roles_given and name not in offer.roles]),
        *summed_up("LOCALE-ABSENT", "locale", [(0, offer.locale_refused)] if offer.locale_refused else []),
        *summed_up("COLLATION-MISMATCH" if physical else "COLLATION-CHANGED", "collation version", [
            (0, f"{name}: was {version}, the system's is {offer.versions[name]}")
            for name, version in collations if name in offer.versions and offer.versions[name] != version
        ]),
    ]  # fmt: skip


def prerequisites(
    connection: psycopg.Connection[Any], expected: Fingerprint, *, roles_given: bool = False, physical: bool = False
) -> list[Finding]:
    """What is missing on the server of this connection for a restore of the database with this fingerprint.

    Args:
        connection: to any database of the server.
        roles_given: as ``physical``, see ``judge_offer``.

    Raises:
        HarnessError: the server refused or vanished.
    """
    needs = needs_of(expected)
    return judge_offer(needs, read_offer(connection, needs), roles_given=roles_given, physical=physical)


def judge_tools(needed: Mapping[str, str], here: Mapping[str, str]) -> list[Finding]:
    """Whether the programs that made a backup are here, none of them of an older major version.

    Args:
        needed: versions by program, as a manifest's ``tools``; ``here``: the same of this machine.
    """
    absent = [(0, f"{name} {version}") for name, version in sorted(needed.items()) if not here.get(name)]
    older = [
        Finding(code="VERSION-MISMATCH", seen=f"made with {name} {version}, and here is {here[name]}", where="tools")
        for name, version in sorted(needed.items())
        if here.get(name) and _major(here[name]) < _major(version)
    ]
    return [*summed_up("TOOL-ABSENT", "program", absent), *older]


def _major(version: str) -> int:
    match = re.search(r"\d+", version)
    return int(match[0]) if match else 0


def judge_room(needed: Mapping[str, int], *, free: int, where: str) -> list[Finding]:
    """Whether what comes back has room.

    Args:
        needed: bytes that each part will take once it is restored.
        free: bytes that are free at the place ``where``.
    """
    total = sum(needed.values())
    if total <= free:
        return []
    parts = ", ".join(f"{part} {size / 2**20:,.0f} MiB" for part, size in needed.items())
    seen = f"{total / 2**20:,.0f} MiB needed ({parts}), {free / 2**20:,.0f} MiB free"
    return [Finding(code="RESTORE-NO-SPACE", seen=seen, where=where)]

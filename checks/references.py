"""Does every reference from the database to an object resolve, with the right bytes, within one tenant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from checks.differences import Cases
from checks.inventories import ObjectEntry, read_inventory
from checks.snapshot import telling
from reports.records import Finding, HarnessError


def check_references(
    connection: psycopg.Connection[Any],
    query: str,
    inventory: Path,
    *,
    ignored_prefixes: Sequence[str] = (),
    tenant_of_key: re.Pattern[str] | None = None,
    lost: Callable[[str], bool] = lambda key: False,
) -> tuple[list[Finding], dict[str, int]]:
    """Walk through the rows that refer to objects and through the inventory, both in the order of the keys.

    Args:
        connection: to the database; only reads.
        query: gives five columns in this order, by whatever names: object key; SHA-256 (hexadecimal text or bytea) or
            NULL; size in bytes or NULL; tenant or NULL; source, a text that says which row it is.
        inventory: inventory file of the bucket that the keys lie in.
        ignored_prefixes: keys that begin so may be there without a row.
        tenant_of_key: a pattern with a group ``tenant``; where it matches a key, that is the tenant it belongs to.
        lost: asked for the key of each reference that dangles, in the order of the keys, whether that object is known
            to be lost work: written after the copy that was restored. Such are counted as ``lost``, and no finding.

    Returns:
        The findings, and counts: ``references`` (rows), ``referenced`` (different keys), ``objects``, ``dangling``,
        ``lost``, ``altered``, ``crossed``, ``orphaned``.

    Raises:
        HarnessError: the query or the inventory cannot be read.
    """
    if tenant_of_key is not None and "tenant" not in tenant_of_key.groupindex:
        raise HarnessError(
            "the rule for tenants", seen=f"{tenant_of_key.pattern!r} has no group tenant", remedy="write (?P<tenant>…)"
        )
    dangling, altered, crossed, orphaned = Cases(), Cases(), Cases(), Cases()
    counts = {"references": 0, "referenced": 0, "objects": 0, "lost": 0}
    entries = _counted(read_inventory(inventory), counts)
    entry = next(entries, None)
    previous: str | None = None
    tenant_before: str | None = None
    referenced = False

    def pass_over(entry: ObjectEntry, referenced: bool) -> ObjectEntry | None:
        if not referenced and not entry.key.startswith(tuple(ignored_prefixes)):
            orphaned.add(entry.size, f"{entry.key} ({entry.size} bytes)")
        return next(entries, None)

    for key, sha256, size, tenant, source in _references(connection, query):
        counts["references"] += 1
        if key != previous:
            counts["referenced"] += 1
            previous, tenant_before = key, None
        while entry is not None and entry.key.encode() < key.encode():
            entry, referenced = pass_over(entry, referenced), False
        if (entry is None or entry.key != key) and lost(key):
            counts["lost"] += 1
        elif entry is None or entry.key != key:
            dangling.add(size or 0, f"{source} refers to {key}")
        else:
            referenced = True
            if (sha256 is not None and sha256 != entry.sha256) or (size is not None and size != entry.size):
                altered.add(
                    abs((size if size is not None else entry.size) - entry.size),
                    f"{source} refers to {key} as {size} bytes {sha256}; it has {entry.size} bytes {entry.sha256}",
                )
        owner = _tenant_of(key, tenant_of_key)
        if tenant is not None and owner is not None and tenant != owner:
            crossed.add(0, f"{source} of tenant {tenant} refers to {key} of tenant {owner}")
        elif tenant is not None and tenant_before is not None and tenant != tenant_before:
            crossed.add(0, f"{key} is referred to by tenant {tenant_before} and, in {source}, by tenant {tenant}")
        tenant_before = tenant if tenant is not None else tenant_before
    while entry is not None:
        entry, referenced = pass_over(entry, referenced), False
    counts |= {
        "dangling": dangling.count,
        "altered": altered.count,
        "crossed": crossed.count,
        "orphaned": orphaned.count,
    }
    return [
        *dangling.findings("REFERENCE-DANGLING", "references"),
        *altered.findings("REFERENCE-ALTERED", "references"),
        *crossed.findings("REFERENCE-CROSSED", "references"),
        *orphaned.findings("OBJECTS-ORPHANED", "objects"),
    ], counts


def _counted(entries: Iterator[ObjectEntry], counts: dict[str, int]) -> Iterator[ObjectEntry]:
    for entry in entries:
        counts["objects"] += 1
        yield entry


def _tenant_of(key: str, pattern: re.Pattern[str] | None) -> str | None:
    match = pattern.search(key) if pattern is not None else None
    return match["tenant"] if match else None


def _references(
    connection: psycopg.Connection[Any], query: str
) -> Iterator[tuple[str, str | None, int | None, str | None, str]]:
    wrapped = sql.SQL(
        "SELECT key::text, sha256, size::bigint, tenant::text, source::text"
        " FROM ({}\n) AS r(key, sha256, size, tenant, source) WHERE key IS NOT NULL"
        # The order of bytes, which is the order of the inventory.
        ' ORDER BY key::text COLLATE "C", tenant::text COLLATE "C"'
    ).format(sql.SQL(query.strip().rstrip(";")))
    with (
        telling("reading references to objects"),
        connection.transaction(),
        connection.cursor(name="references_to_objects") as cursor,
    ):
        cursor.itersize = 5000
        cursor.execute(wrapped)
        for key, sha256, size, tenant, source in cursor:
            text = bytes(sha256).hex() if isinstance(sha256, bytes | memoryview) else sha256
            yield key, text.strip().lower() if text is not None else None, size, tenant, source

"""The copy as it was before the upgrade, to hold the upgraded one against."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from checks.catalogue import Catalogue, read_catalogue
from checks.checked import Check
from checks.contents import TableDigest
from checks.objects import compare_inventories, take_inventory
from checks.snapshot import HeldSnapshot, SequencePosition, read_sequences, reading
from checks.upgraded import (
    Allowed,
    Kept,
    columns_of,
    digest_kept,
    judge_restructured,
    judge_rows,
    judge_sequences,
    judge_structure,
    kept_columns,
)
from drills.shadow_site import ShadowSite
from reports.records import Finding, HarnessError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Before:
    """``database``: the name of the database that was copied; ``bucket``: the inventory of the objects."""

    site: ShadowSite
    database: str
    catalogue: Catalogue
    sequences: Mapping[str, SequencePosition]
    bucket: Path

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the copied database."""
        return self.site.sandbox.database.connect(self.database)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """What was compared of the rows: by which columns, and what each table held before."""

    kept: Kept
    before: Mapping[str, TableDigest]


def see_before(site: ShadowSite, database: str) -> Before:
    """Read what an upgrade is held against; ``database`` is an untouched copy of the restored one."""
    store, bucket = site.sandbox.objects, site.directory / "objects-before-the-upgrade.jsonl"
    take_inventory(store.client(connections=8), store.bucket, bucket, describe=frozenset(), workers=8)
    with (
        site.sandbox.database.connect(database) as connection,
        reading(functools.partial(site.sandbox.database.connect, database), snapshot=None) as held,
    ):
        return Before(
            site=site, database=database, catalogue=read_catalogue(held, key=site.key),
            sequences=read_sequences(connection), bucket=bucket,
        )  # fmt: skip


def compare_rows(before: Before, database: str, held: HeldSnapshot | None, allowed: Allowed, check: Check) -> Compared:
    """Hold every row against what it was, by the columns that there are on both sides.

    Raises:
        HarnessError: the upgrade may change every table, so that nothing is left to be compared.
    """
    jobs, connect = before.site.profile.jobs, functools.partial(before.site.sandbox.database.connect, database)
    snapshot = held.name if held else None
    with before.connect() as connection:
        then = columns_of(connection)
    with reading(connect, snapshot=snapshot) as connection:
        kept = kept_columns(then, columns_of(connection), allowed)
    if then and not any(kept.before.values()) and not kept.gone:
        seen = f"upgrade.may_change lets the upgrade change every one of {len(then)} tables: nothing would be compared"
        raise HarnessError("the rows of before", seen=seen, remedy="name only those that it changes, best by columns")
    held_before = digest_kept(before.connect, kept.before, jobs=jobs)
    held_after = digest_kept(connect, kept.after, jobs=jobs, snapshot=snapshot)
    check.findings += judge_rows(held_before, held_after, kept, may_grow=allowed.may_grow)
    check.looked_at |= {
        "tables": len(held_before),
        "rows": sum(each.rows for each in held_before.values()),
        "columns": sum(map(len, kept.before.values())),
    }
    reason = "upgrade.may_change lets the upgrade change it"
    check.not_tested += [{"what": f"the rows of {name}", "reason": reason} for name in allowed.may_change]
    grown = [name for name, then_held in held_before.items()
             if name in allowed.may_grow and held_after[name].rows > then_held.rows]  # fmt: skip
    reason = "rows were added, as upgrade.may_grow allows: whether those of before are what they were cannot be told"
    check.not_tested += [{"what": f"the values of {name}", "reason": reason} for name in grown]
    return Compared(kept=kept, before=held_before)


def compare_structure(before: Before, held: HeldSnapshot, allowed: Allowed, check: Check) -> None:
    """See which sequences were set back, and which parts of the structure are gone."""
    with reading(before.site.sandbox.database.connect, snapshot=held.name) as connection:
        catalogue = read_catalogue(connection, key=before.site.key)
    findings, check.looked_at = judge_structure(before.catalogue, catalogue, allowed)
    check.findings = [*findings, *judge_sequences(before.sequences, held.sequences)]
    check.looked_at |= {"sequences": len(before.sequences)}


def see_restructured(site: ShadowSite, held: HeldSnapshot) -> tuple[list[Finding], dict[str, int]]:
    """Tables that services changed when they started: what they did to the rows there was not compared."""
    connect = site.sandbox.database.connect
    with reading(connect, snapshot=held.name) as connection:
        then = columns_of(connection)
    with reading(connect, snapshot=None) as connection:
        now = columns_of(connection)
    return judge_restructured(then, now), {"tables": len(then)}


def compare_objects(before: Before, check: Check, *, booted: datetime) -> Path:
    """Hold every object against what it was; the inventory of now. What came since ``booted`` is a client's."""
    store, bucket = before.site.sandbox.objects, before.site.directory / "objects-after-the-upgrade.jsonl"
    found = take_inventory(store.client(connections=8), store.bucket, bucket, describe=frozenset(), workers=8)
    written = {
        str(item.object_name)
        for item in store.client().list_objects(store.bucket, recursive=True)
        if item.last_modified is not None and item.last_modified >= booted
    }
    check.findings = compare_inventories(before.bucket, found.path, explained=written.__contains__)
    check.looked_at = {"objects": found.count, "bytes": found.bytes}
    reason = "names, sizes and bytes are compared: the sandbox's store does not keep what else is said of an object"
    check.not_tested = [{"what": "content type, metadata and tags of the objects after the upgrade", "reason": reason}]
    return bucket

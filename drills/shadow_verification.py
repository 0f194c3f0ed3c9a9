"""What is verified of a shadow restore: exactly where the backup was taken for it, else as far as can be told."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from checks.catalogue import Catalogue, read_catalogue
from checks.checked import checked
from checks.database import Fingerprint, compare, fingerprint, sequences_behind_columns
from checks.differences import Cases, summed_up
from checks.egress import check_egress, try_ways_out, unproven
from checks.heartbeat import judge_beats, judge_pairs, read_beats, read_object_beats
from checks.inventories import ObjectEntry, read_inventory, sorted_keys, write_inventory
from checks.objects import compare_inventories, merged, take_inventory
from checks.quiet import archiving_settings
from checks.references import check_references
from checks.snapshot import HeldSnapshot, reading
from drills.shadow_site import Looked, ShadowSite
from drills.sources.contract import Fetched
from drills.sources.putting_back import inventory_of
from drills.taking import Backups
from fixtures.deployment import NotGiven
from reports.records import Finding

# An upload that was under way when the backup was made may or may not be in it.
MARGIN: Final = timedelta(minutes=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
ORPHANED: Final = "OBJECTS-ORPHANED"
KINDS_WITH_PASSWORDS: Final = "role"
# Rows that the server's statistics reckon with and that may rightly be gone again.
FEW_ROWS: Final = 10
RECKONED: Final = """
SELECT format('%I.%I', n.nspname, c.relname), c.reltuples::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


def configuration(site: ShadowSite) -> dict[str, str]:
    """The configuration that the services are booted with; none where the profile does not give it."""
    try:
        return site.deployment.configuration()
    except NotGiven:
        return {}


def fingerprint_of(site: ShadowSite, restored: HeldSnapshot) -> Fingerprint:
    """What was restored, before anybody was let in."""
    return fingerprint(site.sandbox.database.connect, held=restored, jobs=site.profile.jobs, key=site.key)


def structure_of(site: ShadowSite) -> Fingerprint:
    """The restored database's structure as it is now, with the password that the application was given."""
    return fingerprint(site.sandbox.database.connect, held=None, jobs=site.profile.jobs, key=site.key, tables=())


def verify(
    site: ShadowSite,
    backups: Backups,
    looked: Looked,
    restored: HeldSnapshot,
    put_back: list[Finding],
    *,
    booted: datetime,
) -> Path:
    """Compare everything that can be compared; each part is a check of its own in the journal.

    Args:
        put_back: what was wrong where the database's backup is kept, and what its restore had to do without.
        booted: when the application was let in: what was written since is its own.

    Returns:
        The inventory of the restored bucket, for the controls to start from.
    """
    assert backups.database is not None and backups.objects is not None
    bucket = site.directory / "objects-restored.jsonl"
    with checked(site.journal, site.id, "the backup as it is kept") as check:
        check.looked_at = {"backups": 1}
        check.findings = put_back
    _verify_database(site, backups, restored)
    _verify_objects(site, backups.objects, looked, bucket, booted=booted)
    _verify_references(site, restored, bucket)
    with checked(site.journal, site.id, "archiving of the restored server") as check:
        with site.sandbox.database.connect() as connection:
            check.findings = archiving_settings(connection)
        check.looked_at = {"servers": 1}
    _verify_heartbeat(site, looked, restored)
    _verify_egress(site)
    return bucket


def _verify_database(site: ShadowSite, backups: Backups, restored: HeldSnapshot) -> None:
    connect = site.sandbox.database.connect
    with checked(site.journal, site.id, "database") as check:
        observed = comparable(fingerprint_of(site, restored), site)
        check.looked_at = {
            "tables": len(observed.tables),
            "rows": sum(table.rows for table in observed.tables.values()),
            "catalogue objects": sum(len(objects) for objects in observed.catalogue.values()),
            "sequences": len(observed.sequences),
        }
        if backups.taken is not None:
            expected = comparable(backups.taken.fingerprint, site)
            check.findings = compare(expected, observed, sequences_until=backups.taken.sequences_until)
        else:
            check.findings = [*_structure(site, observed), *emptied(reckoned(site), observed)]
            reason = (
                "the deployment has gone on since its backup was made: structure is compared with what it is now, and"
                " no table that holds rows there may be empty here"
            )
            check.not_tested = [{"what": "each row against the deployment", "reason": reason}]
        check.not_tested.append(
            {"what": "passwords of the roles", "reason": "the role that reads the deployment may not see them"}
        )
    with checked(site.journal, site.id, "sequences and columns") as check:
        with reading(connect, snapshot=restored.name) as connection:
            check.findings = sequences_behind_columns(connection, restored.sequences)
        check.looked_at = {"sequences": len(restored.sequences)}


def comparable(read: Fingerprint, site: ShadowSite) -> Fingerprint:
    """Without what differs between a deployment and its sandbox whatever was restored: passwords, and who made it."""
    roles = {
        name: json.dumps({key: value for key, value in json.loads(text).items() if key != "password"}, sort_keys=True)
        for name, text in read.catalogue.get("role", {}).items()
        if name != site.sandbox.database.user
    }
    catalogue: Catalogue = {**read.catalogue, "role": roles}
    return dataclasses.replace(read, catalogue=catalogue)


def _structure(site: ShadowSite, observed: Fingerprint) -> list[Finding]:
    """What the restored structure lacks of the deployment's of now, or has besides."""
    with reading(site.deployment.database.connect, snapshot=None) as connection:
        now = dataclasses.replace(observed, catalogue=read_catalogue(connection, key=site.key), tables={}, sequences={})
    return compare(comparable(now, site), dataclasses.replace(observed, tables={}, sequences={}))


def reckoned(site: ShadowSite) -> dict[str, int]:
    """How many rows the deployment's own statistics reckon with, by table; those with hardly any are left out."""
    with site.deployment.database.connect() as connection:
        rows = {str(name): int(count) for name, count in connection.execute(RECKONED)}
    return {name: count for name, count in rows.items() if count > FEW_ROWS}


def emptied(there: Mapping[str, int], observed: Fingerprint) -> list[Finding]:
    """Tables that hold rows in the deployment, about so many ``there``, and none here."""
    empty = [
        (rows, f"{name}, which holds about {rows:,} rows in the deployment")
        for name, rows in there.items()
        if name in observed.tables and observed.tables[name].rows == 0
    ]
    return summed_up("TABLE-EMPTY", "table", empty)


def _verify_objects(site: ShadowSite, copied: Fetched, looked: Looked, bucket: Path, *, booted: datetime) -> None:
    store = site.sandbox.objects
    with checked(site.journal, site.id, "objects") as check:
        found = take_inventory(store.client(connections=8), store.bucket, bucket, describe=frozenset(), workers=8)
        held = inventory_of(copied, site.directory / "objects-of-the-copy.jsonl")
        written = {
            str(item.object_name)
            for item in store.client().list_objects(store.bucket, recursive=True)
            if item.last_modified is not None and item.last_modified >= booted
        }
        check.looked_at = {"objects": found.count, "bytes": found.bytes}
        different = compare_inventories(held.path, found.path, explained=written.__contains__)
        check.findings = [*copied.findings, *different]
        check.not_tested = [
            {"what": what, "reason": "the sandbox's object server does not keep them"}
            for what in ("objects' content types", "objects' user metadata", "objects' tags")
        ]
    with checked(site.journal, site.id, "objects of the deployment", optional=True) as check:
        before = None if copied.taken else _time(copied.instant) - MARGIN if copied.instant else _NEVER
        findings, counts = _lost(site, looked, bucket, before=before)
        if not counts["objects"]:
            raise NotGiven(
                "objects that the deployment holds and the backup lacks",
                remedy="none of the deployment's objects is known to be older than the backup",
            )
        check.findings, check.looked_at = findings, counts


def _lost(
    site: ShadowSite, looked: Looked, bucket: Path, *, before: datetime | None
) -> tuple[list[Finding], dict[str, int]]:
    """Objects that the deployment held before the backup, still holds, and that did not come back as they are.

    Args:
        before: held since then; none: held when it was looked at, before its bucket was copied.
    """
    store = site.deployment.objects
    listed = (
        f"{item.object_name}\0{item.etag}\0{item.size}"
        for item in store.client().list_objects(store.bucket, recursive=True)
        if before is None or (item.last_modified is not None and item.last_modified < before)
    )
    old = site.directory / "objects-of-before.jsonl"

    def entries() -> Iterator[ObjectEntry]:
        for line in sorted_keys(listed, scratch=site.directory):
            key, etag, size = line.split("\0")
            yield ObjectEntry(key=key, size=int(size), sha256=etag)

    def unchanged() -> Iterator[ObjectEntry]:
        for then, now in merged(read_inventory(looked.inventory), entries()):
            if then is not None and then == now:
                yield then

    count = write_inventory(old, unchanged() if before is None else entries()).count
    absent, other = Cases(), Cases()
    for expected, observed in merged(read_inventory(old), read_inventory(bucket)):
        if expected is None:
            continue
        if observed is None:
            absent.add(expected.size, expected.key)
        elif observed.size != expected.size:
            other.add(abs(observed.size - expected.size), f"{expected.key}, {observed.size} bytes")
    return [*absent.findings("OBJECT-LOST", "object"), *other.findings("OBJECT-ALTERED", "object")], {"objects": count}


def _verify_references(site: ShadowSite, restored: HeldSnapshot, bucket: Path) -> None:
    with checked(site.journal, site.id, "references", optional=True) as check:
        if not site.references_query:
            raise NotGiven("references from the database to objects", remedy="give queries.references in the profile")
        with reading(site.sandbox.database.connect, snapshot=restored.name) as connection:
            findings, check.looked_at = check_references(
                connection,
                site.references_query,
                bucket,
                tenant_of_key=re.compile(site.tenant_pattern) if site.tenant_pattern else None,
            )
        # What was uploaded between the copy of the one store and that of the other has no row; it is counted.
        check.findings = [finding for finding in findings if finding.code != ORPHANED]


def _verify_heartbeat(site: ShadowSite, looked: Looked, restored: HeldSnapshot) -> None:
    with checked(site.journal, site.id, "heartbeat", optional=True) as check:
        if looked.beats is None and looked.object_beats is None:
            raise NotGiven(
                "the heartbeat of the deployment", remedy="see docs/heartbeat.md: python -m drills heartbeat"
            )
        interval_ns = site.profile.heartbeat.interval_ns
        rows, objects = read_beats(restored.connection), read_object_beats(site.sandbox.objects)
        judged = [
            judge_beats(rows, looked.beats, interval_ns),
            judge_beats(objects, looked.object_beats, interval_ns),
            judge_pairs(rows, objects),
        ]
        for findings, counts in judged:
            check.findings += findings
            check.looked_at = {**check.looked_at, **{k: check.looked_at.get(k, 0) + v for k, v in counts.items()}}


def _verify_egress(site: ShadowSite) -> None:
    """Whether what was booted could reach anything but the restored stores."""
    with checked(site.journal, site.id, "no way out of the sandbox", optional=True) as check:
        if not site.sandbox.prefix:
            why = "no service is booted" if not site.sandbox.services else 'the profile says shadow.egress = "open"'
            raise NotGiven("no way out of the sandbox", remedy=why)
        inside = try_ways_out(site.processes, site.sandbox.prefix, directory=site.directory)
        check.findings, check.looked_at = check_egress(inside), {"ways out": len(inside.tried)}
        unknown = unproven(inside, try_ways_out(site.processes, (), directory=site.directory))
        if unknown:
            reason = f"{', '.join(unknown[:5])}: the probe did not come out there from outside either"
            check.not_tested = [{"what": f"{len(unknown)} ways out", "reason": reason}]


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00"))

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
from checks.contents import LARGE_OBJECTS
from checks.database import Fingerprint, compare, fingerprint, sequences_behind_columns
from checks.differences import Cases, summed_up
from checks.egress import check_egress, try_ways_out, unproven
from checks.heartbeat import SCHEMA as HEARTBEAT
from checks.heartbeat import Beats, judge_beats, judge_pairs, read_beats, read_object_beats
from checks.inventories import ObjectEntry, read_inventory, sorted_keys, write_inventory
from checks.objects import compare_inventories, list_objects, merged, take_inventory
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
# A table that is no larger by the server's statistics is looked into, up to so many rows.
MOST_COUNTED: Final = 100_000
FEW_ROWS: Final = 10
# A table may shrink or grow; one that came back with less than half, and so many rows fewer, is told.
FAR_FEWER: Final = 100
# How many beats may be missed before a heartbeat counts as stopped.
MISSED: Final = 3
RECKONED: Final = """
SELECT format('%I.%I', n.nspname, c.relname), c.reltuples::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'enprivacy_heartbeat')
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
    with checked(site.journal, site.id, "the backup as it is kept", optional=True) as check:
        if backups.database.taken and not put_back:
            raise NotGiven("the backup as it is kept", remedy="it was made for this drill")
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
            check.findings += _emptied_objects(observed)
            reason = "the backup's role and the deployment's are not asked for them: only number, owner and grants are"
            if LARGE_OBJECTS in observed.tables and observed.tables[LARGE_OBJECTS].rows:
                check.not_tested.append({"what": "the contents of large objects", "reason": reason})
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
    there, here = (_without_heartbeat(each) for each in (comparable(now, site), observed))
    return compare(there, dataclasses.replace(here, tables={}, sequences={}))


def _without_heartbeat(read: Fingerprint) -> Fingerprint:
    """A heartbeat may be younger than the backup: its own check tells of it."""
    catalogue = {
        kind: {name: text for name, text in things.items() if HEARTBEAT not in name}
        for kind, things in read.catalogue.items()
    }
    return dataclasses.replace(read, catalogue=catalogue)


def reckoned(site: ShadowSite) -> dict[str, int]:
    """How many rows the deployment holds, by table: as its own statistics reckon, of small ones counted."""
    with site.deployment.database.connect() as connection:
        rows = {str(name): int(count) for name, count in connection.execute(RECKONED)}
        for name, count in rows.items():
            if count <= FEW_ROWS:  # also what was never analysed, which may be large: no more than so many are counted
                query = f"SELECT count(*) FROM (SELECT FROM {name} LIMIT {MOST_COUNTED}) AS counted"
                found = connection.execute(query.encode()).fetchone()
                rows[name] = int(found[0]) if found else 0
    return {name: count for name, count in rows.items() if count > 0}


def emptied(there: Mapping[str, int], observed: Fingerprint) -> list[Finding]:
    """Tables that hold rows in the deployment, about so many ``there``, and none here."""
    here = {name: observed.tables[name].rows for name in there if name in observed.tables}
    empty = [
        (there[name], f"{name}, which holds about {there[name]:,} rows in the deployment")
        for name, rows in here.items()
        if rows == 0
    ]
    fewer = [
        (there[name] - rows, f"{name}: {rows:,} rows, about {there[name]:,} in the deployment")
        for name, rows in here.items()
        if 0 < 2 * rows < there[name] and there[name] - rows > FAR_FEWER
    ]
    return [*summed_up("TABLE-EMPTY", "table", empty), *summed_up("VOLUME-DRIFT", "table", fewer)]


def _emptied_objects(observed: Fingerprint) -> list[Finding]:
    """Large objects that came back without a byte in any of them."""
    held = observed.tables.get(LARGE_OBJECTS)
    if held is None or not held.rows or held.bytes:
        return []
    return [Finding(code="LARGE-OBJECTS-DIFFER", seen=f"{held.rows:,} large objects, all empty", where="large objects")]


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
        if not counts["objects"] and not findings:
            raise NotGiven(
                "objects that the deployment holds and the backup lacks",
                remedy="none of the deployment's objects is known to be older than the backup",
            )
        check.findings, check.looked_at = findings, counts


def _lost(
    site: ShadowSite, looked: Looked, bucket: Path, *, before: datetime | None
) -> tuple[list[Finding], dict[str, int]]:
    """Objects that the deployment held before the backup, still holds, and that did not come back as they are.

    Their content is told by the ETag, where that is a digest of it on both sides: it is where it agrees for any.

    Args:
        before: held since then; none: held when it was looked at, before its bucket was copied.
    """
    store, sandbox = site.deployment.objects, site.sandbox.objects
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
    here = list_objects(sandbox.client(), sandbox.bucket, site.directory / "objects-listed-here.jsonl").path
    absent, other, content = Cases(), Cases(), Cases()
    same = 0
    for expected, observed in merged(read_inventory(old), read_inventory(here)):
        if expected is None:
            continue
        if observed is None:
            absent.add(expected.size, expected.key)
        elif observed.size != expected.size:
            other.add(abs(observed.size - expected.size), f"{expected.key}, {observed.size} bytes")
        elif observed.sha256 != expected.sha256:
            content.add(expected.size, f"{expected.key}, {expected.size} bytes, with other content")
        else:
            same += 1
    findings = [*absent.findings("OBJECT-LOST", "object"), *other.findings("OBJECT-ALTERED", "object")]
    findings += content.findings("OBJECT-ALTERED", "object") if same else []
    return [*findings, *_foreign(looked.inventory, bucket)], {"objects": count, "of these compared by content": same}


def _foreign(there: Path, here: Path) -> list[Finding]:
    """A copy that has not one key in common with the bucket that it is said to be of."""
    counted = [0, 0, 0]
    for one, other in merged(read_inventory(there), read_inventory(here)):
        counted[0] += one is not None
        counted[1] += other is not None
        counted[2] += one is not None and other is not None
    if not counted[0] or not counted[1] or counted[2]:
        return []
    seen = f"none of its {counted[1]:,} objects has the key of one of the deployment's {counted[0]:,}"
    return [Finding(code="BACKUP-FOREIGN", seen=seen, where="the copy of the objects")]


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
        check.findings = silent(looked.beats or looked.object_beats, _time(looked.database_time), interval_ns)
        rows, objects = read_beats(restored.connection), read_object_beats(site.sandbox.objects)
        judged = [
            judge_beats(rows, looked.beats, interval_ns),
            judge_beats(objects, looked.object_beats, interval_ns),
            judge_pairs(rows, objects),
        ]
        for findings, counts in judged:
            check.findings += findings
            check.looked_at = {**check.looked_at, **{k: check.looked_at.get(k, 0) + v for k, v in counts.items()}}


def silent(beats: Beats | None, now: datetime, interval_ns: int) -> list[Finding]:
    """A heartbeat that has stopped, or that is ahead of the clock of the deployment itself."""
    if beats is None or beats.last is None:
        return []
    since = now - beats.last
    if since > MISSED * timedelta(microseconds=interval_ns // 1000):
        seen = f"the last beat was at {beats.last:%Y-%m-%dT%H:%M:%SZ}, {since} before"
        return [Finding(code="HEARTBEAT-SILENT", seen=seen, where="heartbeat")]
    if -since > timedelta(microseconds=interval_ns // 1000):
        seen = f"the beat of {beats.last:%Y-%m-%dT%H:%M:%SZ} is {-since} ahead of the deployment's own clock"
        return [Finding(code="HEARTBEAT-ALTERED", seen=seen, where="heartbeat")]
    return []


def _verify_egress(site: ShadowSite) -> None:
    """Whether what was booted could reach anything but the restored stores."""
    with checked(site.journal, site.id, "no way out of the sandbox over the network", optional=True) as check:
        if not site.sandbox.prefix:
            why = "no service is booted" if not site.sandbox.services else 'the profile says shadow.egress = "open"'
            raise NotGiven("no way out of the sandbox over the network", remedy=why)
        inside = try_ways_out(site.processes, site.sandbox.prefix, directory=site.directory)
        check.findings, check.looked_at = check_egress(inside), {"ways out": len(inside.tried)}
        unknown = unproven(inside, try_ways_out(site.processes, (), directory=site.directory))
        if unknown:
            reason = f"{', '.join(unknown[:5])}: the probe did not come out there from outside either"
            check.not_tested = [{"what": f"{len(unknown)} ways out", "reason": reason}]


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00"))

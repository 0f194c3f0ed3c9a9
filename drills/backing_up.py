"""Making a backup set: objects, database, objects again, configuration, and what a restore of it must give."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks.configuration import digest_configuration
from checks.database import Fingerprint, fingerprint
from checks.inventories import ObjectEntry, read_inventory, sorted_keys, write_inventory
from checks.objects import merged, take_inventory
from checks.point_in_time import write_mark
from checks.snapshot import HeldSnapshot, hold_snapshot, hold_snapshot_at_mark, read_sequences
from checks.target import needs_of
from drills.across_stores import check_backup, objects_of
from drills.contract import Archives, DatabaseMethod, ObjectMethod
from drills.copied import list_before, require_copied
from drills.made import Instant, Made
from drills.schema_queries import remark
from drills.site import Site
from fixtures.backup_set import COMPONENTS, BackupSet, sha256_of, write_manifest
from fixtures.deployment import Deployment, NotGiven
from fixtures.tree import files_below
from reports.records import utc_stamp

STORED = "fingerprint.json"


@contextlib.contextmanager
def hold_instant(site: Site, *, asserted: bool) -> Iterator[tuple[HeldSnapshot, str]]:
    """Hold the database's snapshot of now; with ``asserted``, between two writes, the first within it, the other not.

    Yields the snapshot and the id of the two writes, empty where there are none.
    """
    connect = site.deployment.database.connect
    if not asserted:
        with hold_snapshot(connect) as held:
            yield held, ""
        return
    mark = f"{site.tag}-{secrets.token_hex(3)}"
    with connect() as connection:
        write_mark(connection, mark, "before")
        with hold_snapshot_at_mark(connect, f"enprivacy-drill-{mark}") as held:
            write_mark(connection, mark, "after")
            yield held, mark


def read_instant(site: Site, held: HeldSnapshot, mark: str, *, stored: Path, key: bytes, at_ns: int) -> Instant:
    """Read the fingerprint of a held instant."""
    connect = site.deployment.database.connect
    with connect() as connection:
        sequences_until = read_sequences(connection)
    stored.write_text(fingerprint(connect, held=held, jobs=site.profile.jobs, key=key).to_json(), "utf-8")
    return Instant(
        stored=stored,
        sequences_until=sequences_until,
        target=site.target(held.restore_point, time=held.database_time, lsn=held.restore_lsn or held.wal_lsn),
        mark=mark,
        at_ns=at_ns,
    )


def make_set(site: Site, number: int, key: bytes, previous: Made | None) -> Made:
    """Make one backup set while writes go on, and check that its references resolve.

    The objects are copied twice. What a row of the database's instant refers to was uploaded before it, so the second
    copy has it, unless it was deleted meanwhile: then the first has it.

    Raises:
        CommandFailed: a tool of a method failed.
        Failure: a reference of the instant does not resolve within the set, or the set lacks an object.
    """
    deployment, scenario, clock = site.deployment, site.scenario, site.record.clock
    backup = site.backup_set(number)
    for component in ("database", "objects", "configuration"):
        backup.place(component).mkdir(parents=True, mode=0o700)
    limit, identifier = site.profile.backup_limit_ns, system_identifier(deployment)
    in_log = scenario.database.basis == "target"
    began_ns = clock.now()
    with contextlib.ExitStack() as stack:
        before_any = list_before(site, number)
        at_first = _list_source(site, f"first-{number}")
        with site.journal.phase("copy objects", drill=site.id):
            scenario.objects.back_up(deployment.objects, backup.place("objects"), site.job(limit))
        first_pass = _list_copy(site, backup, number)
        site.load.await_upload()
        with site.journal.phase("back up", drill=site.id) as seen:
            before, place = previous.backup.place("database") if previous else None, backup.place("database")
            if in_log:
                scenario.database.back_up(deployment.database, place, site.job(limit, previous=before))
                held, mark = stack.enter_context(hold_instant(site, asserted=True))
                at_ns = clock.now()
                assert site.archives is not None, "who recovers to an instant keeps the log"
                site.archives.flush(deployment.database, site.job(limit))
            else:
                held, mark = stack.enter_context(hold_instant(site, asserted=False))
                at_ns = clock.now()
                job = site.job(limit, snapshot=held.name, previous=before)
                scenario.database.back_up(deployment.database, place, job)
            listed = _list_source(site, f"second-{number}")
            scenario.objects.back_up(deployment.objects, backup.place("objects"), site.job(limit))
            skew_ns = clock.now() - at_ns
            values = _configuration(site)
            scenario.configuration.back_up(values, backup.place("configuration"), site.job(limit))
            seen["skew_ns"] = skew_ns
        with site.journal.phase("fingerprint", drill=site.id):
            stored = backup.directory / STORED
            instant = read_instant(site, held, mark, stored=stored, key=key, at_ns=at_ns)
            manifest = write_manifest(
                backup,
                describe(
                    deployment,
                    held,
                    instant.fingerprint,
                    methods=(scenario.database, scenario.objects),
                    run_id=site.record.run_id,
                    recipient=site.keys.recipient,
                    duration_ns=clock.now() - began_ns,
                ),
            )
            objects, allowed = _objects_held(site, backup, at_first, listed, number)
            orphans = check_backup(site, held, objects) + len(allowed)
    require_copied(site, backup, before_any, number)
    manifest_sha256 = sha256_of(backup.directory / "manifest.json")
    site.journal.write(
        "backup.made",
        drill=site.id,
        manifest_sha256=manifest_sha256,
        bytes=sum(component["bytes"] for component in manifest["components"].values()),
        snapshot_ns=at_ns,
        skew_ns=skew_ns,
        components=manifest["components"],
    )
    return Made(
        backup=backup,
        instant=instant,
        objects=objects,
        allowed=allowed,
        orphans=orphans,
        first_pass=first_pass,
        began_ns=began_ns,
        configuration=digest_configuration(values, key),
        system_identifier=identifier,
        manifest_sha256=manifest_sha256,
    )


def _configuration(site: Site) -> dict[str, str]:
    """The configuration in force; none, and that said, where nobody told where it is."""
    try:
        return site.deployment.configuration()
    except NotGiven as absent:
        site.journal.write("not_tested", drill=site.id, **remark(absent))
        return {}


def describe(
    deployment: Deployment,
    held: HeldSnapshot,
    fingerprint: Fingerprint,
    *,
    methods: tuple[DatabaseMethod, ObjectMethod],
    run_id: str,
    recipient: str,
    duration_ns: int,
) -> dict[str, Any]:
    """What a manifest says of a set beside its files.

    ``kept`` are the components whose files lie in the set; ``logged``: a write-ahead log goes on from it; ``sizes``:
    bytes that come back where that is not the size of the files; ``needs``: see ``checks.target``.
    """
    database, objects = methods
    row = held.connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return {
        "deployment": deployment.name,
        "run": run_id,
        "made_utc": utc_stamp(),
        "duration_ns": duration_ns,
        "tools": deployment.versions(),
        "system_identifier": system_identifier(deployment),
        "server_version": fingerprint.server_version,
        "snapshot": {"name": held.name, "wal_lsn": held.wal_lsn, "database_time": held.database_time},
        "recipient": recipient,
        "methods": {"database": database.name, "objects": objects.name},
        "physical": database.into == "files",
        "logged": isinstance(database, Archives),
        "kept": list(COMPONENTS) if objects.plain else ["database", "configuration"],
        "sizes": {"database": int(row[0])},
        "needs": needs_of(fingerprint),
    }


def system_identifier(deployment: Deployment) -> str:
    """The number that every PostgreSQL cluster is given when it is made."""
    with deployment.database.connect() as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row is not None
    return str(row[0])


def _list_copy(site: Site, backup: BackupSet, number: int) -> Path:
    """The keys that the copy holds now, where they can be told from its files; an empty list otherwise."""
    path = site.directory / f"objects-first-pass-{number}.jsonl"
    place = backup.place("objects")
    files = files_below(place) if site.scenario.objects.plain else iter(())
    keys = sorted_keys((os.path.relpath(file.path, place) for file in files), scratch=site.directory)
    # Only the keys matter here: sizes and digests of what is there are compared after the restore.
    write_inventory(path, (ObjectEntry(key=key, size=0, sha256="") for key in keys))
    return path


def _list_source(site: Site, when: str) -> Path | None:
    """The keys in the bucket now, before it is copied; none where the copy itself can be listed."""
    if site.scenario.objects.plain:
        return None
    store = site.deployment.objects
    names = (str(item.object_name) for item in store.client().list_objects(store.bucket, recursive=True))
    path = site.directory / f"objects-listed-{when}.jsonl"
    keys = sorted_keys(names, scratch=site.directory)
    write_inventory(path, (ObjectEntry(key=key, size=0, sha256="") for key in keys))
    return path


def _objects_held(
    site: Site, backup: BackupSet, at_first: Path | None, listed: Path | None, number: int
) -> tuple[Path, frozenset[str]]:
    """The inventory of what the set must give back, and the keys that it may give back besides.

    A copy whose files are the objects is its own inventory. Of any other, what was in the bucket before its second pass
    and is there unchanged after it must be in it; what came or went meanwhile may be.
    """
    must = site.directory / f"objects-expected-{number}.jsonl"
    if at_first is None or listed is None:
        write_inventory(must, objects_of(backup))
        return must, frozenset()
    store = site.deployment.objects
    now = take_inventory(
        store.client(connections=8),
        store.bucket,
        site.directory / f"objects-now-{number}.jsonl",
        describe=frozenset(),
        workers=8,
    )
    allowed: set[str] = set()

    def both() -> Iterator[ObjectEntry]:
        for before, after in merged(read_inventory(listed), read_inventory(now.path)):
            if before is not None and after is not None:
                yield after
            else:
                allowed.update(entry.key for entry in (before, after) if entry is not None)

    write_inventory(must, both())
    for before, after in merged(read_inventory(at_first), read_inventory(must)):
        if before is not None and after is None:
            allowed.add(before.key)
    return must, frozenset(allowed)

"""What is verified after a restore: everything restored against what the backup held, the rest against itself."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from checks.checked import checked
from checks.configuration import check_sealed, compare_configuration, digest_configuration
from checks.credentials import credentials_returned, judge_logins
from checks.database import compare, fingerprint, sequences_behind_columns, tables_that_changed
from checks.inventories import ObjectEntry, read_inventory
from checks.live import rows_lost, with_those_they_change
from checks.objects import compare_inventories, list_objects, take_inventory
from checks.point_in_time import assert_marks
from checks.quiet import archiving_settings, compare_jobs, read_job_effects, read_jobs
from checks.reach import reach_of_application
from checks.references import check_references
from checks.snapshot import HeldSnapshot, reading
from drills.conforming import Trail, verify_conformance, verify_trail
from drills.made import Instant, Made
from drills.own_writes import PER_UPLOAD, OwnWrites
from drills.site import Site
from fixtures.backup_set import FILES, BackupSet
from fixtures.rotation import Credential
from reports.records import Finding

DESCRIPTIONS: Final = {
    "content_type": "objects' content types",
    "metadata": "objects' user metadata",
    "tags": "objects' tags",
}
ORPHANED: Final = "OBJECTS-ORPHANED"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a restore has led to, and what it is held against.

    ``made`` is the backup set that was restored. ``instant`` is the one that the database must equal; where it came
    back to one that nobody read, all of it but the tables that went on changing until ``last_read``. ``spared`` lists
    the bucket that the disaster spared, as it was before what it lacked was put back. ``restored`` holds the restored
    database as it was before any client was let in; ``own`` is what the suite wrote itself. ``revoked`` are credentials
    that were revoked after the backup, which a restore brings back. ``trail`` is the audit trail across the strike.
    """

    made: Made
    instant: Instant
    last_read: Instant | None
    spared: Path | None
    restored: HeldSnapshot
    own: OwnWrites
    key: bytes = dataclasses.field(repr=False)
    trail: Trail
    revoked: Sequence[Credential] = ()


def verify(site: Site, outcome: Outcome) -> Path:
    """Compare everything with what the backup held; each part is a check of its own in the journal.

    Returns:
        The inventory of the bucket as it is now, for the controls to start from.
    """
    bucket = site.directory / "objects-observed.jsonl"
    _verify_database(site, outcome)
    _verify_objects(site, outcome, bucket)
    _verify_spared(site, outcome)
    _verify_references(site, outcome, bucket)
    _verify_configuration(site, outcome)
    _verify_quiet(site, outcome)
    _verify_reach(site, outcome)
    _verify_revoked(site, outcome)
    verify_trail(site, outcome.trail, outcome.restored.connection)
    verify_conformance(site)
    return bucket


def _verify_database(site: Site, outcome: Outcome) -> None:
    connect = site.deployment.database.connect
    expected = outcome.instant.fingerprint
    physical = site.plan.database and site.scenario.database.into == "files"
    with checked(site.journal, site.id, "database") as check:
        observed = fingerprint(connect, held=outcome.restored, jobs=site.profile.jobs, key=outcome.key)
        live: set[str] = set()
        if outcome.last_read is not None:
            live = tables_that_changed(outcome.made.instant.fingerprint, outcome.last_read.fingerprint)
            live = with_those_they_change(outcome.restored.connection, live)
        check.findings = compare(
            expected,
            observed,
            sequences_until=None if outcome.last_read else outcome.instant.sequences_until,
            matviews_refreshed=bool(site.plan.database) and not physical,
            live=live,
            unlogged_emptied=bool(physical),
        )
        if live:
            # One may have been under way when the instant was read.
            deletions = len(site.load.deletions(since=outcome.instant.at_ns)) + 1
            check.findings += rows_lost(
                outcome.restored.connection, expected.tables, observed.tables, live, deletions=deletions
            )
        compared = {name: table for name, table in observed.tables.items() if name not in live}
        check.looked_at = {
            "tables": len(compared),
            "rows": sum(table.rows for table in compared.values()),
            "catalogue objects": sum(len(objects) for objects in observed.catalogue.values()),
            "sequences": len(observed.sequences),
        }
        if live:
            reason = (
                "users went on writing until the disaster, and the database holds all of it: no instant that was read"
                " before equals it. The ledger accounts for its own writes in them"
            )
            check.not_tested = [{"what": f"rows of {', '.join(sorted(live))}, one by one", "reason": reason}]
    with checked(site.journal, site.id, "sequences and columns") as check:
        with reading(connect, snapshot=outcome.restored.name) as connection:
            check.findings = sequences_behind_columns(connection, outcome.restored.sequences)
        check.looked_at = {"sequences": len(outcome.restored.sequences)}
    if outcome.instant.mark and site.plan.database:
        with checked(site.journal, site.id, "point in time") as check:
            check.findings = assert_marks(
                outcome.restored.connection, outcome.instant.mark, stops=site.plan.database != "latest"
            )
            check.looked_at = {"writes around the target": 2}


def _verify_objects(site: Site, outcome: Outcome, bucket: Path) -> None:
    store = site.deployment.objects
    with checked(site.journal, site.id, "objects") as check:
        found = take_inventory(
            store.client(connections=8),
            store.bucket,
            bucket,
            describe=store.keeps & set(DESCRIPTIONS),
            workers=8,
        )
        if site.plan.objects != "keep":
            check.findings = compare_inventories(
                outcome.made.objects,
                found.path,
                # A bucket that survived holds more than the set; the references tell which of it nobody needs.
                explained=_written_since(site, outcome) if site.plan.objects == "rebuild" else lambda key: True,
                removed=_removed_since(site, outcome),
            )
        check.looked_at = {"objects": found.count, "bytes": found.bytes}
        check.not_tested = [
            {"what": what, "reason": f"the {site.deployment.provider} object server does not keep them"}
            for name, what in DESCRIPTIONS.items()
            if name not in store.keeps
        ]
        if site.plan.objects == "keep":
            survived = "the disaster spared the bucket, and users went on with it: its references are verified instead"
            check.not_tested.append({"what": "objects against the backup set", "reason": survived})


def _verify_spared(site: Site, outcome: Outcome) -> None:
    """Whether the restore left alone what the disaster had."""
    if outcome.spared is None:
        return
    store = site.deployment.objects
    with checked(site.journal, site.id, "objects that were spared") as check:
        now = list_objects(store.client(), store.bucket, site.directory / "objects-spared-now.jsonl")
        check.findings = compare_inventories(
            outcome.spared, now.path, explained=lambda key: True, removed=_removed_since(site, outcome)
        )
        check.looked_at = {"objects": sum(1 for _ in read_inventory(outcome.spared)), "listings": 2}


def _verify_references(site: Site, outcome: Outcome, bucket: Path) -> None:
    with checked(site.journal, site.id, "references") as check:
        # Rows survived and objects are as of the copy: those written in between are lost work, and told as that.
        lost_with_bucket = not site.plan.database and site.plan.objects != "keep"
        with reading(site.deployment.database.connect, snapshot=None) as connection:
            lost = _lacks(outcome.made.objects) if lost_with_bucket else lambda key: False
            findings, check.looked_at = references(site, connection, bucket, outcome.own, lost=lost)
        # Those that the backup held already are a fact of the backup, shown in its own check. Where the database went
        # back and the bucket did not, the uploads since have no row; where the bucket was filled up from the copy,
        # objects are back that users had deleted.
        allowed = outcome.made.orphans + PER_UPLOAD * outcome.own.unanswered
        if site.plan.objects != "rebuild" and site.plan.database:
            allowed += PER_UPLOAD * outcome.own.uploads_since(outcome.instant.at_ns)
        if site.plan.objects == "refill":
            allowed += PER_UPLOAD * len(site.load.deletions(since=outcome.made.began_ns))
        beyond = check.looked_at["orphaned"] - allowed
        check.findings = [finding for finding in findings if finding.code != ORPHANED or beyond > 0]


def _lacks(inventory: Path) -> Callable[[str], bool]:
    """Says of a key whether an inventory lacks it; asked in the order of the keys, so that one pass is enough."""
    entries = read_inventory(inventory)
    at = next(entries, None)

    def lacks(key: str) -> bool:
        nonlocal at
        while at is not None and at.key.encode() < key.encode():
            at = next(entries, None)
        return at is None or at.key != key

    return lacks


def _verify_configuration(site: Site, outcome: Outcome) -> None:
    deployment = site.deployment
    with checked(site.journal, site.id, "configuration") as check:
        values = deployment.configuration()
        digests = digest_configuration(values, outcome.key)
        check.findings = compare_configuration(outcome.made.configuration, digests)
        check.looked_at = {"variables": len(values)}
    with checked(site.journal, site.id, "sealed values") as check:
        with deployment.database.connect() as connection:
            check.findings, check.looked_at = check_sealed(
                deployment.sealed_values(connection, deployment.configuration())
            )
        if not any(check.looked_at.values()):
            check.not_tested = [{"what": "sealed values", "reason": "the database holds none"}]


def _verify_reach(site: Site, outcome: Outcome) -> None:
    """Whether who holds the application's credentials could take or spoil the backups."""
    with checked(site.journal, site.id, "reach of the application") as check:
        store = site.job(0).store
        check.findings, check.looked_at = reach_of_application(
            site.deployment.client_access(),
            [store] if store else [],
            [outcome.made.backup.directory, outcome.made.backup.apart, site.archive],
        )


def _verify_revoked(site: Site, outcome: Outcome) -> None:
    """Whether what had been revoked opens the restored server again: with a backup older than that, it must be seen."""
    if not outcome.revoked:
        return
    back = credentials_returned(outcome.restored.connection, outcome.revoked)
    # An operator's own commands may restore an instant after the rotation.
    later = not back and site.scenario.database.basis == "some instant"
    with checked(site.journal, site.id, "revoked credentials", expected=not later) as check:
        check.looked_at, check.findings = {"credentials": len(outcome.revoked)}, back
        if later:
            reason = "the method restored an instant after the rotation, so that nothing could come back"
            check.not_tested = [{"what": "a revoked credential that the restore brings back", "reason": reason}]


def _verify_quiet(site: Site, outcome: Outcome) -> None:
    """Whether the restored copy kept from doing again what had been done."""
    deployment = site.deployment
    with checked(site.journal, site.id, "jobs") as check:
        before = read_jobs(outcome.restored.connection, deployment.jobs_query)
        with deployment.database.connect() as connection:
            after = read_jobs(connection, deployment.jobs_query)
            effects = read_job_effects(connection, deployment.job_effects_query)
        check.findings = compare_jobs(before, after, effects)
        pending = sum(job.state == "pending" for job in before.values())
        check.looked_at = {"jobs": len(before), "in flight": pending}
    if not site.plan.database:
        return
    with checked(site.journal, site.id, "archiving of the restored server") as check:
        with deployment.database.connect() as connection:
            check.findings = archiving_settings(connection)
        check.looked_at = {"servers": 1}


def check_revoked(site: Site, revoked: Sequence[Credential]) -> None:
    """Whether the server refuses what was revoked: what was never revoked cannot come back.

    Raises:
        Failure: it does not.
    """
    dsn = site.deployment.client_access().dsn
    with checked(site.journal, site.id, "revoked before the strike") as check:
        check.looked_at = {"credentials": len(revoked)}
        check.findings = [finding for each in revoked for finding in judge_logins(dsn, old=each, new=None)]
    check.require()


def check_backup(site: Site, held: HeldSnapshot, objects: Path) -> int:
    """Whether every reference of the backup's snapshot resolves within the backup; how many objects it holds besides.

    Such orphans are uploads that fell between the snapshot and the object copy: counted, and no finding.

    Raises:
        Failure: a reference does not resolve, and a restore of this set would not hold together.
    """
    own = OwnWrites(prefix=site.load.prefix)
    if not site.scenario.objects.plain:
        # The copy cannot be read without restoring it, and rows of the snapshot may have lost their objects since.
        return references(site, held.connection, objects, own)[1]["orphaned"]
    with checked(site.journal, site.id, "backup's references") as check:
        findings, check.looked_at = references(site, held.connection, objects, own)
        check.findings = [finding for finding in findings if finding.code != ORPHANED]
    check.require()
    return check.looked_at["orphaned"]


def references(
    site: Site,
    connection: psycopg.Connection[Any],
    inventory: Path,
    own: OwnWrites,
    lost: Callable[[str], bool] = lambda key: False,
) -> tuple[list[Finding], dict[str, int]]:
    """Every reference from the database to the bucket, held against an inventory of it."""
    return check_references(
        connection,
        site.deployment.references_query,
        inventory,
        ignored_prefixes=(own.prefix,),
        tenant_of_key=re.compile(site.deployment.tenant_pattern),
        lost=lost,
    )


def _count_references(connection: psycopg.Connection[Any], query: str, key: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM ({query}) AS r (key, a, b, c, d) WHERE key = %s".encode(), (key,))
    return int(next(iter(row))[0])


def _removed_since(site: Site, outcome: Outcome) -> Callable[[str], bool]:
    """Says of a key that is not there whether a client deleted it after the restore: a row referred to it until then.

    Where the database survived the disaster, users went on deleting before it, too: no more than the ledger says.
    The ledger's own objects have no row, and nobody deletes them.
    """
    query = site.deployment.references_query
    # One may have been under way when the backup began.
    deleted = 1 + len(site.load.deletions(since=outcome.made.began_ns))
    before = itertools.repeat(None, 0 if site.plan.database else PER_UPLOAD * deleted)

    def removed(key: str) -> bool:
        if key.startswith(outcome.own.prefix):
            return False
        with site.deployment.database.connect() as connection:
            if _count_references(connection, query, key):
                return False
        if _count_references(outcome.restored.connection, query, key):
            return True
        return next(before, "none left") is None

    return removed


def _written_since(site: Site, outcome: Outcome) -> Callable[[str], bool]:
    """Says of a key that the backup did not hold whether a client wrote it after the restore.

    One did when it is the ledger's, when a row refers to it now and none did in the restored state, or when it is the
    application's and there was an upload whose answer nobody got: of those no more than there were.
    """
    own, query = outcome.own, site.deployment.references_query
    unanswered = itertools.repeat(None, PER_UPLOAD * own.unanswered)

    def written(key: str) -> bool:
        if key in outcome.made.allowed:
            return True
        if key.startswith(own.prefix):
            return key in own.attempted
        with site.deployment.database.connect() as connection:
            now = _count_references(connection, query, key)
        if now:
            return _count_references(outcome.restored.connection, query, key) == 0
        return re.match(site.deployment.tenant_pattern, key) is not None and next(unanswered, "none left") is None

    return written


def objects_of(backup: BackupSet) -> Iterator[ObjectEntry]:
    """The objects of a backup set, in the order of their keys, from its manifest."""
    prefix = "objects/"
    with (backup.directory / FILES).open("rb") as file:
        for line in file:
            entry = json.loads(line)
            if entry["path"].startswith(prefix):
                yield ObjectEntry(key=entry["path"].removeprefix(prefix), size=entry["size"], sha256=entry["sha256"])

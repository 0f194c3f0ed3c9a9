"""References from the database to the bucket, and what users may have done to either since the backup."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

from checks.checked import checked
from checks.inventories import ObjectEntry, read_inventory
from checks.references import check_references
from checks.snapshot import HeldSnapshot, reading
from drills.ledger import probe_key
from drills.outcome import Outcome
from drills.own_writes import PER_UPLOAD, OwnWrites
from drills.schema_queries import references_query, remark, tenant_pattern
from drills.site import Site
from fixtures.backup_set import FILES, BackupSet
from fixtures.deployment import NotGiven
from reports.records import Finding

ORPHANED: Final = "OBJECTS-ORPHANED"


def verify_references(site: Site, outcome: Outcome, bucket: Path) -> None:
    """Whether every reference of the restored database resolves in the bucket as it is now."""
    told = bool(site.deployment.references_query)
    with checked(site.journal, site.id, "references", optional=not told) as check:
        references_query(site.deployment)
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
        try:
            tenant_pattern(site.deployment)
        except NotGiven as absent:
            check.not_tested.append(remark(absent))
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


def check_backup(site: Site, held: HeldSnapshot, objects: Path) -> int:
    """Whether every reference of the backup's snapshot resolves within the backup; how many objects it holds besides.

    Such orphans are uploads that fell between the snapshot and the object copy: counted, and no finding. None are
    counted where nobody told what refers to objects.

    Raises:
        Failure: a reference does not resolve, and a restore of this set would not hold together.
    """
    if not site.deployment.references_query:
        return 0
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
    """Every reference from the database to the bucket, held against an inventory of it.

    Raises:
        NotGiven: nobody told what refers to objects.
    """
    pattern = site.deployment.tenant_pattern
    return check_references(
        connection,
        references_query(site.deployment),
        inventory,
        ignored_prefixes=(own.prefix, probe_key(site.tag)),
        tenant_of_key=re.compile(pattern) if pattern else None,
        lost=lost,
    )


def _count_references(connection: psycopg.Connection[Any], query: str, key: str) -> int:
    text = query.replace("%", "%%")
    row = connection.execute(f"SELECT count(*) FROM ({text}\n) AS r (key, a, b, c, d) WHERE key = %s".encode(), (key,))
    return int(next(iter(row))[0])


def removed_since(site: Site, outcome: Outcome, now: psycopg.Connection[Any]) -> Callable[[str], bool]:
    """Says of a key that is not there whether a client deleted it after the restore: a row referred to it until then.

    Where the database survived the disaster, users went on deleting before it, too: no more than the ledger says.
    The ledger's own objects have no row, and nobody deletes them. Nobody has deleted any where nobody told of rows.

    Args:
        now: a session with the database as it is.
    """
    if not site.deployment.references_query:
        return lambda key: False
    query = references_query(site.deployment)
    # One may have been under way when the backup began.
    deleted = 1 + len(site.load.deletions(since=outcome.made.began_ns))
    before = itertools.repeat(None, 0 if site.plan.database else PER_UPLOAD * deleted)

    def removed(key: str) -> bool:
        if key.startswith(outcome.own.prefix):
            return False
        if _count_references(now, query, key):
            return False
        if _count_references(outcome.restored.connection, query, key):
            return True
        return next(before, "none left") is None

    return removed


def written_since(site: Site, outcome: Outcome, now: psycopg.Connection[Any]) -> Callable[[str], bool]:
    """Says of a key that the backup did not hold whether a client wrote it after the restore.

    One did when it is the ledger's, when a row refers to it now and none did in the restored state, or when it is the
    application's and there was an upload whose answer nobody got: of those no more than there were. Where nobody told
    of rows, any may be one of the uploads, where there were some: ``tells_what_is_new`` says so.

    Args:
        now: a session with the database as it is.
    """
    own, pattern = outcome.own, site.deployment.tenant_pattern
    query = references_query(site.deployment) if site.deployment.references_query else ""
    unanswered = itertools.repeat(None, PER_UPLOAD * own.unanswered)

    def written(key: str) -> bool:
        if key in outcome.made.allowed or key in own.attempted:
            return True
        if key.startswith(own.prefix):
            return False
        if not query:
            return bool(own.uploads)
        if _count_references(now, query, key):
            return _count_references(outcome.restored.connection, query, key) == 0
        return re.match(pattern, key) is not None and next(unanswered, "none left") is None

    return written


def tells_what_is_new(site: Site, outcome: Outcome) -> list[dict[str, str]]:
    """The remark that objects which nobody wrote cannot be told from uploads, where that is so."""
    if site.deployment.references_query or not outcome.own.uploads:
        return []
    reason = (
        "users have uploaded since the restore, and without queries.references nobody knows which objects are theirs"
    )
    return [{"what": "objects that nobody wrote", "reason": reason}]


def objects_of(backup: BackupSet) -> Iterator[ObjectEntry]:
    """The objects of a backup set, in the order of their keys, from its manifest."""
    prefix = "objects/"
    with (backup.directory / FILES).open("rb") as file:
        for line in file:
            entry = json.loads(line)
            if entry["path"].startswith(prefix):
                yield ObjectEntry(key=entry["path"].removeprefix(prefix), size=entry["size"], sha256=entry["sha256"])

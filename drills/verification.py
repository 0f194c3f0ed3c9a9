"""What is verified after a restore: each check is run, timed and journalled, also when it breaks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from checks.configuration import check_sealed, compare_configuration, digest_configuration
from checks.database import Fingerprint, compare, fingerprint, sequences_behind_columns
from checks.inventories import ObjectEntry, write_inventory
from checks.objects import compare_inventories, take_inventory
from checks.references import check_references
from checks.snapshot import HeldSnapshot, SequencePosition, reading
from drills.ledger import PREFIX
from fixtures.backup_set import FILES, BackupSet
from fixtures.deployment import Deployment
from reports.records import Finding, Journal

DESCRIPTIONS: Final = {
    "content_type": "objects' content types",
    "metadata": "objects' user metadata",
    "tags": "objects' tags",
}
OURS: Final = (f"{PREFIX}/",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What the backup held: everything that the restored deployment is compared with."""

    database: Fingerprint
    sequences_until: Mapping[str, SequencePosition]
    configuration: Mapping[str, str]
    key: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(kw_only=True)
class Check:
    """What a check fills in while it runs."""

    looked_at: dict[str, int] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    not_tested: list[dict[str, str]] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def checked(journal: Journal, drill: str, name: str) -> Iterator[Check]:
    """Run one check. If it breaks, that is journalled as its error and the next check goes on."""
    check, started, error = Check(), journal.clock.now(), "interrupted"
    try:
        yield check
        error = ""
    except Exception as problem:
        # Whatever breaks a checker means that nothing was verified: an error in the evidence, never a pass.
        error = f"{type(problem).__name__}: {problem}"
    finally:
        journal.write(
            "check",
            drill=drill,
            check=name,
            started_ns=started,
            ended_ns=journal.clock.now(),
            looked_at=check.looked_at,
            findings=[finding.as_record() for finding in check.findings],
            error=error[:2000],
            not_tested=check.not_tested,
        )


@dataclasses.dataclass(kw_only=True)
class Compared:
    """What was read of the restored deployment, for the controls to start from."""

    expected_objects: Path
    observed_objects: Path
    known_since: set[str] = dataclasses.field(default_factory=set)
    """Keys that the backup did not hold and that clients wrote after the restore."""


def verify_deployment(
    *,
    deployment: Deployment,
    journal: Journal,
    drill: str,
    backup: BackupSet,
    expected: Expected,
    restored: HeldSnapshot,
    directory: Path,
    jobs: int,
) -> Compared:
    """Compare everything restored with what the backup held; each part is a check of its own in the journal.

    Args:
        restored: the restored database as it was before any client was let in.
        directory: for inventories.
    """
    compared = Compared(
        expected_objects=directory / "objects-expected.jsonl", observed_objects=directory / "objects-observed.jsonl"
    )
    connect = deployment.database.connect
    with checked(journal, drill, "database") as check:
        observed = fingerprint(connect, held=restored, jobs=jobs, key=expected.key)
        check.findings = compare(expected.database, observed, sequences_until=expected.sequences_until)
        check.looked_at = {
            "tables": len(observed.tables),
            "rows": sum(table.rows for table in observed.tables.values()),
            "catalogue objects": sum(len(objects) for objects in observed.catalogue.values()),
            "sequences": len(observed.sequences),
        }
    with checked(journal, drill, "sequences and columns") as check:
        with reading(connect, snapshot=restored.name) as connection:
            check.findings = sequences_behind_columns(connection, restored.sequences)
        check.looked_at = {"sequences": len(restored.sequences)}
    with checked(journal, drill, "objects") as check:
        store = deployment.objects
        held = write_inventory(compared.expected_objects, objects_of(backup))
        found = take_inventory(
            store.client(connections=8),
            store.bucket,
            compared.observed_objects,
            describe=store.keeps & set(DESCRIPTIONS),
            workers=8,
        )
        check.findings = compare_inventories(
            held.path, found.path, explained=_written_since(deployment, restored, compared.known_since)
        )
        check.looked_at = {"objects": found.count, "bytes": found.bytes}
        check.not_tested = [
            {"what": what, "reason": f"the {deployment.provider} object server does not keep them"}
            for name, what in DESCRIPTIONS.items()
            if name not in store.keeps
        ]
    with checked(journal, drill, "references") as check:
        check.findings, check.looked_at = references(deployment, compared.observed_objects)
    with checked(journal, drill, "configuration") as check:
        values = deployment.configuration()
        check.findings = compare_configuration(expected.configuration, digest_configuration(values, expected.key))
        check.looked_at = {"variables": len(values)}
    with checked(journal, drill, "sealed values") as check:
        with connect() as connection:
            check.findings, check.looked_at = check_sealed(
                deployment.sealed_values(connection, deployment.configuration())
            )
        if not any(check.looked_at.values()):
            check.not_tested = [{"what": "sealed values", "reason": "the database holds none"}]
    return compared


def references(deployment: Deployment, inventory: Path, *, database: str = "") -> tuple[list[Finding], dict[str, int]]:
    """Every reference from the database to the bucket, held against an inventory of it."""
    with reading(lambda: deployment.database.connect(database), snapshot=None) as connection:
        return check_references(
            connection,
            deployment.references_query,
            inventory,
            ignored_prefixes=OURS,
            tenant_of_key=re.compile(deployment.tenant_pattern),
        )


def ours(key: str) -> bool:
    """Whether an object is the ledger's own: no row refers to those."""
    return key.startswith(OURS)


def _written_since(deployment: Deployment, restored: HeldSnapshot, known: set[str]) -> Callable[[str], bool]:
    """Says of a key that the backup did not hold whether a client wrote it after the restore, and notes it if so.

    One did when it is the ledger's, or when a row refers to it now and none did in the restored state.
    """
    query = f"SELECT count(*) FROM ({deployment.references_query}) AS r (key, a, b, c, d) WHERE key = %s"

    def written(key: str) -> bool:
        if not ours(key):
            with deployment.database.connect() as connection:
                now = connection.execute(query.encode(), (key,)).fetchone()
            before = restored.connection.execute(query.encode(), (key,)).fetchone()
            if now == (0,) or before != (0,):
                return False
        known.add(key)
        return True

    return written


def objects_of(backup: BackupSet) -> Iterator[ObjectEntry]:
    """The objects of a backup set, in the order of their keys, from its manifest."""
    prefix = "objects/"
    with (backup.directory / FILES).open("rb") as file:
        for line in file:
            entry = json.loads(line)
            if entry["path"].startswith(prefix):
                yield ObjectEntry(key=entry["path"].removeprefix(prefix), size=entry["size"], sha256=entry["sha256"])

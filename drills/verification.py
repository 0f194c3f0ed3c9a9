"""What is verified after a restore: each check is run, timed and journalled, also when it breaks."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg

from checks.configuration import check_sealed, compare_configuration, digest_configuration
from checks.database import Fingerprint, compare, fingerprint, sequences_behind_columns
from checks.inventories import ObjectEntry, write_inventory
from checks.objects import compare_inventories, take_inventory
from checks.references import check_references
from checks.snapshot import HeldSnapshot, SequencePosition, reading
from fixtures.backup_set import FILES, BackupSet
from fixtures.deployment import Deployment
from reports.records import Failure, Finding, HarnessError, Journal

DESCRIPTIONS: Final = {
    "content_type": "objects' content types",
    "metadata": "objects' user metadata",
    "tags": "objects' tags",
}
STORED: Final = "fingerprint.json"
ORPHANED: Final = "OBJECTS-ORPHANED"
# An upload makes one object, and Job another.
PER_UPLOAD: Final = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What the backup held: everything that the restored deployment is compared with.

    ``stored`` is the database's fingerprint, which lies beside the backup; ``orphans`` counts the objects of the backup
    that no row of its snapshot refers to: uploads that fell between the snapshot and the copy.
    """

    stored: Path
    orphans: int
    sequences_until: Mapping[str, SequencePosition]
    configuration: Mapping[str, str]
    key: bytes = dataclasses.field(repr=False)

    @property
    def database(self) -> Fingerprint:
        """The fingerprint, read from beside the backup."""
        return Fingerprint.from_json(self.stored.read_text("utf-8"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnWrites:
    """What the suite itself wrote: objects whose keys begin with ``prefix``, of which ``attempted`` names each.

    ``unanswered`` counts the uploads after the strike that ended without an answer: nobody knows what became of them.
    """

    prefix: str
    attempted: frozenset[str] = frozenset()
    unanswered: int = 0


@dataclasses.dataclass(kw_only=True)
class Check:
    """What a check fills in while it runs."""

    looked_at: dict[str, int] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    not_tested: list[dict[str, str]] = dataclasses.field(default_factory=list)
    error: str = ""

    def require(self) -> None:
        """End the drill here unless the check held: what comes next rests on it.

        Raises:
            Failure: it found something.
            HarnessError: it broke.
        """
        if self.error:
            raise HarnessError("a check that the drill rests on", seen=self.error, remedy="see the message")
        if self.findings:
            raise Failure("; ".join(f"{finding.code} {finding.where}: {finding.seen}" for finding in self.findings[:5]))


@contextlib.contextmanager
def checked(journal: Journal, drill: str, name: str) -> Iterator[Check]:
    """Run one check. If it breaks, that is journalled as its error and the next check goes on."""
    check, started = Check(error="interrupted"), journal.clock.now()
    try:
        yield check
        check.error = ""
    except Exception as problem:
        # Whatever breaks a checker means that nothing was verified: an error in the evidence, never a pass.
        check.error = f"{type(problem).__name__}: {problem}"
    finally:
        journal.write(
            "check",
            drill=drill,
            check=name,
            started_ns=started,
            ended_ns=journal.clock.now(),
            looked_at=check.looked_at,
            findings=[finding.as_record() for finding in check.findings],
            error=check.error[:2000],
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
    own: OwnWrites,
    directory: Path,
    jobs: int,
) -> Compared:
    """Compare everything restored with what the backup held; each part is a check of its own in the journal.

    Args:
        restored: the restored database as it was before any client was let in.
        own: what the suite wrote itself, before and after.
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
            held.path, found.path, explained=_written_since(deployment, restored, compared.known_since, own)
        )
        check.looked_at = {"objects": found.count, "bytes": found.bytes}
        check.not_tested = [
            {"what": what, "reason": f"the {deployment.provider} object server does not keep them"}
            for name, what in DESCRIPTIONS.items()
            if name not in store.keeps
        ]
    with checked(journal, drill, "references") as check:
        findings, check.looked_at = references(deployment, compared.observed_objects, own)
        # Those that the backup held already are a fact of the backup, shown in its own check.
        beyond = check.looked_at["orphaned"] - expected.orphans - PER_UPLOAD * own.unanswered
        check.findings = [finding for finding in findings if finding.code != ORPHANED or beyond > 0]
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


def check_backup(
    check: Check, deployment: Deployment, held: HeldSnapshot, backup: BackupSet, directory: Path, own: OwnWrites
) -> int:
    """Whether every reference of the backup's snapshot resolves within the backup; how many objects it holds besides.

    Such orphans are uploads that fell between the snapshot and the object copy: counted, and no finding.
    """
    inventory = write_inventory(directory / "objects-backup.jsonl", objects_of(backup))
    findings, check.looked_at = _references(held.connection, deployment, inventory.path, own)
    check.findings = [finding for finding in findings if finding.code != ORPHANED]
    return check.looked_at["orphaned"]


def references(deployment: Deployment, inventory: Path, own: OwnWrites) -> tuple[list[Finding], dict[str, int]]:
    """Every reference from the database to the bucket, held against an inventory of it."""
    with reading(deployment.database.connect, snapshot=None) as connection:
        return _references(connection, deployment, inventory, own)


def _references(
    connection: psycopg.Connection[Any], deployment: Deployment, inventory: Path, own: OwnWrites
) -> tuple[list[Finding], dict[str, int]]:
    return check_references(
        connection,
        deployment.references_query,
        inventory,
        ignored_prefixes=(own.prefix,),
        tenant_of_key=re.compile(deployment.tenant_pattern),
    )


def _written_since(
    deployment: Deployment, restored: HeldSnapshot, known: set[str], own: OwnWrites
) -> Callable[[str], bool]:
    """Says of a key that the backup did not hold whether a client wrote it after the restore, and notes it if so.

    One did when it is the ledger's, when a row refers to it now and none did in the restored state, or when it is the
    application's and there was an upload whose answer nobody got: of those no more than there were.
    """
    query = f"SELECT count(*) FROM ({deployment.references_query}) AS r (key, a, b, c, d) WHERE key = %s"
    unanswered = itertools.repeat(None, PER_UPLOAD * own.unanswered)

    def written(key: str) -> bool:
        if key.startswith(own.prefix):
            return key in own.attempted
        with deployment.database.connect() as connection:
            now = connection.execute(query.encode(), (key,)).fetchone()
        before = restored.connection.execute(query.encode(), (key,)).fetchone()
        if now != (0,):
            return before == (0,)
        return re.match(deployment.tenant_pattern, key) is not None and next(unanswered, "none left") is None

    def noted(key: str) -> bool:
        if explained := written(key):
            known.add(key)
        return explained

    return noted


def objects_of(backup: BackupSet) -> Iterator[ObjectEntry]:
    """The objects of a backup set, in the order of their keys, from its manifest."""
    prefix = "objects/"
    with (backup.directory / FILES).open("rb") as file:
        for line in file:
            entry = json.loads(line)
            if entry["path"].startswith(prefix):
                yield ObjectEntry(key=entry["path"].removeprefix(prefix), size=entry["size"], sha256=entry["sha256"])

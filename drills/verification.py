"""What is verified after a restore: everything restored against what the backup held, the rest against itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from checks.checked import checked
from checks.configuration import check_sealed, compare_configuration, digest_configuration
from checks.credentials import credentials_returned, judge_logins
from checks.database import compare, fingerprint, sequences_behind_columns, tables_that_changed
from checks.inventories import read_inventory
from checks.live import rows_lost, with_those_they_change
from checks.objects import compare_inventories, list_objects, take_inventory
from checks.point_in_time import assert_marks
from checks.quiet import archiving_settings, compare_jobs, read_job_effects, read_jobs
from checks.reach import reach_of_application
from checks.snapshot import reading
from drills.across_stores import removed_since, tells_what_is_new, verify_references, written_since
from drills.conforming import verify_conformance, verify_trail
from drills.outcome import Outcome as Outcome
from drills.schema_queries import job_effects_query, jobs_query, remark
from drills.site import Site
from fixtures.cluster import Replicates
from fixtures.deployment import NotGiven
from fixtures.providers.attached.destroyable import DestroyableDeployment
from fixtures.rotation import Credential

DESCRIPTIONS: Final = {
    "content_type": "objects' content types",
    "metadata": "objects' user metadata",
    "tags": "objects' tags",
}


def verify(site: Site, outcome: Outcome) -> Path:
    """Compare everything with what the backup held; each part is a check of its own in the journal.

    Returns:
        The inventory of the bucket as it is now, for the controls to start from.
    """
    bucket = site.directory / "objects-observed.jsonl"
    _verify_database(site, outcome)
    _verify_objects(site, outcome, bucket)
    _verify_spared(site, outcome)
    verify_references(site, outcome, bucket)
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
            with site.deployment.database.connect() as now:
                check.findings = compare_inventories(
                    outcome.made.objects,
                    found.path,
                    # A bucket that survived holds more than the set; the references tell which of it nobody needs.
                    explained=written_since(site, outcome, now) if site.plan.objects == "rebuild" else lambda key: True,
                    removed=removed_since(site, outcome, now),
                )
        check.looked_at = {"objects": found.count, "bytes": found.bytes}
        check.not_tested = [
            {"what": what, "reason": _not_kept(site)} for name, what in DESCRIPTIONS.items() if name not in store.keeps
        ]
        if site.plan.objects == "rebuild":
            check.not_tested += tells_what_is_new(site, outcome)
        if site.plan.objects == "keep":
            survived = "the disaster spared the bucket, and users went on with it: its references are verified instead"
            check.not_tested.append({"what": "objects against the backup set", "reason": survived})


def _not_kept(site: Site) -> str:
    if isinstance(site.deployment, DestroyableDeployment):
        return "the suite does not know which of them this object server keeps"
    return f"the {site.deployment.provider} object server does not keep them"


def _verify_spared(site: Site, outcome: Outcome) -> None:
    """Whether the restore left alone what the disaster had."""
    if outcome.spared is None:
        return
    store = site.deployment.objects
    with checked(site.journal, site.id, "objects that were spared") as check:
        found = list_objects(store.client(), store.bucket, site.directory / "objects-spared-now.jsonl")
        with site.deployment.database.connect() as now:
            check.findings = compare_inventories(
                outcome.spared, found.path, explained=lambda key: True, removed=removed_since(site, outcome, now)
            )
        check.looked_at = {"objects": sum(1 for _ in read_inventory(outcome.spared)), "listings": 2}


def _verify_configuration(site: Site, outcome: Outcome) -> None:
    deployment = site.deployment
    with checked(site.journal, site.id, "configuration", optional=not outcome.made.configuration) as check:
        values = deployment.configuration()
        digests = digest_configuration(values, outcome.key)
        check.findings = compare_configuration(outcome.made.configuration, digests)
        check.looked_at = {"variables": len(values)}
    with checked(site.journal, site.id, "sealed values", optional=not deployment.stand_in) as check:
        with deployment.database.connect() as connection:
            check.findings, looked_at = check_sealed(deployment.sealed_values(connection, deployment.configuration()))
        if looked_at["tried"] or deployment.stand_in:
            check.looked_at = looked_at
        if not looked_at["tried"]:
            reason = (
                "the database holds none"
                if deployment.stand_in
                else "the suite does not know what this application's secrets seal: see that it can read its own data"
            )
            check.not_tested = [{"what": "sealed values", "reason": reason}]


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
    with checked(site.journal, site.id, "jobs", optional=not deployment.jobs_query) as check:
        query = jobs_query(deployment)
        before = read_jobs(outcome.restored.connection, query)
        with deployment.database.connect() as connection:
            after = read_jobs(connection, query)
            try:
                effects = read_job_effects(connection, job_effects_query(deployment))
            except NotGiven as absent:
                effects = {}
                check.not_tested.append(remark(absent))
        check.findings = compare_jobs(before, after, effects)
        pending = sum(job.state == "pending" for job in before.values())
        check.looked_at = {"jobs": len(before), "in flight": pending}
    # A server that lived on is no restored one: what it archives and follows is its operator's.
    if not site.plan.database or isinstance(deployment, DestroyableDeployment):
        return
    with checked(site.journal, site.id, "archiving of the restored server") as check:
        with deployment.database.connect() as connection:
            members = [node.name for node in deployment.cluster.nodes] if isinstance(deployment, Replicates) else []
            check.findings = archiving_settings(connection, members=members)
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

"""Restoring after a disaster: which backup set, into what, in which order, and what may go wrong on the way."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psycopg
import pyrage

from checks.backup_set import judge_set
from checks.checked import checked
from checks.objects import list_objects
from checks.target import prerequisites
from drills.contract import KeepsInBucket, KillsRestore, SpoilsBackup, Target, TriesWrongKey
from drills.made import Made
from drills.site import Site
from fixtures.backup_set import COMPONENTS, check_manifest, count_files
from fixtures.damage import looking_first
from fixtures.processes import CommandFailed
from reports.records import Failure, Finding, HarnessError, utc_stamp, wait_until

READ_BEFORE: Final = frozenset({"database", "configuration"})
HALF_WAY: Final = "restore killed half-way"


def check_set(site: Site, made: Made, *, suffix: str = "", spoiled: bool = False) -> bool:
    """Whether a backup set is whole. That it is the one that was made, of this deployment and young enough, must hold.

    Args:
        suffix: of the checks' names, where it is not the newest set.
        spoiled: the disaster damaged files of it, and that must be seen.

    Raises:
        Failure: it is not, and nobody spoiled it.
        HarnessError: it could not be checked.
    """
    with checked(site.journal, site.id, f"backup set{suffix}") as check:
        check.looked_at = {"manifests": 1}
        check.findings = judge_set(
            made.backup,
            manifest_sha256=made.manifest_sha256,
            deployment=site.deployment.name,
            system_identifier=made.system_identifier,
            server_version=site.deployment.database.tools.major * 10_000,
            now_utc=utc_stamp(),
            max_age_ns=site.profile.backup_max_age_ns,
            physical=site.scenario.database.into == "files",
            # A copy that lies in a store or in the bucket itself leaves no more than a note in the set.
            components=COMPONENTS if site.scenario.objects.plain else ("database", "configuration"),
        )
    check.require()
    with checked(site.journal, site.id, f"backup artefacts{suffix}", expected=spoiled) as check:
        check.looked_at = {"files": count_files(made.backup)}
        check.findings = check_manifest(made.backup, contents_of=READ_BEFORE)
    if check.error or not spoiled:
        check.require()
    return not check.findings


def choose_set(site: Site, made: Sequence[Made]) -> Made:
    """The newest set that can be used. The drill knows where the disaster spoiled one, and must see it.

    Raises:
        Failure: a set that nobody spoiled is damaged, or the newest and the one before it are.
    """
    *before, newest = made
    spoiled = isinstance(site.scenario.disaster, SpoilsBackup)
    chosen = newest
    if not check_set(site, newest, spoiled=spoiled):
        chosen = before[-1]
        check_set(site, chosen, suffix=" before")
    site.journal.write(
        "backup.chosen",
        drill=site.id,
        manifest_sha256=chosen.manifest_sha256,
        age_ns=site.record.clock.now() - chosen.instant.at_ns,
        fallback=chosen is not newest,
    )
    return chosen


def restore_configuration(site: Site, made: Made) -> None:
    """Bring configuration and secrets back; where the disaster says so, with a wrong key first."""
    job, place = site.restore_job(), made.backup.place("configuration")
    if isinstance(site.scenario.disaster, TriesWrongKey):
        with checked(site.journal, site.id, "wrong key refused") as check:
            check.looked_at = {"keys": 1}
            check.findings = _try_wrong_key(site, made)
        check.require()
    with restoring(site, "configuration"):
        site.deployment.write_configuration(site.scenario.configuration.restore(place, job))


def _try_wrong_key(site: Site, made: Made) -> list[Finding]:
    other = str(pyrage.x25519.Identity.generate())
    site.record.redactor.learn(other)
    wrong = site.job(site.profile.restore_limit_ns, identity=other)
    try:
        values = site.scenario.configuration.restore(made.backup.place("configuration"), wrong)
    except HarnessError:
        return []
    return [Finding(code="WRONG-KEY-ACCEPTED", seen=f"{len(values)} variables came back", where="configuration")]


def restore_database(site: Site, made: Made, target: Target | None) -> None:
    """Bring the database back; where the disaster says so, the first attempt is killed half-way."""
    if isinstance(site.scenario.disaster, KillsRestore):
        with site.journal.phase("restore database, killed", drill=site.id):
            _kill_half_way(site, made, target)
        with site.journal.phase("provision again", drill=site.id):
            site.deployment.discard_database()
            site.deployment.provision(database=site.scenario.database.into == "server", objects=False)
    with restoring(site, "database"):
        if site.archives:
            with checked(site.journal, site.id, "write-ahead log archive") as check:
                check.findings = site.archives.check_archive(
                    made.backup.place("database"), site.archive, site.restore_job()
                )
                check.looked_at = {"files": sum(1 for path in site.archive.rglob("*") if path.is_file())}
            check.require()
        _restore_database(site, made, target)


def _restore_database(site: Site, made: Made, target: Target | None) -> None:
    method, database = site.scenario.database, site.deployment.database
    if method.into == "server":
        with checked(site.journal, site.id, "restore target") as check:
            with database.connect("postgres") as connection:
                check.findings = prerequisites(connection, made.instant.fingerprint)
            check.looked_at = {"servers": 1}
    method.restore(made.backup.place("database"), database, site.restore_job(target))
    if method.into == "files":
        site.deployment.launch_database()


def _kill_half_way(site: Site, made: Made, target: Target | None) -> None:
    """Begin to restore, and SIGKILL the tool once something of the database is there.

    Raises:
        HarnessError: it ended before it could be killed, so nothing was proven.
    """
    method, processes = site.scenario.database, site.deployment.processes
    place, database = made.backup.place("database"), site.deployment.database
    job = site.restore_job(target)
    with (
        checked(site.journal, site.id, HALF_WAY) as check,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        attempt = pool.submit(method.restore, place, database, job)
        killed = 0

        def struck() -> bool:
            # A method may be between two commands at the first look.
            nonlocal killed
            killed = processes.kill_commands() if _begun(site) else 0
            return killed > 0 or attempt.done()

        wait_until(struck, seconds=job.seconds, interval=0.002, what="the restore to make something")
        try:
            attempt.result()
        except CommandFailed as problem:
            check.looked_at = {"commands killed": killed}
            if not killed:
                raise HarnessError(HALF_WAY, seen=str(problem), remedy="the restore fails by itself") from problem
        else:
            raise HarnessError(
                HALF_WAY,
                seen="the restore had ended before it could be killed",
                remedy="drill on more data: --scale medium",
            )
    check.require()


def _begun(site: Site) -> bool:
    """Whether a restore has made something of the database."""
    database = site.deployment.database
    if site.scenario.database.into == "files":
        return database.data_directory.is_dir() and any(database.data_directory.rglob("*"))
    with contextlib.suppress(psycopg.Error), database.connect() as connection:
        count = (
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^(pg_|inf)'"
        )
        return connection.execute(count).fetchone() != (0,)
    return False


def list_spared(site: Site) -> Path | None:
    """What is in the bucket before what it lacks is put back; none where that may rightly change.

    A method that keeps in the bucket covers what was written over.
    """
    scenario, store = site.scenario, site.deployment.objects
    covers = isinstance(scenario.objects, KeepsInBucket) and scenario.disaster.objects == "overwritten"
    if site.plan.objects != "refill" or covers:
        return None
    return list_objects(store.client(), store.bucket, site.directory / "objects-spared.jsonl").path


def restore_objects(site: Site, made: Made, target: Target | None) -> None:
    """Put back what the bucket lacks."""
    until = target if isinstance(site.scenario.objects, KeepsInBucket) else None
    looking_first(site.deployment)()
    with restoring(site, "objects"):
        site.scenario.objects.restore(made.backup.place("objects"), site.deployment.objects, site.restore_job(until))


@contextlib.contextmanager
def restoring(site: Site, component: str) -> Iterator[None]:
    """A restore that its tool gives up is a finding about the backup, not a fault of the suite."""
    with site.journal.phase(f"restore {component}", drill=site.id):
        try:
            yield
        except HarnessError as problem:
            with checked(site.journal, site.id, f"restore {component}") as check:
                check.looked_at = {"commands": 1}
                check.findings = [Finding(code="RESTORE-FAILED", seen=str(problem), where=component)]
            raise Failure(f"RESTORE-FAILED {component}: {problem}") from problem

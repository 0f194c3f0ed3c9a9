"""A backup set of a deployment that nothing is done to: made once, for the checks that look at backups."""

from __future__ import annotations

import secrets
from pathlib import Path

from checks.database import fingerprint
from checks.snapshot import hold_snapshot
from drills.backing_up import STORED, describe
from drills.contract import Job
from drills.keys import KeyPair
from drills.registry import configuration_methods, database_methods, object_methods
from fixtures.backup_set import COMPONENTS, BackupPlaces, BackupSet, note_manifest, write_manifest
from fixtures.deployment import Deployment
from fixtures.profile import Profile
from reports.records import NANOSECONDS, Clock

DATABASE, OBJECTS, CONFIGURATION = "pg_dump", "rclone", "age"


def make_set_beside(
    deployment: Deployment, directory: Path, *, name: str, profile: Profile, keys: KeyPair, clock: Clock
) -> BackupPlaces:
    """Back a deployment up that nobody writes to, into new directories below ``directory``.

    Raises:
        CommandFailed: a tool of a method failed.
    """
    places = BackupPlaces(sets=directory / "backups", apart=directory / "backups-apart")
    backup = BackupSet(directory=places.sets / name, apart=places.apart / name)
    for component in COMPONENTS:
        backup.place(component).mkdir(parents=True, mode=0o700)
    database, objects = database_methods()[DATABASE], object_methods()[OBJECTS]
    connect, began_ns = deployment.database.connect, clock.now()
    with hold_snapshot(connect) as held:
        job = Job(
            processes=deployment.processes,
            jobs=profile.jobs,
            seconds=profile.backup_limit_ns / NANOSECONDS,
            recipient=keys.recipient,
            archive=directory / "archive",
            own=deployment.own,
            snapshot=held.name,
        )
        database.back_up(deployment.database, backup.place("database"), job)
        objects.back_up(deployment.objects, backup.place("objects"), job)
        values, place = deployment.configuration(), backup.place("configuration")
        configuration_methods()[CONFIGURATION].back_up(values, place, job)
        duration_ns = clock.now() - began_ns
        read = fingerprint(connect, held=held, jobs=profile.jobs, key=secrets.token_bytes(32))
        (backup.directory / STORED).write_text(read.to_json(), "utf-8")
        write_manifest(
            backup,
            describe(
                deployment,
                held,
                read,
                methods=(database, objects),
                run_id=name,
                recipient=keys.recipient,
                duration_ns=duration_ns,
            ),
        )
    note_manifest(backup)
    return places

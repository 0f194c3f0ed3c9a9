"""An application that can reach the backups: its own bucket in a backup store's place, a superuser in its role's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from psycopg.conninfo import make_conninfo

from checks.reach import reach_of_application
from drills.controls.bench import Bench, Control, Seen


def controls(bench: Bench) -> Iterator[Control]:
    """The application as it is, and each way for it to reach too far."""
    yield Control(name="healthy twin of the reach", breaks="nothing", look=lambda: _as_it_is(bench))
    yield Control(
        name="backup store open to the application",
        breaks="backups kept under keys that the application has",
        expects=("BACKUP-REACHABLE",),
        look=lambda: _own_store(bench),
    )
    yield Control(
        name="application a superuser",
        breaks="a superuser in the place of the application's role",
        expects=("BACKUP-REACHABLE",),
        look=lambda: _superuser(bench),
    )


def _as_it_is(bench: Bench) -> Seen:
    findings, _ = reach_of_application(bench.deployment.client_access(), [], [])
    return Seen(victim="the application's role", findings=findings)


def _own_store(bench: Bench) -> Seen:
    access = bench.deployment.client_access()
    findings, _ = reach_of_application(access, [access.objects], [])
    return Seen(victim=f"bucket {access.objects.bucket}", findings=findings)


def _superuser(bench: Bench) -> Seen:
    database = bench.deployment.database
    dsn = make_conninfo(
        host=database.host, port=database.port, dbname=database.name, user=database.user, password=database.password
    )
    findings, _ = reach_of_application(dataclasses.replace(bench.deployment.client_access(), dsn=dsn), [], [])
    return Seen(victim=f"role {database.user}", findings=findings)

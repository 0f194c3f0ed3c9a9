"""Restoring the database of a set under a scratch name, before the deployment that it is a copy of is destroyed."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from checks.checked import checked
from drills.contract import Rehearses
from drills.made import Made
from drills.site import Site
from fixtures.deployment import Database
from fixtures.providers.attached.destroyable import DestroyableDeployment
from reports.records import Finding, HarnessError

# The run's id in it: nobody else has one of that name.
NAME: Final = "enprivacy_drill_rehearsal_{tag}"
BESIDE: Final = "postgres"


def rehearse(site: Site, made: Made) -> None:
    """See that the set's database can be restored into that very server, and drop what was restored.

    Nothing is done for a deployment of the suite's own, and where the database is not touched.

    Raises:
        Failure: it cannot be restored; nothing was destroyed.
        HarnessError: what was restored cannot be dropped.
    """
    plan, method = site.plan, site.scenario.database
    if not isinstance(site.deployment, DestroyableDeployment) or not (plan.database or plan.objects != "keep"):
        return
    if not isinstance(method, Rehearses):
        reason = f"{method.name} restores into the database's own name only"
        site.journal.write("not_tested", drill=site.id, what="a restore before the strike", reason=reason)
        return
    name, database = NAME.format(tag=site.tag), site.deployment.database
    with site.journal.phase("rehearse", drill=site.id), checked(site.journal, site.id, "restore rehearsed") as check:
        _require_absent(database, name)
        try:
            method.rehearse(made.backup.place("database"), database, name, site.restore_job())
        except HarnessError as problem:
            check.findings = [Finding(code="RESTORE-FAILED", seen=str(problem), where="rehearsed before the strike")]
        finally:
            drop(database, name)
        check.looked_at = {"databases": 1}
    check.require()


def drop(database: Database, name: str) -> None:
    """Drop a database that was made here."""
    with database.connect(BESIDE) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _require_absent(database: Database, name: str) -> None:
    with database.connect(BESIDE) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
            raise HarnessError(f"database {name}", seen="is there already", remedy="see who made it")

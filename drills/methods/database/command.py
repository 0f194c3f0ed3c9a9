"""The operator's own commands for the database, from the profile's ``backup.commands``; see ``docs/methods.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from drills.contract import Basis, Job, Means
from fixtures.commands import missing, run_command
from fixtures.deployment import Database


class Command:
    """See ``drills.contract.DatabaseMethod``."""

    name = "command"
    basis: Basis = "some instant"
    into: Literal["server", "files"] = "server"

    def unavailable(self, means: Means) -> str:
        """See ``drills.contract.NeedsMeans``."""
        return missing("database", means.commands)

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """Run ``database_backup``, with the exported snapshot in ``DRILL_SNAPSHOT``."""
        environment = _connection(source) | {"DRILL_SNAPSHOT": job.snapshot}
        run_command(job, "database", "backup", backup=target, environment=environment)

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Run ``database_restore``; the server holds nothing yet, not even the database that ``PGDATABASE`` names."""
        environment = _connection(target) | ({"DRILL_UNTIL": job.until.time} if job.until else {})
        run_command(job, "database", "restore", backup=backup, environment=environment)


def _connection(database: Database) -> dict[str, str]:
    """The variables of libpq, for every program that uses it, and where PostgreSQL's own programs lie."""
    return database.environment() | {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": database.user,
        "PGDATABASE": database.name,
        "DRILL_BIN": str(database.tools.directory),
    }


METHOD: Final = Command()

"""The database, dumped now by ``pg_dump`` through a role that need do no more than read."""

from __future__ import annotations

from typing import Final

from drills.sources.contract import Fetched, Fetching
from fixtures.deployment import Database
from fixtures.shadow_settings import Kept
from reports.records import HarnessError

DUMP: Final = "dump"
ROLES: Final = "roles.sql"


class Take:
    """See ``drills.sources.contract.Source``. With a snapshot's name the dump is of that very instant."""

    name = "take"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """Dump it as of an instant of its own."""
        del kept
        return self.dump(fetching, snapshot="", instant="")

    def dump(self, fetching: Fetching, *, snapshot: str, instant: str) -> Fetched:
        """Dump the database as of an exported snapshot, which was at ``instant``, and the roles without passwords.

        Raises:
            HarnessError: pg_dump is older than the server, or the role may not read everything.
        """
        source = fetching.deployment.database
        _require_dumper(source)
        environment, target = source.environment(), fetching.target
        fetching.processes.run(
            [
                fetching.tools.path("pg_dump"),
                *source.connection_arguments(),
                f"--dbname={source.name}",
                "--format=directory",
                f"--jobs={fetching.jobs}",
                "--compress=1",
                *([f"--snapshot={snapshot}"] if snapshot else []),
                "--lock-wait-timeout=60s",
                f"--file={target / DUMP}",
            ],
            timeout=fetching.seconds,
            env=environment,
        )
        roles = target / ROLES
        fetching.processes.run(
            [
                fetching.tools.path("pg_dumpall"),
                *source.connection_arguments(),
                f"--database={source.name}",
                "--roles-only",
                "--no-role-passwords",
            ],
            timeout=fetching.seconds,
            env=environment,
            stdout=roles,
        )
        return Fetched(
            place=target / DUMP, form="archive", label="dumped now", instant=instant, roles=roles, taken=True,
            known_by="the database's clock at the dump's snapshot" if instant else "",
            bytes=sum(path.stat().st_size for path in (target / DUMP).iterdir()),
        )  # fmt: skip


def _require_dumper(source: Database) -> None:
    with source.connect() as connection:
        server = connection.info.server_version
    if source.tools.major * 10_000 + 9_999 < server:
        raise HarnessError(
            f"pg_dump {source.tools.version} at {source.tools.directory}",
            seen=f"older than the server, which is {server // 10_000}",
            remedy="name newer programs as postgresql.bin_directory: an older pg_dump refuses a newer server",
        )


SOURCE: Final = Take()

"""Starting a sandbox's server on a data directory that was restored: its files, and no address of its source.

Files bring their source's roles, passwords and settings. Nobody is let in with those: the configuration is the
sandbox's own, and its superuser is given its password in single-user mode, after the recovery, before a server listens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from psycopg import sql

from drills.sources.contract import Fetched
from fixtures.deployment import Database
from fixtures.guardian import release_shared_memory
from fixtures.postgres_tools import PostgresTools, Unprivileged, find_unprivileged
from fixtures.processes import CommandFailed, Processes
from fixtures.providers.postgresql import METHOD_SETTINGS, SETTINGS
from fixtures.providers.sandbox import Sandbox
from fixtures.restored_files import AUTO, NEUTRAL, forget_the_source, setting, settings_text
from fixtures.secret_file import secret_file
from fixtures.wal_segments import position
from reports.records import Finding, HarnessError

RECOVERED: Final = "recovered-until"
MANIFEST: Final = "backup_manifest"
# What a restoring tool, or its keeper, may have written into the files since the manifest was made.
WRITTEN_SINCE: Final = (
    "postgresql.conf", AUTO, "pg_hba.conf", "pg_ident.conf", "recovery.signal", "standby.signal", "backup_label",
    "backup_label.old", "tablespace_map", "tablespace_map.old", "barman_wal", ".barman-recover.info",
    "postgresql.conf.origin", f"{AUTO}.origin", "pg_hba.conf.origin", "pg_ident.conf.origin",
)  # fmt: skip
# Libraries that do something of their own accord as soon as they are loaded: jobs of the source must not run here.
RUN_BY_THEMSELVES: Final = ("pg_cron", "pg_partman_bgw", "pglogical", "timescaledb", "citus", "repmgr", "bdr")
# Enough for whatever the log holds; asked of the source's control file.
AS_THE_SOURCE: Final = {
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
ITERATIONS: Final = 4096
REPLAYED: Final = re.compile(r'replayed = "(?P<time>[^"]*)"')


def start_on_files(fetched: Fetched, sandbox: Sandbox, *, jobs: int, seconds: float) -> list[Finding]:
    """Recover a data directory to the end of the log that there is, and start the sandbox's server on it.

    Args:
        seconds: how long one command, and the recovery, may take.

    Returns:
        ``BACKUP-ARTEFACT-ALTERED``, ``WAL-GAP``, ``EXTENSION-ABSENT``.

    Raises:
        HarnessError: the files are another major version's, reach out of themselves, or do not recover.
    """
    del jobs  # a recovery is one process
    processes, tools, data = sandbox.processes, sandbox.database.tools, sandbox.data
    require_version((fetched.place / "PG_VERSION").read_text("ascii").strip(), tools, f"backup {fetched.label}")
    _refuse_links(fetched)
    data.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if fetched.ours:
        shutil.move(fetched.place, data)
    else:
        shutil.copytree(fetched.place, data, symlinks=True)
    findings = _verify(data, tools, processes, seconds)
    unprivileged = find_unprivileged(processes, tools)
    forget_the_source(data)
    _configure(fetched, sandbox, _control(data, tools, processes))
    _hand_over(fetched, sandbox)
    _recover(sandbox, unprivileged, seconds)
    if fetched.log_until:
        findings += _stopped_early(fetched.log_until, data, _control(data, tools, processes))
    sandbox.launch_database(seconds=seconds)
    return findings + _look_around(fetched, sandbox.database)


def recovered_until(sandbox: Sandbox) -> str:
    """When the last transaction that came back was committed, by its server's clock, RFC 3339 in UTC.

    Empty text where no transaction was replayed. The server that recovered knew it; the one that runs now does not.
    """
    place = sandbox.directory / RECOVERED
    return place.read_text("ascii") if place.is_file() else ""


def require_version(major: str, tools: PostgresTools, what: str) -> None:
    """See that the programs here are those of the files' major version.

    Raises:
        HarnessError: they are another version's.
    """
    if major != str(tools.major):
        raise HarnessError(
            what, seen=f"files of PostgreSQL {major}, and the programs at {tools.directory} are {tools.version}",
            remedy=f"name the programs of PostgreSQL {major} as postgresql.bin_directory",
        )  # fmt: skip


def _refuse_links(fetched: Fetched) -> None:
    """A link in a copy of files leads to where its source had them: a server started on it would write there."""
    data = fetched.place
    for link in [*data.glob("*"), *(data / "pg_tblspc").glob("*")]:
        if link.is_symlink() and not (fetched.ours and link.resolve().is_relative_to(data.parent.resolve())):
            raise HarnessError(
                f"backup {fetched.label}", seen=f"{link.relative_to(data)} is a link to {link.readlink()}",
                remedy="back up by a tool that keeps what lies behind links: pgBackRest, Barman or pg_dump",
            )  # fmt: skip


def _verify(data: Path, tools: PostgresTools, processes: Processes, seconds: float) -> list[Finding]:
    """The files against the manifest that was made with them, where one was."""
    if not (data / MANIFEST).is_file():
        return []
    program = tools.path("pg_verifybackup")
    ignored = [f"--ignore={name}" for name in WRITTEN_SINCE]
    finished = processes.run([program, "--no-parse-wal", "--quiet", *ignored, data], timeout=seconds, accept=range(256))
    if finished.exit == 0:
        return []
    said = finished.errors.read_text("utf-8", "replace").replace(str(data), "").strip()
    lines = said.splitlines()
    return [
        Finding(code="BACKUP-ARTEFACT-ALTERED", seen="; ".join(lines[:5]), where=MANIFEST, count=max(1, len(lines)))
    ]


def _control(data: Path, tools: PostgresTools, processes: Processes) -> Mapping[str, str]:
    """What the control file says, by its own words."""
    shown = processes.run([tools.path("pg_controldata"), f"--pgdata={data}"], timeout=60).output.read_text("utf-8")
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in shown.splitlines())}


def _configure(fetched: Fetched, sandbox: Sandbox, control: Mapping[str, str]) -> None:
    """The sandbox's settings for the source's; of those only how the log is fetched, and libraries that are here."""
    data, database = sandbox.data, sandbox.database
    fetch = setting(data, "restore_command") if (data / "recovery.signal").exists() else ""
    libraries = [name.strip().strip('"') for name in setting(data, "shared_preload_libraries").split(",")]
    there = [name for name in libraries if name and name not in RUN_BY_THEMSELVES and _offers(database.tools, name)]
    settings = SETTINGS | {
        "port": str(database.port),
        **{name: control[said] for name, said in AS_THE_SOURCE.items()},
        "hot_standby": "off",
        # A subscription would begin to take from its source's publisher.
        "max_logical_replication_workers": "0",
        "shared_preload_libraries": ",".join(there),
    }
    (data / "postgresql.conf").write_text(settings_text(settings) + f"include_if_exists = '{METHOD_SETTINGS}'\n")
    recovery = {}
    if fetch:
        recovery = {
            # It may name the directory that it was restored to.
            "restore_command": fetch.replace(str(fetched.place), str(data)),
            "recovery_target_timeline": "latest",
        }
    else:
        (data / "recovery.signal").unlink(missing_ok=True)
    (data / AUTO).write_text(settings_text(NEUTRAL | recovery))
    (data / METHOD_SETTINGS).unlink(missing_ok=True)


def _offers(tools: PostgresTools, library: str) -> bool:
    """Whether a library lies where this PostgreSQL's do, beside its programs or in a distribution's place."""
    file = f"{library}.so"
    places = (tools.directory.parent / "lib", tools.directory.parent / "lib" / "postgresql")
    return any((place / file).is_file() for place in places)


def _hand_over(fetched: Fetched, sandbox: Sandbox) -> None:
    """Give the files to the user under whom the server runs: a tool that root runs keeps their source's owner."""
    data = sandbox.data
    data.chmod(0o700)
    beside = list(fetched.place.parent.glob("tablespaces/**/*")) if fetched.ours else []
    for path in (data, *data.rglob("*"), *beside):
        if os.geteuid() == 0:
            os.chown(path, 0, 0, follow_symlinks=False)
        if not path.is_symlink():
            sandbox.own(path)


def _recover(sandbox: Sandbox, unprivileged: Unprivileged, seconds: float) -> None:
    """Recover in a server without any door, and give the sandbox's superuser its password there."""
    data, database, processes = sandbox.data, sandbox.database, sandbox.processes
    user, name = '"' + database.user.replace('"', '""') + '"', "'" + database.user.replace("'", "''") + "'"
    statements = [
        "SELECT to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', "
        '\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') AS replayed',
        f"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {name})"
        f" THEN CREATE ROLE {user}; END IF; END$$",
        f"ALTER ROLE {user} SUPERUSER LOGIN REPLICATION CONNECTION LIMIT -1"
        f" PASSWORD '{_verifier(database.password)}' VALID UNTIL 'infinity'",
    ]
    try:
        with secret_file(processes.logs, "".join(f"{line}\n" for line in statements)) as script:
            finished = processes.run(
                [*unprivileged.prefix, database.tools.path("postgres"), "--single", "-D", data, "template1"],
                timeout=seconds,
                cwd=Path("/"),
                stdin=script,
            )
    except CommandFailed as problem:
        release_shared_memory(data)
        raise HarnessError(
            "recovering the restored files", seen=problem.seen,
            remedy="see what the server says: a log cut short needs an older backup, a missing locale this machine's",
        ) from problem  # fmt: skip
    replayed = REPLAYED.search(finished.output.read_text("utf-8", "replace"))
    (sandbox.directory / RECOVERED).write_text(replayed["time"] if replayed else "", "ascii")


def _verifier(password: str) -> str:
    """What a server stores of a password (RFC 5802): with it, no log can show the password itself."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(ITERATIONS, *text)


def _stopped_early(newest: str, data: Path, control: Mapping[str, str]) -> list[Finding]:
    """``WAL-GAP`` where the recovery ended before the newest segment that is kept: the server calls that its end."""
    now = int(control["Latest checkpoint's TimeLineID"])
    history = data / "pg_wal" / f"{now:08X}.history"
    if not history.is_file():
        return []
    timeline, reached = history.read_text("utf-8").splitlines()[-1].split("\t")[:2]
    size = int(control["Bytes per WAL segment"])
    number = int(newest[8:16], 16) * (2**32 // size) + int(newest[16:24], 16)
    if (int(timeline), (position(reached) - 1) // size) >= (int(newest[:8], 16), number):
        return []
    seen = f"recovery ended at {reached} of timeline {timeline}, and the newest segment that is kept is {newest}"
    return [Finding(code="WAL-GAP", seen=seen, where="the archived write-ahead log")]


def _look_around(fetched: Fetched, database: Database) -> list[Finding]:
    """See that the application's database is there, and what it needs of this server's build."""
    with database.connect("template1") as connection:
        names = [str(name) for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")]
        if "postgres" not in names:
            # Tools connect there first, and nobody need have it.
            connection.execute("CREATE DATABASE postgres TEMPLATE template0")
    if database.name not in names:
        raise HarnessError(
            f"backup {fetched.label}", seen=f"no database {database.name} in it: {', '.join(names)}",
            remedy="name the place of this deployment's backups",
        )  # fmt: skip
    query = "SELECT extname FROM pg_extension WHERE extname NOT IN (SELECT name FROM pg_available_extensions)"
    with database.connect() as connection:
        absent = [str(name) for (name,) in connection.execute(sql.SQL(query))]
    if not absent:
        return []
    return [Finding(code="EXTENSION-ABSENT", seen=", ".join(sorted(absent)), where="the sandbox's server",
                    count=len(absent))]  # fmt: skip

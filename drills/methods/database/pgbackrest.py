"""pgBackRest: a full backup with an incremental one on it, and the log by ``archive-push``, in one repository.

The repository lies in the archive's directory, beside the log that it needs; the backup set holds the label of its
backup and what pgBackRest says of it. pgBackRest cannot stream: what was written after the last whole segment is lost.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from psycopg import sql

from drills.contract import Basis, Job, Means
from fixtures.deployment import Database
from fixtures.processes import Finished
from fixtures.restored_files import neutralise
from fixtures.wal_segments import position, segment_name
from reports.records import Finding, HarnessError

STANZA: Final = "drill"
LABEL_FILE: Final = "pgbackrest.json"
# The first release that knows the catalogue number of a server's final version: it refuses any other. From
# src/postgres/interface/version.vendor.h of pgBackRest's release tags.
FIRST_RELEASE_FOR: Final = {15: (2, 42), 16: (2, 48), 17: (2, 53, 1), 18: (2, 57)}
CONFIGURATION: Final = """\
[global]
repo1-path={repository}
lock-path={lock}
# Looked at by a restore also where nothing is ever spooled; the default place is the distribution's own user's.
spool-path={spool}
log-level-file=off
# Nothing is ever removed; without a number every backup warns about it.
repo1-retention-full=9999999
# A spread checkpoint would take minutes.
start-fast=y
compress-type=lz4
compress-level=1
# What cannot be read from a disk here can be read no better 15 seconds later.
job-retry=0

[{stanza}]
pg1-path={data_directory}
pg1-port={port}
pg1-user={user}
"""
SEGMENT: Final = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40}(\.\w+)?")
# Of what "verify" writes.
SOUND: Final = "status: ok"
CHECKED: Final = re.compile(r"total WAL checked: (\d+), total valid WAL: (\d+)")
REPOSITORY_REMEDY: Final = "fetch the repository again from its copy, or take a new full backup"


class PgBackRest:
    """See ``drills.contract``: ``DatabaseMethod``, ``Archives`` and ``NeedsMeans``."""

    name = "pgbackrest"
    basis: Basis = "target"
    into: Literal["server", "files"] = "files"
    takes_long = True

    def unavailable(self, means: Means) -> str:
        """Why it cannot run here; empty text where it can."""
        if means.server_apart:
            return "the server itself calls pgbackrest, which its container has not: docs/containers.md"
        program = shutil.which("pgbackrest")
        if program is None:
            return "no program pgbackrest on PATH: docs/pgbackrest-and-barman.md says how to install it"
        shown = means.processes.run([program, "version"], timeout=20).output.read_text().strip()
        major, numbers = means.tools.major, re.search(r"\d+(?:\.\d+)+", shown)
        first = FIRST_RELEASE_FOR.get(major)
        if numbers is None:
            return f"{program} does not say which version it is: {shown[:100]!r}"
        if first is None:
            return f"not known whether {shown} takes PostgreSQL {major}: known are {_list(FIRST_RELEASE_FOR)}"
        version = tuple(int(number) for number in numbers[0].split("."))
        if version < first:
            takes = [known for known, release in FIRST_RELEASE_FOR.items() if version >= release]
            needed = ".".join(str(number) for number in first)
            return f"{shown} takes PostgreSQL {_list(takes)}; PostgreSQL {major} needs {needed} or later"
        return ""

    def settings(self, job: Job) -> Mapping[str, str]:
        """Archiving on, with no command yet: one that failed for want of a stanza would be left alone for a minute."""
        del job  # pgBackRest takes whole segments from the server, whether streaming is wanted or not
        # A segment that is not full is archived after a minute all the same: that bounds what a quiet server can lose.
        return {"wal_level": "replica", "archive_mode": "on", "archive_command": "", "archive_timeout": "60s"}

    def streams(self, wanted: bool) -> bool:  # noqa: ARG002 - the contract's
        """It cannot: whole segments are archived."""
        return False

    def start_archiving(self, source: Database, job: Job) -> None:
        """Make the repository and have the server push into it."""
        repository, lock, spool = _repository(job.archive), job.archive / "lock", job.archive / "spool"
        for directory in (repository, lock, spool):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _configuration(job.archive).write_text(
            CONFIGURATION.format(
                repository=repository,
                lock=lock,
                spool=spool,
                stanza=STANZA,
                data_directory=source.data_directory,
                port=source.port,
                user=source.user,
            )
        )
        _run(job, "stanza-create", source=source)
        # The server's user pushes into what has just been made.
        for path in (job.archive, _configuration(job.archive), lock, spool, repository, *repository.rglob("*")):
            job.own(path)
        command = shlex.join(_command(job.archive, "archive-push")).replace("%", "%%") + ' "%p"'
        with source.connect("postgres") as connection:
            connection.execute(sql.SQL("ALTER SYSTEM SET archive_command = {}").format(sql.Literal(command)))
            connection.execute("SELECT pg_reload_conf()")

    def flush(self, source: Database, job: Job) -> None:
        """Have pgBackRest end the current segment and wait until the repository holds it."""
        _run(job, "check", source=source)

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """An incremental backup on what the repository holds; the first time a full one and one on that.

        Raises:
            HarnessError: pgBackRest finds fault with the repository afterwards.
        """
        for kind in ["incr"] if job.previous else ["full", "incr"]:
            _run(job, "backup", f"--type={kind}", f"--process-max={job.jobs}", source=source)
        lines = _verify(job, job.archive)
        if SOUND not in lines:
            raise HarnessError("pgbackrest verify", seen="; ".join(lines), remedy=REPOSITORY_REMEDY)
        with source.connect("postgres") as connection:
            rows = connection.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'")
            ((segment_size,),) = rows.fetchall()
        backup = _backups(job, job.archive)[-1]
        written = {"stanza": STANZA, "segment_size": segment_size, "backup": backup}
        (target / LABEL_FILE).write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Restore the named backup's files, with the recovery that the server makes of them when it is started.

        Raises:
            HarnessError: the backup set does not name a backup that the repository holds just so, or there are files
                already.
        """
        label = _recorded(backup, job, job.archive)["backup"]["label"]
        data = target.data_directory
        if data.exists():
            raise HarnessError(
                f"data directory {data}", seen="it is there", remedy="a restore needs it absent: remove it"
            )
        data.mkdir(parents=True, mode=0o700)
        job.own(data)
        _run(
            job,
            "restore",
            f"--set={label}",
            f"--pg1-path={data}",
            f"--process-max={job.jobs}",
            "--archive-mode=off",
            *_recovery(job),
        )
        neutralise(data)

    def check_archive(self, backup: Path, archive: Path, job: Job) -> list[Finding]:
        """The backup and the log as pgBackRest finds them, and gaps in the log, of which it says nothing.

        Raises:
            HarnessError: the backup set does not name a backup that the repository holds just so.
        """
        recorded = _recorded(backup, job, archive)
        label, place, findings = recorded["backup"]["label"], str(_repository(archive)), []
        lines = _verify(job, archive)
        if not any(line.startswith(f"backup: {label}, status: valid") for line in lines):
            findings.append(Finding(code="BACKUP-ARTEFACT-ALTERED", seen="; ".join(lines), where=f"{place}, {label}"))
        if damaged := sum(int(match[1]) - int(match[2]) for line in lines if (match := CHECKED.search(line))):
            findings.append(Finding(code="WAL-DAMAGED", seen="; ".join(lines), where=place, count=damaged))
        if missing := _missing_segments(archive, recorded, job):
            findings.append(
                Finding(
                    code="WAL-GAP",
                    seen=f"{len(missing)} segments missing: {missing[0]} … {missing[-1]}",
                    where=place,
                    count=len(missing),
                )
            )
        return findings


def _list(majors: Mapping[int, object] | list[int]) -> str:
    return ", ".join(str(major) for major in majors) or "no version from 15 on"


def _repository(archive: Path) -> Path:
    return archive / "repository"


def _configuration(archive: Path) -> Path:
    return archive / "pgbackrest.conf"


def _command(archive: Path, verb: str, *options: str) -> list[str]:
    """The repository is named besides: the archive may be looked at elsewhere than where it was configured."""
    program = shutil.which("pgbackrest") or "pgbackrest"
    place = [f"--config={_configuration(archive)}", f"--repo1-path={_repository(archive)}", f"--stanza={STANZA}"]
    return [program, *place, *options, verb]


def _run(job: Job, verb: str, *options: str, source: Database | None = None, archive: Path | None = None) -> Finished:
    """Run one of pgBackRest's commands.

    It takes a directory of sockets and no host, but hands on to libpq what that takes from the environment.
    """
    environment = source.environment() | {"PGHOST": source.host} if source else {}
    return job.processes.run(
        _command(archive or job.archive, verb, *options), timeout=job.seconds, env=environment, cwd=job.archive
    )


def _verify(job: Job, archive: Path) -> list[str]:
    """The lines of ``verify``'s verdict on the whole repository: its exit code is 0 whatever it found."""
    finished = _run(job, "verify", "--output=text", "--verbose", "--log-level-console=off", archive=archive)
    lines = finished.output.read_text("utf-8", "replace").splitlines()
    return [line.strip() for line in lines] or ["no verdict at all"]


def _backups(job: Job, archive: Path) -> list[dict[str, Any]]:
    """The repository's backups, oldest first, as pgBackRest describes them.

    Raises:
        HarnessError: there are none.
    """
    finished = _run(job, "info", "--output=json", "--log-level-console=off", archive=archive)
    try:
        backups: list[dict[str, Any]] = json.loads(finished.output.read_text("utf-8"))[0]["backup"]
    except (ValueError, LookupError):
        backups = []
    if not backups:
        raise HarnessError(
            f"pgBackRest's repository {_repository(archive)}", seen="no backups", remedy=REPOSITORY_REMEDY
        )
    return backups


def _recorded(directory: Path, job: Job, archive: Path) -> dict[str, Any]:
    """What the backup set says of its backup, once the repository says the same."""
    file = directory / LABEL_FILE
    try:
        recorded: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if recorded["stanza"] != STANZA or not isinstance(recorded["segment_size"], int):
            raise ValueError("not a label of this method")
        known = {backup["label"]: backup for backup in _backups(job, archive)}
        if known.get(recorded["backup"]["label"]) != recorded["backup"]:
            raise ValueError(f"the repository knows {', '.join(known)}, none of them as described here")
    except (OSError, ValueError, LookupError, TypeError) as problem:
        raise HarnessError(
            f"pgBackRest's label {file}",
            seen=f"{type(problem).__name__}: {problem}",
            remedy="fetch the backup set again, or fall back to the one before",
        ) from None
    return recorded


def _recovery(job: Job) -> list[str]:
    """How far to recover: to the target, or through the whole archive on its newest timeline."""
    if job.until is None:
        return []
    value = {"name": job.until.name, "time": re.sub("Z$", "+00", job.until.time), "lsn": job.until.lsn}[job.until.by]
    # A position is where the first record begins that is no longer wanted; a time is the last one wanted.
    exclusive = ["--target-exclusive"] if job.until.by == "lsn" else []
    return [f"--type={job.until.by}", f"--target={value}", *exclusive, "--target-action=promote"]


def _missing_segments(archive: Path, recorded: Mapping[str, Any], job: Job) -> list[str]:
    """Segments that are not there from the backup's first on to the newest one of its timeline, or to the target."""
    size, first, last = (
        recorded["segment_size"],
        recorded["backup"]["archive"]["start"],
        recorded["backup"]["archive"]["stop"],
    )
    timeline, start = int(first[:8], 16), position(recorded["backup"]["lsn"]["start"]) // size
    names = [match[1] for path in _repository(archive).rglob("*") if (match := SEGMENT.fullmatch(path.name))]
    present = {name for name in names if name[:8] == first[:8]}
    target = [segment_name(timeline, (position(job.until.lsn) - 1) // size, size)] if job.until else []
    newest = max([last, *present, *target])
    wanted = (segment_name(timeline, number, size) for number in itertools.count(start))
    return [name for name in itertools.takewhile(lambda name: name <= newest, wanted) if name not in present]


METHOD: Final = PgBackRest()

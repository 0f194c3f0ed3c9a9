"""Barman: base backups by pg_basebackup, and the log by Barman's own receiver or by ``archive_command``, in one home.

Barman's home lies in the archive's directory; the backup set holds the backup's id and what Barman says of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from psycopg import sql
from psycopg.conninfo import make_conninfo

from drills.contract import Basis, Job, Means
from fixtures.deployment import Database
from fixtures.processes import CHECKOUT, Finished, tail
from fixtures.restored_files import neutralise
from fixtures.wal_segments import PLACE, WalRange, find_gaps
from reports.records import Finding, HarnessError, wait_until

SERVER: Final = "drill"
LABEL_FILE: Final = "barman.json"
CONFIGURATION_FILE: Final = "barman.conf"
# Where .ci/install-optional puts Barman; its own place, as its dependencies are not the suite's.
OWN_PROGRAM: Final = CHECKOUT / ".cache" / "barman" / "bin" / "barman"
# The name under which Barman's receiver connects, which is also what it looks for to know that commits wait for it.
RECEIVER: Final = "barman_receive_wal"
# Log and locks lie with the run's own files: looking at an archive, or restoring from it, leaves it as it was.
PLACES: Final = """\
[barman]
barman_home = {home}
barman_lock_directory = {logs}
log_file = {logs}/barman.log
barman_user = {user}

"""
CONFIGURATION: Final = """\
[{server}]
description = the deployment under drill
conninfo = {conninfo} dbname=postgres
streaming_conninfo = {conninfo}
path_prefix = {programs}
backup_method = postgres
immediate_checkpoint = true
"""
STREAMING: Final = """\
streaming_archiver = on
slot_name = barman
create_slot = auto
"""
ARCHIVING: Final = """\
archiver = on
"""
# Of what Barman says of a backup, what stays the same however much log is archived after it.
LASTING: Final = ("backup_id", "system_id", "status", "postgresql_version")
LASTING_OF_BASE: Final = ("backup_size_bytes", "timeline", "begin_lsn", "end_lsn", "begin_wal", "end_wal", "end_time")


class Barman:
    """See ``drills.contract``: ``DatabaseMethod``, ``Archives`` and ``NeedsMeans``."""

    name = "barman"
    basis: Basis = "target"
    into: Literal["server", "files"] = "files"
    takes_long = True

    def unavailable(self, means: Means) -> str:
        """Why it cannot run here; empty text where it can."""
        program = find_barman()
        if program is None:
            own = OWN_PROGRAM.parent.relative_to(CHECKOUT)
            return f"no program barman in {own} below the checkout or on PATH: docs/pgbackrest-and-barman.md says how"
        if shutil.which("rsync") is None:
            return "no program rsync on PATH, by which Barman restores"
        # Barman changes to the user whom its configuration names: it must be the one who runs it.
        if os.geteuid() not in {user.pw_uid for user in pwd.getpwall()}:
            return f"the user {os.geteuid()} has no name on this machine, and Barman needs one"
        shown = means.processes.run([program, "recover", "--help"], timeout=20).output.read_text()
        if "--partial-wal" not in shown:
            version = means.processes.run([program, "--version"], timeout=20).output.read_text().split()[0]
            return (
                f"Barman {version} cannot restore the segment that was being received; 3.19 can (recover --partial-wal)"
            )
        return ""

    def settings(self, job: Job) -> Mapping[str, str]:
        """What must be in force from the start; whether commits wait, and a command, come once there is a receiver."""
        if job.stream_wal:
            return {"wal_level": "replica", "max_wal_senders": "10", "max_replication_slots": "10"}
        # A segment that is not full is archived after a minute all the same: that bounds what a quiet server can lose.
        return {"wal_level": "replica", "archive_mode": "on", "archive_command": "", "archive_timeout": "60s"}

    def streams(self, wanted: bool) -> bool:
        """Where that is wanted."""
        return wanted

    def start_archiving(self, source: Database, job: Job) -> None:
        """Start Barman's receiver and have commits wait for it, or have the server copy whole segments to Barman.

        Raises:
            HarnessError: the receiver ended, or did not stream in time.
        """
        incoming = _home(job.archive) / SERVER / "incoming"
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        conninfo = make_conninfo(host=source.host, port=source.port, user=source.user)
        (job.archive / CONFIGURATION_FILE).write_text(
            CONFIGURATION.format(
                server=SERVER,
                conninfo=conninfo,
                programs=source.tools.directory,
            )
            + (STREAMING if job.stream_wal else ARCHIVING)
        )
        if job.stream_wal:
            # Barman's receiver asks once, when it starts, whether commits will wait for it: only then it writes each
            # through to the disk at once. So the setting comes first, and commits wait until the receiver streams.
            _alter_system(source, "synchronous_standby_names", RECEIVER)
            _start_receiver(source, job)
        else:
            # Moved into its name once it is whole: Barman takes whatever lies there under a segment's name.
            place = shlex.quote(str(incoming)).replace("%", "%%")
            job.own(incoming)
            _alter_system(source, "archive_command", f'cp "%p" {place}/%f.tmp && mv {place}/%f.tmp {place}/%f')
        # Barman begins no backup before it has filed a segment.
        self.flush(source, job)

    def flush(self, source: Database, job: Job) -> None:
        """End the current segment and see it in Barman's hands, then let Barman file what it has.

        Raises:
            HarnessError: the server's archiver does not get it there in time.
        """
        with source.connect("postgres") as connection:
            # Barman files a segment that it received only once it receives the next one, so there must be some log.
            (written,) = connection.execute("SELECT pg_logical_emit_message(true, 'enprivacy', 'flush')").fetchall()
            ((name,),) = connection.execute("SELECT pg_walfile_name(%s)", written).fetchall()
            connection.execute("SELECT pg_switch_wal()")
            # With a receiver, this commit returns when all before it is on the receiver's disk.
            connection.execute("SELECT pg_logical_emit_message(true, 'enprivacy', 'flushed')")
            if not job.stream_wal:
                query = "SELECT coalesce(last_archived_wal, '') >= %s FROM pg_stat_archiver"
                wait_until(
                    lambda: connection.execute(query, [name]).fetchall() == [(True,)],
                    seconds=job.seconds,
                    interval=0.02,
                    what=f"segment {name} in pg_stat_archiver",
                    remedy="read the server's log: it says why archive_command fails",
                )
        _run(job, "archive-wal", environment=source.environment())

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """A base backup, the log that it needs, and the backup held against its own manifest.

        Raises:
            HarnessError: Barman does not call the backup done.
        """
        environment = source.environment()
        _run(job, "backup", "--wait", f"--wait-timeout={round(job.seconds)}", environment=environment)
        described = _described("latest", job, job.archive)
        if described["status"] != "DONE":
            raise HarnessError(
                f"Barman's backup {described['backup_id']}",
                seen=f"status {described['status']}",
                remedy="see barman.log among the run's logs",
            )
        _run(job, "verify-backup", described["backup_id"], environment=environment)
        written = {"server": SERVER, "backup": described}
        (target / LABEL_FILE).write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Restore the named backup's files with all the log there is, also of the segment that was being received.

        Raises:
            HarnessError: the backup set does not name a backup that Barman has just so, or there are files already.
            CommandFailed: the backup is damaged.
        """
        identity = _recorded(backup, job, job.archive)["backup_id"]
        data = target.data_directory
        if data.exists():
            raise HarnessError(
                f"data directory {data}", seen="it is there", remedy="a restore needs it absent: remove it"
            )
        # Barman restores a damaged backup as it is and ends with 0.
        _run(job, "verify-backup", identity)
        # Only what is filed is restored, and the segment after it.
        _run(job, "archive-wal")
        _run(job, "recover", identity, str(data), "--no-get-wal", "--partial-wal", *_recovery(job))
        neutralise(data)

    def check_archive(self, backup: Path, archive: Path, job: Job) -> list[Finding]:
        """The backup held against its manifest, and the log, filed or only received, looked through for gaps.

        Raises:
            HarnessError: the backup set does not name a backup that Barman has just so.
        """
        recorded = _recorded(backup, job, archive)
        home, findings = _home(archive) / SERVER, []
        verified = _run(job, "verify-backup", recorded["backup_id"], archive=archive, accept=(0, 1))
        if verified.exit != 0:
            seen = tail(verified.errors, job.processes.redactor)[-1000:]
            findings.append(Finding(code="BACKUP-ARTEFACT-ALTERED", seen=seen, where=str(home / "base")))
        needed = WalRange(timeline=recorded["timeline"], start=recorded["begin_lsn"], end=recorded["end_lsn"])
        with tempfile.TemporaryDirectory(dir=job.processes.logs) as scratch:
            together = Path(scratch, PLACE)
            together.mkdir()
            for path in [*home.glob("wals/*/*"), *home.glob("streaming/*"), *home.glob("incoming/*")]:
                together.joinpath(path.name).symlink_to(path)
            for finding in find_gaps(Path(scratch), needed, until=job.until.lsn if job.until else ""):
                where = finding.where.replace(str(together), str(home))
                findings.append(dataclasses.replace(finding, where=where))
        return findings


def find_barman() -> str | None:
    """Barman's program, its own place before PATH."""
    return str(OWN_PROGRAM) if OWN_PROGRAM.is_file() else shutil.which("barman")


def _home(archive: Path) -> Path:
    return archive / "barman"


def _configuration(archive: Path, job: Job) -> Path:
    """The server's configuration as the archive holds it, for the archive where it lies now."""
    places = PLACES.format(home=_home(archive), logs=job.processes.logs, user=pwd.getpwuid(os.geteuid()).pw_name)
    written = job.processes.logs / CONFIGURATION_FILE
    written.write_text(places + (archive / CONFIGURATION_FILE).read_text())
    return written


def _alter_system(source: Database, name: str, value: str) -> None:
    with source.connect("postgres") as connection:
        statement = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
        connection.execute(statement)
        connection.execute("SELECT pg_reload_conf()")


def _start_receiver(source: Database, job: Job) -> None:
    running = job.processes.start(
        "barman-receive-wal",
        _command(_configuration(job.archive, job), "receive-wal"),
        env=source.environment(),
    )
    with source.connect("postgres") as connection:

        def streams() -> bool:
            if not running.alive():
                raise HarnessError(
                    "barman receive-wal",
                    seen=f"it ended: {tail(running.errors, job.processes.redactor)}",
                    remedy="see the message; the server must let the superuser's replication connections in",
                )
            query = "SELECT sync_state FROM pg_stat_replication WHERE application_name = %s"
            return connection.execute(query, [RECEIVER]).fetchall() == [("sync",)]

        wait_until(streams, seconds=job.seconds, interval=0.02, what=f"{RECEIVER} as a synchronous standby")


def _command(configuration: Path, verb: str, *options: str) -> list[str]:
    formatted = ["--format=json"] if verb == "show-backup" else []
    return [find_barman() or "barman", f"--config={configuration}", *formatted, verb, SERVER, *options]


def _run(
    job: Job,
    verb: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    archive: Path | None = None,
    accept: tuple[int, ...] = (0,),
) -> Finished:
    """Run one of Barman's commands, on the job's archive or on a copy of it elsewhere."""
    return job.processes.run(
        _command(_configuration(archive or job.archive, job), verb, *options),
        timeout=job.seconds,
        # It makes a directory there to restore in, and leaves it when it is killed: with the run's own it goes.
        env={**(environment or {}), "TMPDIR": str(job.processes.logs)},
        accept=accept,
    )


def _described(identity: str, job: Job, archive: Path) -> dict[str, Any]:
    """What Barman says of a backup, as far as it lasts.

    Raises:
        HarnessError: it says nothing of the kind.
        CommandFailed: it does not know the backup.
    """
    finished = _run(job, "show-backup", identity, archive=archive)
    try:
        said = json.loads(finished.output.read_text("utf-8"))[SERVER]
        base = said["base_backup_information"]
        return {name: said[name] for name in LASTING} | {name: base[name] for name in LASTING_OF_BASE}
    except (ValueError, LookupError, TypeError) as problem:
        raise HarnessError(
            f"barman show-backup {identity}",
            seen=f"{type(problem).__name__}: {problem}",
            remedy="see barman.log among the run's logs",
        ) from None


def _recorded(directory: Path, job: Job, archive: Path) -> dict[str, Any]:
    """What the backup set says of its backup, once Barman says the same."""
    file = directory / LABEL_FILE
    try:
        recorded: dict[str, Any] = json.loads(file.read_text("utf-8"))["backup"]
        if not re.fullmatch(r"\d{8}T\d{6}", recorded["backup_id"]):
            raise ValueError("no backup's id")
        if _described(recorded["backup_id"], job, archive) != recorded:
            raise ValueError("Barman describes the backup otherwise")
    except (OSError, ValueError, LookupError, TypeError, HarnessError) as problem:
        raise HarnessError(
            f"Barman's label {file}",
            seen=f"{type(problem).__name__}: {problem}",
            remedy="fetch the backup set again, or fall back to the one before",
        ) from None
    return recorded


def _recovery(job: Job) -> list[str]:
    """How far to recover: to the target, or through the whole archive; on its newest timeline.

    The timeline is said although it is the default. Without it Barman would ask the lost server for its version where
    the target is a position; and without any target it would have the restored one replay the log as after a crash and
    go on in its source's timeline.
    """
    timeline = "--target-tli=latest"
    if job.until is None:
        return [timeline]
    value = {"name": job.until.name, "time": re.sub("Z$", "+00:00", job.until.time), "lsn": job.until.lsn}[job.until.by]
    # A position is where the first record begins that is no longer wanted; a time is the last one wanted.
    exclusive = ["--exclusive"] if job.until.by == "lsn" else []
    return [timeline, f"--target-{job.until.by}={value}", *exclusive, "--target-action=promote"]


METHOD: Final = Barman()

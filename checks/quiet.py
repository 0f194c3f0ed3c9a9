"""Does a restored copy stay quiet: it writes into no archive of the source's, follows nobody, runs no job again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from checks.differences import summed_up
from checks.snapshot import telling
from reports.records import Finding, HarnessError

# What the server puts in the place of a command that is not in force.
DISABLED: Final = "(disabled)"
# The command that the manual names for archiving nothing.
NOTHING: Final = ("true", "/bin/true", "/usr/bin/true")
SETTINGS: Final = (
    "archive_mode",
    "archive_command",
    "archive_library",
    "archive_cleanup_command",
    "primary_conninfo",
    "synchronous_standby_names",
)
# How many of them: ANY 1 (…), FIRST 1 (…), 1 (…); and a name, in double quotes or bare.
HOW_MANY: Final = re.compile(r"^\s*(?:(?:ANY|FIRST)\s+)?\d+\s*\((.*)\)\s*$", re.IGNORECASE | re.DOTALL)
STANDBY: Final = re.compile(r'"((?:[^"]|"")+)"|([^\s",]+)')
STATES: Final = ("pending", "finished")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """Where one job of the deployment stands. ``marker`` is whatever changes when the job runs again."""

    state: Literal["pending", "finished"]
    marker: str


def list_archive(directory: Path) -> dict[str, tuple[int, str]]:
    """Every file of an archive by its path below ``directory``: its size and what changes when it is written again.

    That is when it was last written and which file it is: an archive's bytes may be many, and one that was written over
    with the same bytes was written to all the same.
    """
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    stats = ((path.relative_to(directory).as_posix(), path.stat()) for path in files)
    return {name: (stat.st_size, f"{stat.st_mtime_ns} {stat.st_ino}") for name, stat in stats}


def compare_archives(before: Mapping[str, tuple[int, str]], after: Mapping[str, tuple[int, str]]) -> list[Finding]:
    """Files of the source's archive that are new, written again or gone after a restored server ran."""
    changed = [
        *((0, f"{name} is new") for name in after if name not in before),
        *((0, f"{name} is gone") for name in before if name not in after),
        *((0, f"{name} was written again") for name in before if name in after and before[name] != after[name]),
    ]
    return summed_up("ARCHIVE-WRITTEN", "archive", changed)


def archiving_settings(
    connection: psycopg.Connection[Any], *, own: Sequence[str] = (), members: Sequence[str] = ()
) -> list[Finding]:
    """What in a restored server's settings would have it write to, follow or wait for servers that are not its own.

    Args:
        connection: as a superuser, or a role that may read all settings.
        own: texts such as directories; a setting that holds one of them is about an archive or a standby of its own.
        members: the nodes of its own cluster, by name, for which it may wait.

    Raises:
        HarnessError: the settings cannot be read.
    """
    values = read_settings(connection)
    with telling("reading the subscriptions"):
        rows = connection.execute(
            "SELECT s.subname, s.subenabled FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE d.datname = current_database()"
        ).fetchall()
    enabled = [(0, f"subscription {name} is enabled and takes its publisher's changes") for name, on in rows if on]
    return [*judge_settings(values, own=own, members=members), *summed_up("ARCHIVE-LIVE", "subscription", enabled)]


def read_settings(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The server's settings about archiving and standbys, by name.

    Raises:
        HarnessError: one of them is hidden from this role.
    """
    with telling("reading the settings about archiving"):
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", (list(SETTINGS),)
        ).fetchall()
    values = {str(name): str(setting) for name, setting in rows}
    if hidden := [name for name in SETTINGS if name not in values]:
        raise HarnessError(
            "the settings about archiving",
            seen=f"{', '.join(hidden)} cannot be read",
            remedy="connect as a superuser, or as a member of pg_read_all_settings",
        )
    return values


def judge_settings(values: Mapping[str, str], *, own: Sequence[str] = (), members: Sequence[str] = ()) -> list[Finding]:
    """The same, of settings that were read. A connection string is not shown: it may hold a password."""
    archives = values["archive_mode"] != "off"
    library, command = values["archive_library"], values["archive_command"]
    live = {
        "archive_library": library if archives else "",
        "archive_command": command if archives and not library and command not in NOTHING else "",
        "archive_cleanup_command": values["archive_cleanup_command"],
        "primary_conninfo": values["primary_conninfo"],
        "synchronous_standby_names": _but_for(members, values["synchronous_standby_names"]),
    }
    return [
        Finding(
            code="ARCHIVE-LIVE",
            seen="it is set to follow another server" if name == "primary_conninfo" else f"{name} = {value}",
            where=name,
        )
        for name, value in live.items()
        if value not in ("", DISABLED) and not any(text in value for text in own if text)
    ]


def _but_for(members: Sequence[str], waited_for: str) -> str:
    """The setting as it is; empty text where it names members only."""
    match = HOW_MANY.match(waited_for)
    listed = STANDBY.findall(match[1] if match else waited_for)
    names = {quoted.replace('""', '"') or bare for quoted, bare in listed}
    return waited_for if names - {*members} else ""


def read_jobs(connection: psycopg.Connection[Any], query: str) -> dict[str, JobState]:
    """Every job by its id.

    Args:
        query: gives three columns in this order: id; state, ``pending`` or ``finished``; marker, which changes when the
            job runs again, such as its end and its attempts. A queue that forgets jobs is asked by what they leave.

    Raises:
        HarnessError: the query fails or gives another state.
    """
    jobs: dict[str, JobState] = {}
    for identity, state, marker in _rows(connection, query, ("id", "state", "marker"), "the jobs"):
        if state not in STATES:
            raise HarnessError(
                "the query for jobs", seen=f"state {state!r} of job {identity}", remedy=f"give {' or '.join(STATES)}"
            )
        jobs[str(identity)] = JobState(state=state, marker=str(marker))
    return jobs


def read_job_effects(connection: psycopg.Connection[Any], query: str) -> dict[str, int]:
    """The jobs whose effect is there more than once, with how often.

    Args:
        query: gives two columns in this order: id; how often the job's effect is there.

    Raises:
        HarnessError: the query fails.
    """
    rows = _rows(connection, query, ("id", "count"), "the jobs' effects", where="count::bigint > 1")
    return {str(identity): int(count) for identity, count in rows}


def compare_jobs(
    before: Mapping[str, JobState], after: Mapping[str, JobState], effects: Mapping[str, int] | None = None
) -> list[Finding]:
    """Jobs that ran again, were left unfinished, or took effect twice.

    Args:
        before: as restored, before any client or worker was let in.
        after: when the deployment's background work had drained.
        effects: how often each job's effect is there now; those that are there once may be left out.
    """
    again, unfinished = [], []
    for identity, job in before.items():
        now = after.get(identity)
        if job.state == "finished" and now is not None and now != job:
            again.append((0, f"job {identity} was finished ({job.marker}), and is {now.state} ({now.marker})"))
        elif job.state == "pending" and (now is None or now.state == "pending"):
            stands = "gone" if now is None else f"pending ({now.marker})"
            unfinished.append((0, f"job {identity} ({job.marker}) is {stands}"))
    doubled = [
        (count, f"{identity} is there {count} times") for identity, count in (effects or {}).items() if count > 1
    ]
    return [
        *summed_up("JOB-RAN-AGAIN", "job", again),
        *summed_up("JOB-UNFINISHED", "job", unfinished),
        *summed_up("JOB-DOUBLED", "effect of a job", doubled),
    ]


def _rows(
    connection: psycopg.Connection[Any], query: str, columns: Sequence[str], what: str, where: str = "true"
) -> list[tuple[Any, ...]]:
    wrapped = sql.SQL("SELECT * FROM ({}\n) AS r ({}) WHERE {}").format(
        sql.SQL(query.strip().rstrip(";")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(where),
    )
    with telling(f"reading {what}"):
        return connection.execute(wrapped).fetchall()

"""The heartbeat of a deployment: one row and one object an interval, by which a shadow restore knows what was lost."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import minio.error
import psycopg
import urllib3.exceptions
from minio.deleteobjects import DeleteObject
from psycopg import sql

from checks.heartbeat import PREFIX, SCHEMA, TABLE, Beat, body_of, instant_of, key_of
from fixtures.deployment import ObjectStore, ignore_libpq_variables
from fixtures.profile import Profile, load_profile
from fixtures.providers.attached.dsn import Dsn, read_dsn
from reports.records import NANOSECONDS, HarnessError, Redactor, UsageProblem, format_duration, monotonic_ns, utc_stamp

WRITTEN, MISSED, UNUSABLE = 0, 1, 4
KEPT_ROWS: Final = 10_000
KEPT_OBJECTS_NS: Final = 2 * 86_400 * NANOSECONDS
# Objects are forgotten at every so many-th beat, and at most so many at once.
FORGET_EVERY: Final = 60
FORGET_MOST: Final = 1_000
SECONDS: Final = 5.0
# A network that swallows packets is noticed by these, not by libpq's own patience, which is hours.
IMPATIENT: Final = {
    "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3", "tcp_user_timeout": "10000",
}  # fmt: skip
STORE_ERRORS: Final = (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError, ValueError)
MAKE: Final = f"""\
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {TABLE} (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    token text NOT NULL
);
GRANT USAGE ON SCHEMA {SCHEMA} TO {{role}};
GRANT INSERT (token), SELECT, DELETE ON {TABLE} TO {{role}};
"""
_BEAT: Final = f"INSERT INTO {TABLE} (token) VALUES (%s) RETURNING n, (extract(epoch FROM at) * 1000000)::bigint"
_FORGET: Final = f"DELETE FROM {TABLE} WHERE n <= %s"
_HELP: Final = """\
Writes one row into enprivacy_heartbeat.beats and one object below enprivacy-heartbeat/, both with the same token, into
the deployment of a profile. A shadow restore tells by the last one that came back what would have been lost.
It keeps the newest 10,000 rows and the objects of two days.
"""
_EXITS: Final = (
    "exit status: 0 written, or installed (--daemon: ended by SIGTERM); 1 the row or the object could not be written,"
    " or --install installed nothing; 4 the profile cannot be used"
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = commands.add_parser(
        "heartbeat",
        help="write the row and the object by which a shadow restore knows what was lost",
        description=_HELP,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--profile", metavar="FILE", type=Path, required=True, help="the deployment's profile")
    command.add_argument(
        "--install",
        action="store_true",
        help="make schema and table by postgresql.admin_dsn, or print the SQL where the profile has none",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--once", action="store_true", help="one beat, as from cron (default, without --install)")
    which.add_argument("--daemon", action="store_true", help="one every heartbeat.interval until SIGTERM")


def main(given: argparse.Namespace) -> int:
    """Do what was asked for.

    Raises:
        UsageProblem: the profile cannot be read, or describes no deployment that somebody else runs.
        HarnessError: the schema could not be made.
    """
    profile, redactor = load_profile(given.profile), Redactor()
    ignore_libpq_variables()
    writer = make_writer(profile, redactor)
    if given.install and not _install(profile, writer.dsn.user, redactor):
        return MISSED
    if given.daemon:
        return _daemon(writer, profile.heartbeat.interval_ns)
    return MISSED if (given.once or not given.install) and not writer.beat() else WRITTEN


def make_writer(profile: Profile, redactor: Redactor) -> Writer:
    """Who writes, as the profile says: ``[heartbeat]``, and where it is silent, the deployment's own DSN and keys.

    Raises:
        UsageProblem: the profile describes no deployment that somebody else runs, or a DSN of it is none.
    """
    given, own = profile.attached, profile.heartbeat
    if given is None or profile.own:
        raise UsageProblem(
            f"profile {profile.path}", seen="describes no deployment that somebody else runs",
            remedy='a heartbeat is for one with deployment.provider = "attached"',
        )  # fmt: skip
    key = "heartbeat.dsn" if own.dsn else "postgresql.dsn"
    dsn = read_dsn(own.dsn or given.dsn, f"profile {profile.path}, {key}")
    keys = (own.access_key or given.access_key, own.secret_key or given.secret_key)
    for secret in (own.dsn or given.dsn, dsn.password, *keys):
        if len(secret) >= 6:
            redactor.learn(secret)
    store = ObjectStore(endpoint=given.endpoint, bucket=profile.bucket, access_key=keys[0], secret_key=keys[1])
    return Writer(dsn=dsn, store=store, redactor=redactor)


@dataclasses.dataclass(kw_only=True)
class Writer:
    """Writes beats, and says once when something goes wrong and once when it goes right again.

    ``failing``: what does not work now, and how often in a row it did not.
    """

    dsn: Dsn
    store: ObjectStore
    redactor: Redactor
    failing: dict[str, int] = dataclasses.field(default_factory=dict)

    def beat(self) -> bool:
        """One row, then one object that says the same; whether both were written.

        Without the row there is no number and no instant, and so no object: the beat is missed.
        """
        written: list[Beat] = []
        row = self._attempt("row", lambda: written.append(self._insert()))
        both = row and self._attempt("object", lambda: self._put(written[0]))
        if both and (number := written[0].n or 0) % FORGET_EVERY == 0:
            at_ns = written[0].at_ns
            self._attempt("forgetting old objects", lambda: self._forget_objects(at_ns))
            self._attempt("forgetting old rows", lambda: self._forget_rows(number))
        return both

    def _attempt(self, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except (psycopg.Error, *STORE_ERRORS) as problem:
            self.failing[what] = self.failing.get(what, 0) + 1
            if self.failing[what] == 1:
                told = " ".join(str(problem).split())[:300]
                self._say(f"{what}: {told}. Remedy: {_remedy(what, problem)}")
            return False
        if times := self.failing.pop(what, 0):
            self._say(f"{what}: works again, after {times:,} failure{'s' if times > 1 else ''}")
        return True

    def _say(self, text: str) -> None:
        sys.stderr.write(self.redactor.clean(f"{utc_stamp()} heartbeat: {text}") + "\n")
        sys.stderr.flush()

    @contextlib.contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        dsn = dataclasses.replace(self.dsn, parameters={**IMPATIENT, **self.dsn.parameters})
        with contextlib.closing(dsn.connect(writes=True)) as connection:
            # A server that is stopped, or hangs, keeps to no timeout of its own.
            end = threading.Timer(2 * SECONDS, _cut, (connection.fileno(),))
            end.start()
            try:
                connection.execute(f"SET statement_timeout = {round(SECONDS * 1000)}".encode())
                yield connection
            finally:
                end.cancel()
                end.join()

    def _insert(self) -> Beat:
        token = secrets.token_hex(16)
        with self._session() as connection:
            row = connection.execute(_BEAT.encode(), (token,)).fetchone()
        assert row is not None
        return Beat(n=row[0], at_ns=row[1] * 1000, token=token)

    def _put(self, beat: Beat) -> None:
        body = body_of(beat)
        self._client().put_object(
            self.store.bucket, key_of(beat.at_ns), io.BytesIO(body), len(body), content_type="application/json"
        )

    def _forget_rows(self, newest: int) -> None:
        with self._session() as connection:
            connection.execute(_FORGET.encode(), (newest - KEPT_ROWS,))

    def _forget_objects(self, now_ns: int) -> None:
        """The oldest come first in a listing: it ends at the first that is kept."""
        client = self._client()
        old: list[DeleteObject] = []
        for each in client.list_objects(self.store.bucket, prefix=PREFIX, recursive=True):
            at_ns = instant_of(each.object_name or "")
            if at_ns is None:
                continue
            if at_ns >= now_ns - KEPT_OBJECTS_NS or len(old) >= FORGET_MOST:
                break
            old.append(DeleteObject(each.object_name or ""))
        for problem in client.remove_objects(self.store.bucket, old):
            raise ValueError(f"{problem.code}: {problem.message}")

    def _client(self) -> minio.Minio:
        return self.store.client(connections=1, timeout=SECONDS)


def _cut(descriptor: int) -> None:
    """End a connection from this side, so that whoever waits for its answer does so no longer."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _remedy(what: str, problem: Exception) -> str:
    """What to do about a beat that was not written, or old ones that could not be removed."""
    if isinstance(problem, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return "python -m drills heartbeat --install"
    if isinstance(problem, psycopg.errors.InsufficientPrivilege):
        return "grant the writer what --install grants: docs/heartbeat.md"
    if what == "forgetting old objects":
        return "let these keys list and delete there, or have the bucket expire the prefix: docs/heartbeat.md"
    return "see that it is up and lets the writer in; beats are missed until then"


def _daemon(writer: Writer, interval_ns: int) -> int:
    """One beat an interval until SIGTERM or SIGINT. What could not be written in its time is missed, never made up."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sys.stdout.write(f"heartbeat: one every {format_duration(interval_ns)}, until SIGTERM\n")
    sys.stdout.flush()
    origin = monotonic_ns()
    while not stop.is_set():
        writer.beat()
        due = origin + interval_ns * (math.floor((monotonic_ns() - origin) / interval_ns) + 1)
        stop.wait((due - monotonic_ns()) / NANOSECONDS)
    return WRITTEN


def _install(profile: Profile, role: str, redactor: Redactor) -> bool:
    """Make schema and table, and grant the writer what it needs; print the SQL where nobody is named who may.

    Returns:
        whether they were made.

    Raises:
        HarnessError: the profile names no writer, or the server refused.
    """
    if profile.heartbeat.dsn is None:
        raise HarnessError(
            f"installing the heartbeat: profile {profile.path}, heartbeat.dsn",
            seen=f"not given, so that {role}, the role of postgresql.dsn, would be given the right to write. Nothing"
            " was installed",
            remedy="make a role of its own for the heartbeat, and name it there: docs/heartbeat.md",
        )
    statements = sql.SQL(MAKE).format(role=sql.Identifier(role))
    admin = profile.attached.admin_dsn if profile.attached else None
    if not admin:
        sys.stdout.write(
            f"-- The profile has no postgresql.admin_dsn. To be run by whoever may, in the application's database:\n"
            f"{statements.as_string()}"
        )
        sys.stderr.write("nothing was installed: the SQL was only printed\n")
        return False
    dsn = read_dsn(admin, f"profile {profile.path}, postgresql.admin_dsn")
    redactor.learn(admin)
    if len(dsn.password) >= 6:
        redactor.learn(dsn.password)
    try:
        with contextlib.closing(dsn.connect(writes=True)) as connection:
            connection.execute(statements)
    except psycopg.Error as problem:
        raise HarnessError(
            f"making {TABLE} in {dsn.name} at {dsn.host}",
            seen=redactor.clean(" ".join(str(problem).split())),
            remedy="see that the role of postgresql.admin_dsn may create it, and that the writer's role is there",
        ) from None
    sys.stdout.write(f"made, unless it was there: {TABLE}, with the rights of {role} to write it\n")
    return True

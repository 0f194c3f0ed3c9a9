"""The acknowledged-write ledger: the writer, a process of its own. ``drills/observed.py`` looks for its writes again.

The writer makes business transactions through each channel at a set rate during the whole drill. It journals every
attempt before and every acknowledgement after, so that after recovery each write can be accounted for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import secrets
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import minio
import psycopg
import urllib3
from psycopg import sql

from drills import reading
from drills.lines import Lines
from fixtures.application import Application, ApplicationError, Lists
from fixtures.clients import open_application
from fixtures.deployment import ClientAccess, Deployment, ObjectStore
from fixtures.guarded import KeptConnection
from fixtures.rotation import Credential, new_credential, set_password
from fixtures.transaction import Transaction
from reports.records import NANOSECONDS, Clock, HarnessError

API: Final = "api"
DELETE: Final = "delete"
CHANNELS: Final = (API, "row", "object", DELETE)
PREFIX: Final = "enprivacy-drill"
# Below these names lie the documents that a drill makes itself: the ledger's and the prober's.
OWN_NAMES: Final = (f"{PREFIX}/", "probe/")
# Users delete more seldom than they write, and no more than that many documents of those that were there before.
DELETE_EVERY: Final = 5
MOST_DELETABLE: Final = 2_000
# How an upload fails that never reached the application.
REFUSED: Final = httpx.ConnectError.__name__
TABLE: Final = "enprivacy_drill.writes"
LOGIN: Final = "enprivacy_drill"
WITNESSED: Final = "enprivacy_drill.witnessed"
REQUEST_SECONDS: Final = 2.0
ERRORS: Final = (
    httpx.HTTPError,
    ApplicationError,
    psycopg.Error,
    minio.error.MinioException,
    urllib3.exceptions.HTTPError,
    OSError,
)

# What it hands back is noted beside the acknowledgement.
Send = reading.Send

CREATE_TABLE: Final = f"""
CREATE SCHEMA IF NOT EXISTS enprivacy_drill;
CREATE TABLE IF NOT EXISTS {TABLE} (
    id text NOT NULL, tag text NOT NULL, n bigint NOT NULL, payload text NOT NULL, at timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS enprivacy_drill.marks (
    id text NOT NULL, side text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS {WITNESSED} (
    node text NOT NULL, n bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT USAGE ON SCHEMA enprivacy_drill TO PUBLIC;
GRANT INSERT, SELECT ON {TABLE} TO PUBLIC;
"""


def probe_key(tag: str) -> str:
    """The key of the one object of a drill that is no write of its ledger: the prober's, where no API can be asked."""
    return f"{PREFIX}/probe/{tag}"


def prepare(deployment: Deployment) -> None:
    """Make the table of the ``row`` channel, the one for marks around a recovery target, and the witness's.

    Any role may write into the first; nothing in it is secret.
    """
    with deployment.database.connect() as connection:
        connection.execute(CREATE_TABLE)


def own_login(deployment: Deployment) -> Credential:
    """A login of the writer's own, with a fresh password: that of the application may be rotated under it."""
    credential = new_credential(LOGIN, deployment.processes.redactor)
    with deployment.database.connect() as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (LOGIN,)).fetchone():
            connection.execute(f"CREATE ROLE {LOGIN}")
            name = sql.Identifier(deployment.database.name)
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(LOGIN)))
        set_password(connection, credential)
    return credential


def intervals(interval_ns: int) -> dict[str, int]:
    """From one write to the next of each channel, in nanoseconds, where most are ``interval_ns`` apart."""
    return {channel: interval_ns * (DELETE_EVERY if channel == DELETE else 1) for channel in CHANNELS}


def deletable(application: Lists) -> list[str]:
    """The ids of documents that were there before the drill and that the writer may delete.

    Every second one: what is left goes on to be compared. None where the deployment holds no documents.

    Raises:
        HarnessError: the documents cannot be listed.
    """
    with reading_back("the documents that the deployment holds"):
        theirs = (each.id for each in application.documents("") if not each.name.startswith(OWN_NAMES))
        return list(itertools.islice(theirs, 0, 2 * MOST_DELETABLE, 2))


@contextlib.contextmanager
def reading_back(what: str) -> Iterator[None]:
    """Have whatever a client raises end as what could not be verified.

    Raises:
        HarnessError: something could not be read.
    """
    try:
        yield
    except ERRORS as problem:
        raise HarnessError(
            what, seen=f"{type(problem).__name__}: {problem}", remedy="see the services' logs"
        ) from problem


def writer_input(
    access: ClientAccess,
    *,
    tag: str,
    path: Path,
    clock: Clock,
    interval_ns: int,
    channels: Sequence[str],
    deletable: Sequence[str] = (),
    request_seconds: float = REQUEST_SECONDS,
    reads: Path | None = None,
    read_channels: Sequence[str] = (),
) -> bytes:
    """What the writer reads from its standard input: where to write, how often, and whence it counts time.

    ``tag`` stands in the name of every write; ``deletable`` are the ids of the documents to delete, each once.
    ``request_seconds`` is how long one request may take; ``reads`` the file of what is read, in ``read_channels``.
    """
    values = dataclasses.asdict(access) | {
        "tag": tag,
        "path": str(path),
        "origin_ns": clock.origin_ns,
        "interval_ns": interval_ns,
        "channels": list(channels),
        "deletable": list(deletable),
        "request_seconds": request_seconds,
        "reads": str(reads) if reads else None,
        "read_channels": list(read_channels),
    }
    values["objects"].pop("keeps")
    return json.dumps(values).encode() + b"\n"


class _Book:
    """The ledger's file, shared by the channels' threads; each line is with the system before the call returns."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file, self._lock, self._clock = path.open("a", encoding="utf-8"), threading.Lock(), clock

    def write(self, event: str, channel: str, n: int, **fields: object) -> None:
        with self._lock:
            line = {"event": event, "channel": channel, "n": n, **fields, "t": self._clock.now()}
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()


def new_text(channel: str, n: int) -> tuple[str, str]:
    """The identity and the content of a new write."""
    identity = f"{n:09d}-{secrets.token_hex(8)}"
    return identity, f"Ledger entry {identity}, {channel}. Reply to office{n}@example.com. " + secrets.token_hex(64)


def write_until(
    stop: threading.Event,
    channel: str,
    send: Send,
    book: _Book,
    clock: Clock,
    interval_ns: int,
    *,
    draw: Callable[[str, int], tuple[str, str] | None] = new_text,
) -> None:
    """Make one write after the other at the set rate until told to stop; a late one does not hurry the next.

    ``send`` gives what there is to note: ``document``, what the product calls it, where it makes one, or ``by``, the
    address of the server that took it. ``draw`` gives each write's identity and content, or nothing where there is
    nothing to write at this turn.
    """
    n, due = 0, clock.now()
    while not stop.wait(max(0, due - clock.now()) / NANOSECONDS):
        drawn = draw(channel, n)
        if drawn is None:
            due = max(due + interval_ns, clock.now())
            continue
        identity, text = drawn
        book.write("attempt", channel, n, id=identity, sha256=hashlib.sha256(text.encode()).hexdigest())
        try:
            noted = send(n, identity, text)
        except Exception as problem:
            # Whatever it is: the write was not acknowledged, and the channel goes on.
            book.write("failed", channel, n, error=type(problem).__name__)
        else:
            book.write("acknowledged", channel, n, **(noted or {}))
        n, due = n + 1, max(due + interval_ns, clock.now())


def _seconds(values: Mapping[str, Any]) -> float:
    return float(values.get("request_seconds", REQUEST_SECONDS))


def _client(values: Mapping[str, Any]) -> Application:
    steps = values.get("transaction")
    return open_application(
        values["url"],
        timeout=_seconds(values),
        api_key=values["api_key"],
        transaction=Transaction(**steps) if steps else None,
    )


def _api_channel(values: Mapping[str, Any]) -> Send:
    client = _client(values)

    def send(n: int, identity: str, text: str) -> dict[str, str]:
        del n
        return {"document": client.upload(f"{PREFIX}/{values['tag']}/{identity}", text.encode())}

    return send


class _Deletions:
    """Deletes documents that were there before, each of them once, and looks at each before.

    Who cannot see a document cannot delete it: while the deployment is away none is used up.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        client = _client(values)
        assert isinstance(client, Lists), "who cannot list is given nothing to delete"
        self._client: Lists = client
        self._left = deque(values["deletable"])

    def draw(self, channel: str, n: int) -> tuple[str, str] | None:
        """The next document that is there; its id is the content, too, for what is gone has no other."""
        del channel, n
        if not self._left:
            return None
        try:
            self._client.document(self._left[0])
        except Exception:
            # Whatever it is: another one may be there at the next turn, and this one later.
            self._left.rotate(-1)
            return None
        identity = self._left.popleft()
        return identity, identity

    def send(self, n: int, identity: str, text: str) -> None:
        """Delete it."""
        del n, text
        self._client.delete(identity)


def _row_channel(values: Mapping[str, Any]) -> Send:
    seconds, tag = _seconds(values), values["tag"]
    # A server that only lags undoes the statement itself; for one that hangs the connection has its own guard.
    kept = KeptConnection(values["dsn"], seconds=seconds, options=f"-c statement_timeout={int(seconds * 1000)}")
    statement = (
        f"INSERT INTO {TABLE} (id, tag, n, payload) VALUES ($1, $2, $3, $4)"
        " RETURNING host(inet_server_addr()) || ':' || inet_server_port()"
    )

    def send(n: int, identity: str, text: str) -> dict[str, str]:
        ((server,),) = kept.execute(statement, identity, tag, str(n), text)
        return {"by": server} if server else {}

    return send


def _object_channel(values: Mapping[str, Any]) -> Send:
    store = ObjectStore(**values["objects"])
    client = store.client(connections=1, timeout=_seconds(values))

    def send(n: int, identity: str, text: str) -> None:
        del n
        data = text.encode()
        client.put_object(store.bucket, f"{PREFIX}/{values['tag']}/{identity}", io.BytesIO(data), len(data))

    return send


def _reading(
    values: Mapping[str, Any], stop: threading.Event, first: Mapping[str, reading.Written], clock: Clock
) -> list[threading.Thread]:
    """The threads that read; none where nothing was said of reads."""
    if not values["reads"]:
        return []
    lines, prefix = Lines(Path(values["reads"])), f"{PREFIX}/{values['tag']}/"
    return [
        threading.Thread(
            target=reading.read_until, args=(stop, channel, read, first, lines, clock, values["interval_ns"])
        )
        for channel in values["read_channels"]
        for read in [
            reading.reader(
                channel,
                values,
                open_client=lambda: _client(values),
                table=TABLE,
                prefix=prefix,
                seconds=_seconds(values),
            )
        ]
    ]


def main() -> None:
    """Write until standard input is closed, which also happens when the run is killed."""
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the drill ended before it had a place to write to
    values = json.loads(line)
    clock = Clock(origin_ns=values["origin_ns"])
    book, stop = _Book(Path(values["path"]), clock), threading.Event()
    apart, channels = intervals(values["interval_ns"]), values["channels"]
    kinds: dict[str, Callable[[Mapping[str, Any]], Send]] = {
        API: _api_channel,
        "row": _row_channel,
        "object": _object_channel,
    }
    first: dict[str, reading.Written] = {}
    threads = [
        threading.Thread(
            target=write_until,
            args=(stop, channel, reading.noting(kinds[channel](values), channel, first), book, clock, apart[channel]),
        )
        for channel in channels
        if channel in kinds
    ]
    if DELETE in channels:
        deletions = _Deletions(values)
        threads.append(
            threading.Thread(
                target=write_until,
                args=(stop, DELETE, deletions.send, book, clock, apart[DELETE]),
                kwargs={"draw": deletions.draw},
            )
        )
    threads += _reading(values, stop, first, clock)
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

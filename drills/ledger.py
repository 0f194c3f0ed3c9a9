"""The acknowledged-write ledger: the writer, a process of its own, and the search for its writes after recovery.

The writer makes business transactions through each channel at a set rate during the whole drill. It journals every
attempt before and every acknowledgement after, so that after recovery each write can be accounted for.
"""

from __future__ import annotations

import concurrent.futures
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import minio
import psycopg
import urllib3

from fixtures.deployment import Application, ClientAccess, Deployment, ObjectStore
from fixtures.refapp.client import Application as ReferenceClient
from fixtures.refapp.client import ApplicationError
from reports.records import NANOSECONDS, Clock, HarnessError, pause

DELETE: Final = "delete"
CHANNELS: Final = ("api", "row", "object", DELETE)
PREFIX: Final = "enprivacy-drill"
# Below these names lie the documents that a drill makes itself: the ledger's and the prober's.
OWN_NAMES: Final = (f"{PREFIX}/", "probe/")
# Users delete more seldom than they write, and no more than that many documents of those that were there before.
DELETE_EVERY: Final = 5
MOST_DELETABLE: Final = 2_000
# How an upload fails that never reached the application.
REFUSED: Final = httpx.ConnectError.__name__
TABLE: Final = "enprivacy_drill.writes"
REQUEST_SECONDS: Final = 2.0
READ_ATTEMPTS: Final = 25
# Not found, gone for good, or the row is there and its object is not.
GONE: Final = (404, 410, 502)
ERRORS: Final = (
    httpx.HTTPError,
    ApplicationError,
    psycopg.Error,
    minio.error.MinioException,
    urllib3.exceptions.HTTPError,
    OSError,
)

CREATE_TABLE: Final = f"""
CREATE SCHEMA IF NOT EXISTS enprivacy_drill;
CREATE TABLE IF NOT EXISTS {TABLE} (
    id text NOT NULL, tag text NOT NULL, n bigint NOT NULL, payload text NOT NULL, at timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS enprivacy_drill.marks (
    id text NOT NULL, side text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT USAGE ON SCHEMA enprivacy_drill TO PUBLIC;
GRANT INSERT, SELECT ON {TABLE} TO PUBLIC;
"""


def prepare(deployment: Deployment) -> None:
    """Make the table of the ``row`` channel, and the one for marks around a recovery target.

    Any role may write into the former; nothing in it is secret.
    """
    with deployment.database.connect() as connection:
        connection.execute(CREATE_TABLE)


def intervals(interval_ns: int) -> dict[str, int]:
    """From one write to the next of each channel, in nanoseconds, where most are ``interval_ns`` apart."""
    return {channel: interval_ns * (DELETE_EVERY if channel == DELETE else 1) for channel in CHANNELS}


def deletable(application: Application) -> list[str]:
    """The ids of documents that were there before the drill and that the writer may delete.

    Every second one: what is left goes on to be compared. None where the deployment holds no documents.

    Raises:
        HarnessError: the documents cannot be listed.
    """
    with _read_back("the documents that the deployment holds"):
        theirs = (each.id for each in application.documents("") if not each.name.startswith(OWN_NAMES))
        return list(itertools.islice(theirs, 0, 2 * MOST_DELETABLE, 2))


def writer_input(
    access: ClientAccess,
    *,
    tag: str,
    path: Path,
    clock: Clock,
    interval_ns: int,
    deletable: Sequence[str] = (),
) -> bytes:
    """What the writer reads from its standard input: where to write, how often, and whence it counts time.

    ``tag`` stands in the name of every write; ``deletable`` are the ids of the documents to delete, each once.
    """
    values = dataclasses.asdict(access) | {
        "tag": tag,
        "path": str(path),
        "origin_ns": clock.origin_ns,
        "interval_ns": interval_ns,
        "deletable": list(deletable),
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
    send: Callable[[int, str, str], None],
    book: _Book,
    clock: Clock,
    interval_ns: int,
    *,
    draw: Callable[[str, int], tuple[str, str] | None] = new_text,
) -> None:
    """Make one write after the other at the set rate until told to stop; a late one does not hurry the next.

    ``draw`` gives each write's identity and content, or nothing where there is nothing to write at this turn.
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
            send(n, identity, text)
        except Exception as problem:
            # Whatever it is: the write was not acknowledged, and the channel goes on.
            book.write("failed", channel, n, error=type(problem).__name__)
        else:
            book.write("acknowledged", channel, n)
        n, due = n + 1, max(due + interval_ns, clock.now())


def _api_channel(values: Mapping[str, Any]) -> Callable[[int, str, str], None]:
    client = ReferenceClient(values["url"], values["api_key"], timeout=REQUEST_SECONDS)

    def send(n: int, identity: str, text: str) -> None:
        del n
        client.upload(f"{PREFIX}/{values['tag']}/{identity}", text.encode())

    return send


class _Deletions:
    """Deletes documents that were there before, each of them once, and looks at each before.

    Who cannot see a document cannot delete it: while the deployment is away none is used up.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._client = ReferenceClient(values["url"], values["api_key"], timeout=REQUEST_SECONDS)
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


def _row_channel(values: Mapping[str, Any]) -> Callable[[int, str, str], None]:
    kept: list[psycopg.Connection[Any]] = []

    def send(n: int, identity: str, text: str) -> None:
        if not kept:
            kept.append(
                psycopg.connect(
                    values["dsn"],
                    autocommit=True,
                    connect_timeout=2,
                    options=f"-c statement_timeout={int(REQUEST_SECONDS * 1000)}",
                    # libpq waits for a frozen server for ever unless told otherwise.
                    tcp_user_timeout=int(REQUEST_SECONDS * 1000),
                )
            )
        try:
            kept[0].execute(
                f"INSERT INTO {TABLE} (id, tag, n, payload) VALUES (%s, %s, %s, %s)", (identity, values["tag"], n, text)
            )
        except psycopg.Error:
            kept.pop().close()
            raise

    return send


def _object_channel(values: Mapping[str, Any]) -> Callable[[int, str, str], None]:
    store = ObjectStore(**values["objects"])
    client = store.client(connections=1, timeout=REQUEST_SECONDS)

    def send(n: int, identity: str, text: str) -> None:
        del n
        data = text.encode()
        client.put_object(store.bucket, f"{PREFIX}/{values['tag']}/{identity}", io.BytesIO(data), len(data))

    return send


def main() -> None:
    """Write until standard input is closed, which also happens when the run is killed."""
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the drill ended before it had a place to write to
    values = json.loads(line)
    clock = Clock(origin_ns=values["origin_ns"])
    book, stop = _Book(Path(values["path"]), clock), threading.Event()
    deletions, apart = _Deletions(values), intervals(values["interval_ns"])
    senders = {"api": _api_channel(values), "row": _row_channel(values), "object": _object_channel(values)}
    threads = [
        threading.Thread(target=write_until, args=(stop, channel, send, book, clock, apart[channel]))
        for channel, send in senders.items()
    ]
    threads.append(
        threading.Thread(
            target=write_until,
            args=(stop, DELETE, deletions.send, book, clock, apart[DELETE]),
            kwargs={"draw": deletions.draw},
        )
    )
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()


def observe(
    deployment: Deployment, application: Application, tag: str, deletions: Collection[str] = ()
) -> Iterator[dict[str, str]]:
    """Every write of one drill's ledger that the deployment now holds: ``channel``, ``id``, ``sha256``.

    Of ``deletions``, the ids of documents whose deletion was attempted, those whose document is not there.

    Raises:
        HarnessError: a channel cannot be read, so nothing can be said about its writes.
    """
    prefix = f"{PREFIX}/{tag}/"
    with _read_back("reading the ledger's writes back"), concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield from _observe_documents(application, prefix)
        yield from _observe_rows(deployment, tag)
        yield from _observe_objects(deployment, prefix, pool)
        yield from _observe_deletions(application, deletions)


@contextlib.contextmanager
def _read_back(what: str) -> Iterator[None]:
    try:
        yield
    except ERRORS as problem:
        raise HarnessError(
            what, seen=f"{type(problem).__name__}: {problem}", remedy="see the services' logs"
        ) from problem


def _observe_deletions(application: Application, deletions: Collection[str]) -> Iterator[dict[str, str]]:
    """The deletions that hold, by one listing: it costs no document's content, and a row without object is there."""
    absent = set(deletions)
    if absent:
        absent.difference_update(document.id for document in application.documents(""))
    for identity in sorted(absent):
        yield {"channel": DELETE, "id": identity, "sha256": hashlib.sha256(identity.encode()).hexdigest()}


def _observe_documents(application: Application, prefix: str) -> Iterator[dict[str, str]]:
    for document in application.documents(prefix):
        sha256 = _digest_of_document(application, document.id)
        yield {"channel": "api", "id": document.name.removeprefix(prefix), "sha256": sha256}


def _digest_of_document(application: Application, document_id: str) -> str:
    """SHA-256 of the document as read back; empty where the application says that it is not to be had.

    A dependency that is slow for a moment says nothing about the document, and nobody's recovery time runs any more.
    """
    for _ in range(READ_ATTEMPTS):
        try:
            return hashlib.sha256(application.download(document_id)).hexdigest()
        except ApplicationError as problem:
            if problem.status in GONE:
                return ""
            last = problem
        pause(0.2, why="the dependency that was away may be back")
    raise last


def _observe_rows(deployment: Deployment, tag: str) -> Iterator[dict[str, str]]:
    with deployment.database.connect() as connection:
        if connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone() == (None,):
            return
        with connection.transaction(), connection.cursor(name="ledger") as cursor:
            cursor.execute(
                f"SELECT id, encode(sha256(convert_to(payload, 'UTF8')), 'hex') FROM {TABLE} WHERE tag = %s", (tag,)
            )
            for identity, sha256 in cursor:
                yield {"channel": "row", "id": identity, "sha256": sha256}


def _observe_objects(
    deployment: Deployment, prefix: str, pool: concurrent.futures.ThreadPoolExecutor
) -> Iterator[dict[str, str]]:
    store = deployment.objects
    client = store.client(connections=4)

    def digest(key: str) -> dict[str, str]:
        response = client.get_object(store.bucket, key)
        try:
            sha256 = hashlib.sha256(response.read()).hexdigest()
        finally:
            response.close()
            response.release_conn()
        return {"channel": "object", "id": key.removeprefix(prefix), "sha256": sha256}

    keys = (item.object_name for item in client.list_objects(store.bucket, prefix=prefix, recursive=True))
    yield from pool.map(digest, [key for key in keys if key])


if __name__ == "__main__":
    main()

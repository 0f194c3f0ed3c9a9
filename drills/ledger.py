"""The acknowledged-write ledger: the writer, a process of its own, and the search for its writes after recovery.

The writer makes business transactions through each channel at a set rate during the whole drill. It journals every
attempt before and every acknowledgement after, so that after recovery each write can be accounted for.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
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

CHANNELS: Final = ("api", "row", "object")
PREFIX: Final = "enprivacy-drill"
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
CREATE TABLE {TABLE} (id text NOT NULL, n bigint NOT NULL, payload text NOT NULL, at timestamptz DEFAULT now());
GRANT USAGE ON SCHEMA enprivacy_drill TO PUBLIC;
GRANT INSERT, SELECT ON {TABLE} TO PUBLIC;
"""


def prepare(deployment: Deployment) -> None:
    """Make the table of the ``row`` channel. Any role may write into it; nothing in it is secret."""
    with deployment.database.connect() as connection:
        connection.execute(CREATE_TABLE)


def writer_input(access: ClientAccess, *, run_id: str, path: Path, clock: Clock, interval_ns: int) -> bytes:
    """What the writer reads from its standard input: where to write, how often, and whence it counts time."""
    values = dataclasses.asdict(access) | {
        "run_id": run_id,
        "path": str(path),
        "origin_ns": clock.origin_ns,
        "interval_ns": interval_ns,
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


def write_until(
    stop: threading.Event,
    channel: str,
    send: Callable[[int, str, str], None],
    book: _Book,
    clock: Clock,
    interval_ns: int,
) -> None:
    """Make one write after the other at the set rate until told to stop; a late one does not hurry the next."""
    n, due = 0, clock.now()
    while not stop.wait(max(0, due - clock.now()) / NANOSECONDS):
        identity = f"{n:09d}-{secrets.token_hex(8)}"
        text = f"Ledger entry {identity}, {channel}. Reply to office{n}@example.com. " + secrets.token_hex(64)
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
        client.upload(f"{PREFIX}/{values['run_id']}/{identity}", text.encode())

    return send


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
            kept[0].execute(f"INSERT INTO {TABLE} (id, n, payload) VALUES (%s, %s, %s)", (identity, n, text))
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
        client.put_object(store.bucket, f"{PREFIX}/{values['run_id']}/{identity}", io.BytesIO(data), len(data))

    return send


def main() -> None:
    """Write until standard input is closed, which also happens when the run is killed."""
    values = json.loads(sys.stdin.buffer.readline())
    clock = Clock(origin_ns=values["origin_ns"])
    book, stop = _Book(Path(values["path"]), clock), threading.Event()
    senders = {"api": _api_channel(values), "row": _row_channel(values), "object": _object_channel(values)}
    threads = [
        threading.Thread(target=write_until, args=(stop, channel, send, book, clock, values["interval_ns"]))
        for channel, send in senders.items()
    ]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()


def channels_acknowledged_since(path: Path, t: int) -> set[str]:
    """The channels in which a write was acknowledged after that instant, from the ledger's last lines."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65_536))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return set()
    found = set()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line of the piece may be cut
        if entry["event"] == "acknowledged" and entry["t"] > t:
            found.add(entry["channel"])
    return found


def observe(deployment: Deployment, application: Application, run_id: str) -> Iterator[dict[str, str]]:
    """Every write of this run's ledger that the deployment now holds: ``channel``, ``id``, ``sha256``.

    Raises:
        HarnessError: a channel cannot be read, so nothing can be said about its writes.
    """
    prefix = f"{PREFIX}/{run_id}/"
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            yield from _observe_documents(application, prefix)
            yield from _observe_rows(deployment)
            yield from _observe_objects(deployment, prefix, pool)
    except ERRORS as problem:
        raise HarnessError(
            "reading the ledger's writes back",
            seen=f"{type(problem).__name__}: {problem}",
            remedy="see the services' logs",
        ) from problem


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


def _observe_rows(deployment: Deployment) -> Iterator[dict[str, str]]:
    with deployment.database.connect() as connection:
        if connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone() == (None,):
            return
        with connection.transaction(), connection.cursor(name="ledger") as cursor:
            cursor.execute(f"SELECT id, encode(sha256(convert_to(payload, 'UTF8')), 'hex') FROM {TABLE}")
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

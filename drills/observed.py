"""The search for the ledger's writes after recovery: in the database, in the bucket, and through the product's API."""

from __future__ import annotations

import concurrent.futures
import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import httpx

from drills.ledger import API, DELETE, PREFIX, TABLE, reading_back
from fixtures.application import Application, ApplicationError, Lists
from fixtures.deployment import Deployment
from reports.records import NANOSECONDS, monotonic_ns, pause

READ_ATTEMPTS: Final = 25
READ_SECONDS: Final = 5.0
NOT_THERE: Final = (404, 410)
# The row is there and its object is not, as the reference application says it.
GONE: Final = (*NOT_THERE, 502)


def observe(
    deployment: Deployment,
    application: Application | None,
    tag: str,
    *,
    deletions: Collection[str] = (),
    uploads: Mapping[str, str],
) -> Iterator[dict[str, str]]:
    """Every write of one drill's ledger that the deployment now holds: ``channel``, ``id``, ``sha256``.

    Of ``deletions``, the ids of documents whose deletion was attempted, those whose document is not there. Uploads are
    listed; where the application does not list, the acknowledged ones are asked for: ``uploads``, what the product
    calls each, by its id in the ledger.

    Raises:
        HarnessError: a channel cannot be read, so nothing can be said about its writes.
    """
    prefix = f"{PREFIX}/{tag}/"
    with reading_back("reading the ledger's writes back"), concurrent.futures.ThreadPoolExecutor(4) as pool:
        if isinstance(application, Lists):
            yield from _observe_documents(application, prefix)
        elif application is not None:
            yield from _observe_uploads(application, uploads)
        yield from _observe_rows(deployment, tag)
        yield from _observe_objects(deployment, prefix, pool)
        if isinstance(application, Lists):
            yield from _observe_deletions(application, deletions)


def _observe_deletions(application: Lists, deletions: Collection[str]) -> Iterator[dict[str, str]]:
    """The deletions that hold, by one listing: it costs no document's content, and a row without object is there."""
    absent = set(deletions)
    if absent:
        absent.difference_update(document.id for document in application.documents(""))
    for identity in sorted(absent):
        yield {"channel": DELETE, "id": identity, "sha256": hashlib.sha256(identity.encode()).hexdigest()}


def _observe_uploads(application: Application, uploads: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Those that can be had; with an empty digest those of which the application answers that something is wrong.

    They are asked for again for a while, all of them in turn: a dependency that is slow for a moment says nothing.

    Raises:
        ApplicationError, httpx.HTTPError: one was not answered at all, or not a single one could be read.
    """
    left, began, seen = list(uploads), monotonic_ns(), 0
    while True:
        problems: dict[str, ApplicationError | httpx.HTTPError] = {}
        for identity in left:
            try:
                sha256 = hashlib.sha256(application.download(uploads[identity])).hexdigest()
            except (ApplicationError, httpx.HTTPError) as failed:
                if _status(failed) not in NOT_THERE:
                    problems[identity] = failed
            else:
                seen += 1
                yield {"channel": API, "id": identity, "sha256": sha256}
        left = list(problems)
        if not left:
            return
        if monotonic_ns() - began > READ_SECONDS * NANOSECONDS:
            break
        pause(0.2, why="the dependency that was away may be back")
    for identity, problem in problems.items():
        if not seen or not _status(problem):
            raise problem
        yield {"channel": API, "id": identity, "sha256": ""}


def _status(problem: Exception) -> int:
    """The HTTP status that was answered; 0 where nothing was."""
    return problem.status if isinstance(problem, ApplicationError) else 0


def _observe_documents(application: Lists, prefix: str) -> Iterator[dict[str, str]]:
    for document in application.documents(prefix):
        sha256 = _digest_of_document(application, document.id)
        yield {"channel": API, "id": document.name.removeprefix(prefix), "sha256": sha256}


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

"""What a prober does where nobody described a transaction: services ready, a row and an object read back."""

from __future__ import annotations

import io

import httpx
import minio
import psycopg
import urllib3

from drills.ledger import TABLE, probe_key
from drills.probe import Transacts
from fixtures import health
from fixtures.application import ApplicationError
from fixtures.deployment import Deployment, NotGiven
from fixtures.guarded import KeptConnection
from reports.records import NANOSECONDS, HarnessError, monotonic_ns


def open_business(deployment: Deployment, tag: str, *, timeout: float) -> Transacts:
    """The deployment's business transaction, or what stands for it.

    Args:
        tag: of the drill, for what is written.
        timeout: seconds that any wait may take.
    """
    try:
        return deployment.application(timeout=timeout)
    except NotGiven:
        return Stores(deployment, tag, timeout=timeout)


class Stores:
    """Asks every service whether it is ready, and writes to both stores with the application's own rights.

    What it writes stays: a row under a tag that is no drill's, and one object, written over each time.
    """

    def __init__(self, deployment: Deployment, tag: str, *, timeout: float) -> None:
        self._deployment, self._tag, self._timeout = deployment, tag, timeout
        self._http = httpx.Client(timeout=timeout, trust_env=False)

    def close(self) -> None:
        """Close the connections to the services."""
        self._http.close()

    def transact(self, name: str, content: bytes, *, deadline_ns: int) -> None:
        """Services, row, object, in this order.

        Raises:
            ApplicationError: naming the step and what was seen.
        """
        for service in self._deployment.services:
            if (status := health.ask(self._http, service, "ready")) != 200:
                raise ApplicationError(f"ready: {service.name} answers {status or 'nothing'}", status=status)
        try:
            # Anew each time: until the configuration is restored there are no such rights.
            access = self._deployment.client_access()
        except HarnessError as problem:
            raise ApplicationError(f"configuration: {problem}") from None
        seconds = min(self._timeout, (deadline_ns - monotonic_ns()) / NANOSECONDS)
        if seconds <= 0:
            raise ApplicationError("row: not begun in the time that a transaction may take")
        self._write_row(access.dsn, name, content.decode(), seconds)
        store = access.objects
        client, key = store.client(connections=1, timeout=seconds), probe_key(self._tag)
        try:
            client.put_object(store.bucket, key, io.BytesIO(content), len(content))
            answer = client.get_object(store.bucket, key)
            try:
                found = answer.read()
            finally:
                answer.close()
                answer.release_conn()
        except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError) as problem:
            raise ApplicationError(f"object: {type(problem).__name__}: {problem}") from None
        if found != content:
            raise ApplicationError(f"object: {len(content)} bytes were written, and other {len(found)} read back")

    def _write_row(self, dsn: str, name: str, text: str, seconds: float) -> None:
        limit = int(seconds * 1000)
        kept = KeptConnection(dsn, seconds=seconds, options=f"-c statement_timeout={limit}")
        try:
            kept.execute(f"INSERT INTO {TABLE} (id, tag, n, payload) VALUES ($1, $2, 0, $3)", name, probe_key(""), text)
            found = kept.execute(f"SELECT payload FROM {TABLE} WHERE id = $1", name)
        except psycopg.Error as problem:
            raise ApplicationError(f"row: {type(problem).__name__}: {problem}") from None
        finally:
            kept.close()
        if (text,) not in found:
            raise ApplicationError("row: it was written, and is not read back")

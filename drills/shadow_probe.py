"""What counts as recovered in a sandbox: a business transaction, or, where none is told, what comes nearest to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import httpx

from drills.load import TRANSACTION
from drills.probe import Transacts
from drills.shadow_site import ShadowSite
from fixtures.application import ApplicationError
from fixtures.deployment import ObjectStore
from fixtures.health import ask
from fixtures.providers.sandbox import Sandbox
from fixtures.refapp.client import Application as ReferenceClient
from fixtures.transaction import SteppedApplication, read_transaction
from reports.records import NANOSECONDS

READY: Final = "every booted service ready, a row and an object read: the profile describes no [transaction]"
READABLE: Final = "a row and an object read: the profile boots no service in [shadow.services]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
    """How it is asked whether the copy does its business.

    ``basis``: what a success means. ``from_the_start``: it may be asked from the beginning, for before the application
    is booted it cannot succeed. ``door``: where clients knock, empty where there is no door.
    """

    basis: str
    open: Callable[[], Transacts]
    from_the_start: bool
    door: str = ""


def client_of(site: ShadowSite) -> Client:
    """The client that the profile allows for; the reference application needs no description.

    Raises:
        UsageProblem: the file of the transaction's steps is wrong.
    """
    sandbox, attached = site.sandbox, site.profile.attached
    seconds = site.profile.transaction_limit_ns / NANOSECONDS
    if site.api_key:
        door = sandbox.address("web")
        return Client(
            basis=TRANSACTION, open=lambda: ReferenceClient(door, site.api_key, timeout=seconds), from_the_start=True,
            door=door,
        )  # fmt: skip
    if attached is not None and attached.transaction is not None and attached.transaction.service in sandbox.ports:
        transaction, door = read_transaction(attached.transaction), sandbox.address(attached.transaction.service)
        return Client(
            basis=TRANSACTION, open=lambda: SteppedApplication(door, transaction, timeout=seconds),
            from_the_start=True, door=door,
        )  # fmt: skip
    basis = READY if sandbox.services else READABLE
    return Client(basis=basis, open=lambda: Readback(sandbox, seconds=seconds), from_the_start=False)


class Readback:
    """Reads, where no transaction is described: see ``Transacts``.

    Args:
        seconds: how long one request may take.
    """

    def __init__(self, sandbox: Sandbox, *, seconds: float) -> None:
        self._sandbox, self._http = sandbox, httpx.Client(timeout=seconds, trust_env=False)

    def transact(self, name: str, content: bytes, *, deadline_ns: int) -> None:
        """Ask every service whether it is ready, and read a row and an object.

        Raises:
            ApplicationError: one is not ready, or nothing can be read.
        """
        del name, content, deadline_ns
        for service in self._sandbox.services:
            if (status := ask(self._http, service, "ready")) != 200:
                raise ApplicationError(f"ready: {service.name} says {status}", status=status)
        with self._sandbox.database.connect() as connection:
            connection.execute("SELECT FROM pg_class LIMIT 1")
        _read_an_object(self._sandbox.objects)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _read_an_object(store: ObjectStore) -> None:
    client = store.client(connections=1)
    first = next(iter(client.list_objects(store.bucket, recursive=True)), None)
    if first is not None and first.object_name is not None:
        response = client.get_object(store.bucket, first.object_name, length=1)
        response.close()
        response.release_conn()

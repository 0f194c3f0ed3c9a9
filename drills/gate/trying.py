"""Whether services of one version do the application's business on the data of another."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Final

import httpx

from drills.probe import CONTENT, Prober
from drills.shadow_probe import client_of
from drills.shadow_site import ShadowSite
from drills.shadow_verification import configuration
from fixtures.application import ApplicationError
from fixtures.network import answers
from fixtures.shadow_settings import Booted
from reports.records import NANOSECONDS, Failure, HarnessError, monotonic_ns

LONGEST_SEEN: Final = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """Whether it worked, and what was seen."""

    works: bool
    seen: str


def try_services(site: ShadowSite, booted: Mapping[str, Booted], *, name: str) -> Tried:
    """Boot the services of one version, make one transaction, and end them; whatever comes of it is an answer.

    Args:
        booted: how; none: as those of the version that runs now.
        name: of what the transaction leaves.
    """
    seconds = site.profile.start_limit_ns / NANOSECONDS
    client = client_of(site)
    try:
        site.sandbox.boot(configuration(site), booted or None)
        site.sandbox.await_ready(seconds=seconds)
        asking = client.open()
        with contextlib.closing(asking):
            deadline_ns = monotonic_ns() + site.profile.transaction_limit_ns
            asking.transact(name, CONTENT.format(n=0).encode(), deadline_ns=deadline_ns)
    except (HarnessError, ApplicationError, httpx.HTTPError) as problem:
        return Tried(works=False, seen=first_line(problem))
    finally:
        site.sandbox.stop_services()
    return Tried(works=True, seen=client.basis)


@contextlib.contextmanager
def asking(site: ShadowSite, *, name: str) -> Iterator[Prober]:
    """A prober that asks from now on whether the copy does its business, and ends with the block.

    Where nobody described a transaction it may only ask once services are booted; see ``drills.shadow_probe``.
    """
    client = client_of(site)
    prober = Prober(
        client.open(),
        journal=site.journal,
        drill=site.id,
        prefix=f"{name}/",
        interval_ns=site.profile.probe_interval_ns,
        limit_ns=site.profile.transaction_limit_ns,
        door=functools.partial(answers, client.door) if client.door else lambda: True,
    )
    if client.from_the_start:
        prober.start()
    try:
        yield prober
    finally:
        prober.stop()


def boot_and_await(site: ShadowSite, prober: Prober, booted: Mapping[str, Booted], *, phase: str) -> None:
    """Boot services, and wait for the first business transaction; two phases of the journal.

    Raises:
        Failure: it did not come in the time that a start may take.
        HarnessError: a service ended, or was not ready in time.
    """
    seconds, client = site.profile.start_limit_ns / NANOSECONDS, client_of(site)
    with site.journal.phase(f"start {phase}", drill=site.id):
        site.sandbox.boot(configuration(site), booted or None)
        if not client.from_the_start:
            prober.start()
        site.sandbox.await_ready(seconds=seconds)
    with site.journal.phase(f"first transaction {phase}", drill=site.id):
        if not prober.await_success(seconds=seconds):
            raise Failure(f"{client.basis}: none succeeded within {seconds:g} s; last seen: {prober.last_failed}")


def first_line(problem: Exception) -> str:
    """What was seen, without what a process wrote besides."""
    seen = problem.seen if isinstance(problem, HarnessError) else str(problem)
    return next(iter(seen.splitlines()), type(problem).__name__)[:LONGEST_SEEN]

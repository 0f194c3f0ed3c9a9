"""Where the negative controls work, and what one of them is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from checks.database import Fingerprint
from drills.contract import DatabaseMethod, Job
from drills.outcome import Outcome
from drills.own_writes import OwnWrites
from drills.site import Site
from fixtures.backup_set import BackupSet
from fixtures.deployment import Deployment
from reports.records import Finding, Journal


def copy_name(run_id: str) -> str:
    """The database in which a run proves its controls; the run's id is in it, so that it is nobody else's."""
    return f"enprivacy_drill_copy_{run_id.lower()}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What the backup set held: the database's fingerprint, the configuration's digests, and what keys both."""

    database: Fingerprint
    configuration: Mapping[str, str]
    key: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the controls work, and what they compare with.

    ``bucket`` is the inventory of the bucket as it is: users have written and deleted since the restore. ``struck_ns``
    is the instant of the strike; ``observed`` holds the ledger's writes as found after recovery; ``account`` says what
    the accounting finds in such lines.
    """

    site: Site
    outcome: Outcome
    bucket: Path
    struck_ns: int
    observed: Path
    account: Callable[[Iterable[Mapping[str, Any]]], list[Finding]]

    @property
    def deployment(self) -> Deployment:
        """The restored deployment, without its services."""
        return self.site.deployment

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self.site.journal

    @property
    def drill(self) -> str:
        """The drill's name."""
        return self.site.id

    @property
    def directory(self) -> Path:
        """For scratch files."""
        return self.site.directory

    @property
    def method(self) -> DatabaseMethod:
        """The database method."""
        return self.site.scenario.database

    @property
    def backup(self) -> BackupSet:
        """The set that was restored."""
        return self.outcome.made.backup

    @property
    def own(self) -> OwnWrites:
        """What the suite wrote itself."""
        return self.outcome.own

    @functools.cached_property
    def job(self) -> Job:
        """What a method may use to restore."""
        return self.site.restore_job()

    @functools.cached_property
    def expected(self) -> Expected:
        """What the set held."""
        made = self.outcome.made
        return Expected(database=made.instant.fingerprint, configuration=made.configuration, key=self.outcome.key)

    @property
    def copy(self) -> str:
        """The name of the copy of the database."""
        return copy_name(self.site.record.run_id)

    def connect(self) -> psycopg.Connection[Any]:
        """A superuser's connection to the copy of the database."""
        return self.deployment.database.connect(self.copy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy:
    """The copy of the restored database: one connection to it for all breakages, and how it reads unbroken.

    A new connection for each would have to learn the whole catalogue again.
    """

    connection: psycopg.Connection[Any]
    twin: Fingerprint


@dataclasses.dataclass(kw_only=True)
class Seen:
    """What a control's look at the copy gave; ``victim`` says what was broken, empty where there was nothing to."""

    victim: str = ""
    findings: Sequence[Finding] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
    """One planted damage and the look at it. ``expects`` names the codes of which one must be seen; none: a twin.

    The reference application holds something of every kind, so there a control that finds nothing to break is broken
    itself, unless it is not ``always`` possible. One that depends on the method or the disaster is proven in
    ``every_drill``; of the others one proof in a run is enough.
    """

    name: str
    breaks: str
    expects: tuple[str, ...] = ()
    always: bool = True
    every_drill: bool = False
    look: Callable[[], Seen]

"""Where the negative controls work, and what one of them is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from checks.database import Fingerprint
from drills.contract import DatabaseMethod, Job
from drills.verification import Compared, Expected, OwnWrites
from fixtures.backup_set import BackupSet
from fixtures.deployment import Deployment
from reports.records import Finding, Journal

COPY: Final = "enprivacy_drill_copy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the controls work, and what they compare with.

    ``struck_ns`` is the instant of the strike; ``own`` what the suite wrote itself; ``observed`` holds the ledger's
    writes as found after recovery; ``account`` says what the accounting finds in such lines; ``directory`` is for
    scratch files.
    """

    deployment: Deployment
    journal: Journal
    drill: str
    backup: BackupSet
    expected: Expected
    compared: Compared
    own: OwnWrites
    method: DatabaseMethod
    struck_ns: int
    observed: Path
    account: Callable[[Iterable[Mapping[str, Any]]], list[Finding]]
    directory: Path
    job: Job

    def connect(self) -> psycopg.Connection[Any]:
        """A superuser's connection to the copy of the database."""
        return self.deployment.database.connect(COPY)


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
    itself, unless it is not ``always`` possible.
    """

    name: str
    breaks: str
    expects: tuple[str, ...] = ()
    always: bool = True
    look: Callable[[], Seen]

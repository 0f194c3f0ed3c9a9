"""What a backup method and a disaster must offer: the seams at which a new one is a new file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from fixtures.deployment import Database, Deployment, ObjectStore
from fixtures.processes import Processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a method may use: how to run commands, how long they may take (seconds), how many at once, which keys.

    ``snapshot`` names an exported snapshot of the source that the backup must be taken in; empty while restoring.
    ``identity`` is the private age key, there only while restoring.
    """

    processes: Processes
    jobs: int
    seconds: float
    recipient: str
    snapshot: str = ""
    identity: str = dataclasses.field(default="", repr=False)


class DatabaseMethod(Protocol):
    """Backs up one database with the roles it needs, and restores both into an empty server."""

    name: str

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """Write the backup into the empty directory ``target``, as of ``job.snapshot``."""

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Restore into a server that holds nothing."""

    def bulk(self, backup: Path) -> Path:
        """The file of the backup that holds most of the data: what the negative controls damage."""


@runtime_checkable
class RestoresBeside(Protocol):
    """A database method that can also restore the rows of one database beside others."""

    def restore_beside(self, backup: Path, target: Database, name: str, job: Job) -> None:
        """Restore tables and rows into the empty database ``name`` of a server that has the roles already."""


class ObjectMethod(Protocol):
    """Copies a bucket, and puts the copy back into an empty one."""

    name: str

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Copy every object into the empty directory ``target``."""

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Put every object back into the empty bucket."""


class ConfigurationMethod(Protocol):
    """Keeps configuration and secrets, encrypted."""

    name: str

    def back_up(self, values: Mapping[str, str], target: Path, job: Job) -> None:
        """Write the variables, encrypted to ``job.recipient``, into the empty directory ``target``."""

    def restore(self, backup: Path, job: Job) -> dict[str, str]:
        """The variables, decrypted with ``job.identity``."""


class Disaster(Protocol):
    """What strikes, and the proof that it did."""

    name: str

    def strike(self, deployment: Deployment) -> None:
        """Destroy."""

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Every place that should be empty now, and what was seen there: empty text where the disaster is proven."""

"""What a backup method and a disaster must offer: the seams at which a new one is a new file.

A protocol that is ``runtime_checkable`` is an ability that a method or a disaster may have besides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from fixtures.backup_set import BackupSet
from fixtures.deployment import Database, Deployment, ObjectStore
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import Processes
from fixtures.rotation import Credential
from reports.records import Finding

# What a database backup holds: exactly ``job.snapshot``, any instant up to the last one archived, or some instant.
Basis = Literal["snapshot", "target", "some instant"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Where recovery shall stop: one instant, named in three ways.

    ``name`` is a named restore point, ``time`` the database's clock (RFC 3339, UTC, microseconds), ``lsn`` a position
    in the write-ahead log, as ``0/1A2B3C``. ``by`` says which of the three the method is to use.
    """

    name: str
    time: str
    lsn: str
    by: Literal["name", "time", "lsn"] = "name"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a method may use.

    ``seconds`` is how long one command may take and ``jobs`` how many may work at once. ``snapshot`` names an exported
    snapshot of the source while backing up. ``previous`` is the database's part of the backup set before this one,
    where there is one. ``archive`` is the directory of the write-ahead log archive, which outlives the deployment.
    ``until`` is where a restore shall stop; none: as far as backup and archive go, or, for objects, their last state.
    ``recipient`` is the age public key; ``identity`` the private one, there only while restoring. ``passphrase`` is a
    second secret of the operator's, for tools that encrypt with one. ``store`` is an object store beside the
    deployment, for methods that ``KeepsInStore``. ``commands`` are the operator's own, by ``component_action``, such as
    ``database_backup``. ``own`` hands a path to the user under whom the database server runs.
    """

    processes: Processes
    jobs: int
    seconds: float
    recipient: str
    archive: Path
    own: Callable[[Path], None] = lambda path: None
    stream_wal: bool = True
    snapshot: str = ""
    previous: Path | None = None
    until: Target | None = None
    commands: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    store: ObjectStore | None = None
    identity: str = dataclasses.field(default="", repr=False)
    passphrase: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Means:
    """What this machine and this profile offer a method.

    ``server_apart``: the database server finds this machine's files, but none of its programs.
    """

    tools: PostgresTools
    processes: Processes
    commands: Mapping[str, Sequence[str]]
    versioned_bucket: bool
    server_apart: bool = False


@runtime_checkable
class NeedsMeans(Protocol):
    """A method that not every machine or profile can run."""

    def unavailable(self, means: Means) -> str:
        """Why it cannot run here, as "pgBackRest 2.45 refuses server 17"; empty text where it can."""


class DatabaseMethod(Protocol):
    """Backs up one database with the roles it needs, and restores both."""

    name: str
    basis: Basis
    into: Literal["server", "files"]
    """Where ``restore`` writes: into a running server that holds nothing, or into the absent ``data_directory`` of a
    server that does not run and is started on it afterwards."""

    def back_up(self, source: Database, target: Path, job: Job) -> None:
        """Write the backup into the empty directory ``target``."""

    def restore(self, backup: Path, target: Database, job: Job) -> None:
        """Restore from the directory that ``back_up`` filled."""


@runtime_checkable
class TakesLong(Protocol):
    """A method that takes seconds whatever the size of the data: a sample of the matrix tries it once."""

    takes_long: bool


@runtime_checkable
class Archives(Protocol):
    """A database method that keeps the write-ahead log in ``job.archive`` from the deployment's start on."""

    def settings(self, job: Job) -> Mapping[str, str]:
        """The server settings that it needs; the server is started with them."""

    def streams(self, wanted: bool) -> bool:
        """Whether no commit is acknowledged that is not in the archive, where the profile wants that."""

    def start_archiving(self, source: Database, job: Job) -> None:
        """Begin, once the server runs; a process that receives the log is started here."""

    def flush(self, source: Database, job: Job) -> None:
        """See that the archive holds everything up to now."""

    def check_archive(self, backup: Path, archive: Path, job: Job) -> list[Finding]:
        """Whether the log is whole from the backup on, before a restore relies on it."""


@runtime_checkable
class RestoresBeside(Protocol):
    """A database method that can also restore the rows of one database beside others."""

    def restore_beside(self, backup: Path, target: Database, name: str, job: Job) -> None:
        """Restore tables and rows into the empty database ``name`` of a server that has the roles already."""


@runtime_checkable
class Rehearses(Protocol):
    """A database method whose restore can be tried beside the database that it is a backup of."""

    def rehearse(self, backup: Path, target: Database, name: str, job: Job) -> None:
        """Restore all of the backup into a new database ``name``, as ``restore`` does; the caller drops it.

        What belongs to the whole server, such as roles, is tried and taken back.
        """


class ObjectMethod(Protocol):
    """Copies a bucket, and puts back what a bucket lacks."""

    name: str
    plain: bool
    """Whether the backup is a directory with one file for each object, named by its key."""

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Make the directory ``target`` hold every object.

        Called twice for a backup set, before and after the database's snapshot: it adds what is new or changed and
        removes nothing, so that what a row of the snapshot refers to is there even when users delete meanwhile.
        """

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Put every object back that the bucket lacks; those that it has are left as they are."""


@runtime_checkable
class ListsCopy(Protocol):
    """An object method whose copy is no directory of plain files, and can be listed all the same."""

    def list_copy(self, backup: Path, job: Job) -> Iterator[tuple[str, int]]:
        """Key and size of each object that the copy would give back, in no order."""


@runtime_checkable
class KeepsInStore(Protocol):
    """An object method whose copy lies in another object store, ``job.store``."""

    keeps_in_store: bool


@runtime_checkable
class KeepsInBucket(Protocol):
    """An object method that recovers from the bucket's own versions: nothing is copied, and the server must live."""

    keeps_in_bucket: bool


class ConfigurationMethod(Protocol):
    """Keeps configuration and secrets, encrypted."""

    name: str

    def back_up(self, values: Mapping[str, str], target: Path, job: Job) -> None:
        """Write the variables, encrypted to ``job.recipient``, into the empty directory ``target``."""

    def restore(self, backup: Path, job: Job) -> dict[str, str]:
        """The variables, decrypted with ``job.identity``."""


class Disaster(Protocol):
    """What strikes, and the proof that it did.

    ``database`` says what is wrong with the database: ``gone`` (the server or its files: restored as far as backup and
    archive go) or ``wrong`` (it lives and holds what nobody wants: restored to the instant before the strike).
    ``objects``: ``gone`` (the server with its buckets), ``emptied``, ``some`` (others are as they were) or
    ``overwritten``. ``configuration``: whether it is lost. ``health``: whether the health endpoints must tell;
    otherwise an operator notices.
    """

    name: str
    database: Literal["", "gone", "wrong"]
    objects: Literal["", "gone", "emptied", "some", "overwritten"]
    configuration: bool
    health: bool

    def strike(self, deployment: Deployment) -> None:
        """Destroy."""

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Every place that should be struck now, and what speaks against it: empty text where it is proven."""


@runtime_checkable
class SpoilsBackup(Protocol):
    """A disaster that also hits the newest backup set: the drill makes two, and must fall back to the first."""

    def spoil(self, backup: BackupSet) -> None:
        """Damage the set."""


@runtime_checkable
class KillsRestore(Protocol):
    """A disaster after which the first restore is killed half-way and run again."""

    kills_restore: bool


@runtime_checkable
class TriesWrongKey(Protocol):
    """A disaster after which the configuration is first restored with a key that is not its own."""

    tries_wrong_key: bool


@runtime_checkable
class RotatesCredential(Protocol):
    """A disaster before which a credential of the database was revoked, after the backup: a restore brings it back."""

    def rotate(self, deployment: Deployment) -> Sequence[Credential]:
        """Rotate, and hand back what is revoked from here on."""


@runtime_checkable
class NeedsFiles(Protocol):
    """A disaster that strikes the files of the database server, which only the suite's own deployments let it."""

    needs_files: bool


@runtime_checkable
class NeedsTenants(Protocol):
    """A disaster that strikes one tenant, told from the others by the keys of his objects."""

    needs_tenants: bool

"""A backup set of this suite's own, as a place of backups may hold it: its manifest is its word, and is held to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import pyrage

from drills.sources.contract import Fetching
from fixtures.backup_set import FILES, MANIFEST, BackupSet, check_manifest
from reports.records import Finding, HarnessError, UsageProblem

ROLES: Final = "roles.sql.age"
DUMP: Final = "dump"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Described:
    """What its manifest says: both instants RFC 3339 in UTC, the method by which its database was backed up."""

    made: str
    snapshot: str
    method: str


def is_set(directory: Path) -> bool:
    """Whether a directory is a set, or was one."""
    return (directory / MANIFEST).is_file() and (directory / FILES).is_file()


def described(directory: Path) -> Described:
    """What the manifest says of the set.

    Raises:
        UsageProblem: it is not a manifest.
    """
    said: dict[str, Any] = _set(directory).manifest()
    try:
        return Described(
            made=said["made_utc"], snapshot=said["snapshot"]["database_time"], method=said["methods"]["database"]
        )
    except (LookupError, TypeError) as problem:
        raise UsageProblem(
            f"manifest of the backup set {directory}", seen=f"{type(problem).__name__}: {problem}",
            remedy="name sets that this release made",
        ) from None  # fmt: skip


def trouble_of(directory: Path) -> str:
    """Why its database cannot be restored into a sandbox; empty text where it can."""
    method = described(directory).method
    if method != "pg_dump":
        return f"a set whose database is kept by {method}: of sets, only those by pg_dump are restored"
    return "" if (directory / "database" / DUMP / "toc.dat").is_file() else "a set without its dump"


def problems_of(directory: Path, component: str) -> list[Finding]:
    """What of a component is not as the manifest says, by the digest of each file."""
    return check_manifest(_set(directory), contents_of=frozenset({component}), components=(component,))


def decrypted_roles(directory: Path, fetching: Fetching) -> Path:
    """The set's script of roles, in a file that only this user may read.

    Raises:
        HarnessError: the profile gives no key, or it is not theirs.
    """
    sealed = directory / "database" / ROLES
    if not fetching.identity:
        raise HarnessError(
            f"the roles of the backup set {directory.name}", seen=f"{ROLES}, and no key to open it",
            remedy="give backup.age_identity in the profile, as ${NAME}",
        )  # fmt: skip
    try:
        plain = pyrage.decrypt(sealed.read_bytes(), [pyrage.x25519.Identity.from_str(fetching.identity)])
    except (OSError, pyrage.DecryptError, pyrage.IdentityError) as problem:
        raise HarnessError(
            f"decrypting {ROLES} of the backup set {directory.name}", seen=str(problem),
            remedy="give the private key that belongs to the set's recipient as backup.age_identity",
        ) from None  # fmt: skip
    place = fetching.target / "roles.sql"
    place.touch(mode=0o600)
    place.write_bytes(plain)
    return place


def _set(directory: Path) -> BackupSet:
    return BackupSet(directory=directory, apart=directory)

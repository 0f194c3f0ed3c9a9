"""What a backup set is and what a restore of it must give."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from checks.database import Fingerprint
from checks.snapshot import SequencePosition
from drills.contract import Target
from fixtures.backup_set import BackupSet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instant:
    """One instant of the source database and what was read of it.

    ``stored`` is its fingerprint; ``target`` names it for recovery; ``mark`` is the id of the two writes around it,
    empty where the method cannot recover to an instant; ``at_ns`` is when it was, by the run's clock.
    """

    stored: Path
    sequences_until: dict[str, SequencePosition]
    target: Target
    mark: str
    at_ns: int

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint, read from its file."""
        return Fingerprint.from_json(self.stored.read_text("utf-8"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """A backup set and what a restore of it must give.

    ``objects`` is the inventory of all that must be there, ``allowed`` are keys that may be there too: those that users
    deleted or uploaded while the copy was made. ``orphans`` counts the objects that no row of the instant refers to.
    ``first_pass`` lists what the copy held before the database's instant; it began at ``began_ns``.
    """

    backup: BackupSet
    instant: Instant
    objects: Path
    allowed: frozenset[str]
    orphans: int
    first_pass: Path
    began_ns: int
    configuration: dict[str, str]
    system_identifier: str
    manifest_sha256: str

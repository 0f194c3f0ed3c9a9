"""What a restore has led to, for those who verify it and for the controls that break copies of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from checks.snapshot import HeldSnapshot
from drills.conforming import Trail
from drills.made import Instant, Made
from drills.own_writes import OwnWrites
from fixtures.rotation import Credential


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a restore has led to, and what it is held against.

    ``made`` is the backup set that was restored. ``instant`` is the one that the database must equal; where it came
    back to one that nobody read, all of it but the tables that went on changing until ``last_read``. ``spared`` lists
    the bucket that the disaster spared, as it was before what it lacked was put back. ``restored`` holds the restored
    database as it was before any client was let in; ``own`` is what the suite wrote itself. ``revoked`` are credentials
    that were revoked after the backup, which a restore brings back. ``trail`` is the audit trail across the strike.
    """

    made: Made
    instant: Instant
    last_read: Instant | None
    spared: Path | None
    restored: HeldSnapshot
    own: OwnWrites
    key: bytes = dataclasses.field(repr=False)
    trail: Trail
    revoked: Sequence[Credential] = ()

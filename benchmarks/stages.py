"""What is compared: the stages of the measured path, by the names that both sides use, and what each side took."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

# Names that begin with a space are parts of the stage after them in time and before them in this list.
STAGES: Final = (
    "copy objects",
    "back up",
    " dump database",
    " copy objects again",
    "recovery",
    " strike",
    " restore configuration",
    " provision",
    " restore database",
    " restore objects",
    " start and first transaction",
    "measured path",
)
MEASURED: Final = ("copy objects", "back up", "recovery")
BUDGET: Final = 1.05
VERIFY_DATABASE_BUDGET: Final = 0.5
VERIFY_OBJECTS_BUDGET: Final = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bare:
    """One run of the shell script, in nanoseconds: each stage of ``STAGES``, and rclone's own check of the objects.

    ``commands`` are the tools that it ran on the measured path, with their arguments.
    """

    stages: Mapping[str, int]
    check_objects_ns: int
    commands: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drilled:
    """One run of the drill, in nanoseconds: each stage of ``STAGES``, and what the drill does beside them.

    ``between_ns`` lies between the first copy of the objects and the rest of the backup, ``pause_ns`` between the end
    of the backup and the strike, both off the measured path. ``peak_bytes`` is the largest resident size of the drill's
    own process, without the servers and tools it started. ``commands`` are those that it ran on the measured path.
    """

    stages: Mapping[str, int]
    whole_run_ns: int
    between_ns: int
    pause_ns: int
    dump_ns: int
    verify_database_ns: int
    verify_objects_ns: int
    phases: Mapping[str, int]
    peak_bytes: int
    commands: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """One run of each side, one right after the other."""

    drilled: Drilled
    bare: Bare

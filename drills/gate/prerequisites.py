"""What a restore needs before it is needed: programs, room, keys, and the places where backups are kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from drills.keys import key_pair
from fixtures.ground import Ground
from fixtures.isolation import unavailable
from fixtures.profile import Profile
from fixtures.profile_probes.checking import probe_for_restore
from fixtures.profile_probes.rows import Row, State, missing, sized, works
from reports.records import Redactor, UsageProblem

SECONDS: Final = 10.0
# What is probed of this machine alone: without it nothing is known of the deployment.
HERE: Final = ("programs here", "sandbox", "sandbox's network", "disk", "commands", "machine", "key pair", "deployment")


def prerequisites(profile: Profile, ground: Ground, root: Path, *, needed: int, redactor: Redactor) -> list[Row]:
    """A row for each: of an attached deployment all that ``profile check`` probes, but what only destroying needs.

    Args:
        root: where work directories are made.
        needed: bytes that must be free there.
    """
    rows = [*_here(profile, ground, root, needed)]
    if profile.attached is not None:
        found = probe_for_restore(profile, ground.workspace, root, seconds=SECONDS, redactor=redactor)
        rows += [row for row in found if not row.bars or {"observe", "shadow"} & set(row.bars)]
    return [row for row in rows if row.state in (State.WORKS, State.MISSING, State.NOT_TESTED)]


def _here(profile: Profile, ground: Ground, root: Path, needed: int) -> Iterator[Row]:
    yield works("programs here", f"PostgreSQL {ground.tools.version} ({ground.tools.found}), rclone")
    free = shutil.disk_usage(root).free
    said = f"{sized(free)} free at {root}, {sized(needed)} needed"
    if free < needed:
        yield missing("disk", said, "name a larger disk by --work-directory")
    else:
        yield works("disk", said)
    try:
        key_pair(profile)
        yield works("key pair", "backup.age_identity can be used" if profile.age_identity else "made for the run")
    except UsageProblem as problem:
        yield missing("key pair", problem.seen, problem.remedy)
    if profile.attached is None and profile.shadow.egress_closed:
        if reason := unavailable(ground.workspace.processes):
            yield missing("sandbox's network", reason, 'allow for it, or accept shadow.egress = "open"')
        else:
            yield works("sandbox's network", "can be closed")


def as_record(row: Row) -> dict[str, object]:
    """As the journal holds it."""
    return {"what": row.probe, "state": row.state.value.lower(), "seen": row.seen, "remedy": row.remedy,
            "here": row.probe in HERE}  # fmt: skip

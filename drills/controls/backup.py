"""Falsehoods in a copy of the backup set's manifest: each must keep the set from being restored."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, Final

from checks.backup_set import judge_set
from drills.controls.bench import Bench, Control, Seen
from fixtures.backup_set import MANIFEST, BackupSet, sha256_of
from reports.records import canonical, utc_stamp

LONG_AGO: Final = "2000-01-01T00:00:00Z"
# A method may keep the objects elsewhere; of the database there is always something.
COMPONENTS: Final = ("database",)


def controls(bench: Bench) -> Iterator[Control]:
    """The manifest as it is, and each way to falsify it."""
    major = bench.expected.database.server_version // 10000
    tools = bench.backup.manifest().get("tools", {})
    older = {"tools": {**tools, "postgresql": f"{major - 1}.0"}}
    yield Control(
        name="healthy twin of the manifest",
        breaks="nothing",
        every_drill=True,
        look=lambda: _judged(bench, {}, MANIFEST),
    )
    yield Control(
        name="manifest altered",
        breaks="a field added after its digest was noted",
        expects=("BACKUP-MANIFEST-ALTERED",),
        every_drill=True,
        look=lambda: _judged(bench, {"added": "afterwards"}, MANIFEST, noted=bench.outcome.made.manifest_sha256),
    )
    for name, breaks, code, changes in (
        ("backup of another deployment", "another name", "BACKUP-FOREIGN", {"deployment": "another"}),
        ("backup of another database", "another cluster's number", "BACKUP-FOREIGN", {"system_identifier": "1"}),
        ("backup too old", "made long ago", "BACKUP-STALE", {"made_utc": LONG_AGO}),
        ("dump tool too old", "tools older than the server", "VERSION-MISMATCH", older),
        ("target too old", "a server newer than the target", "VERSION-MISMATCH", {"server_version": 990000}),
        ("backup of nothing", "no file of the database", "BACKUP-EMPTY", {"components": {}}),
    ):
        look = functools.partial(_judged, bench, changes, ", ".join(changes))
        yield Control(name=name, breaks=breaks, expects=(code,), every_drill=True, look=look)


def _judged(bench: Bench, changes: Mapping[str, Any], victim: str, *, noted: str = "") -> Seen:
    copy = BackupSet(directory=bench.directory / "control-manifest", apart=bench.directory / "control-manifest-apart")
    copy.directory.mkdir()
    try:
        path = copy.directory / MANIFEST
        path.write_bytes(canonical({**bench.backup.manifest(), **changes}))
        findings = judge_set(
            copy,
            manifest_sha256=noted or sha256_of(path),
            deployment=bench.deployment.name,
            system_identifier=bench.outcome.made.system_identifier,
            server_version=bench.expected.database.server_version,
            now_utc=utc_stamp(),
            max_age_ns=bench.site.profile.backup_max_age_ns,
            components=COMPONENTS,
        )
    finally:
        shutil.rmtree(copy.directory)
    return Seen(victim=victim, findings=findings)

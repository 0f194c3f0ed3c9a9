"""May this backup set be restored here: as it was written, of this deployment, recent, of a fitting version.

Answered from the manifest alone, before anything is restored; what the files hold is ``fixtures.backup_set``'s part.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fixtures.backup_set import COMPONENTS, MANIFEST, BackupSet, sha256_of
from reports.records import Finding, UsageProblem, format_duration

FIELDS: Final = ("deployment", "system_identifier", "server_version", "made_utc", "tools", "components")
# A backup made on another machine may bear a stamp this far ahead of this one's clock.
CLOCKS_APART: Final = datetime.timedelta(minutes=5)


def judge_set(
    backup: BackupSet,
    *,
    manifest_sha256: str,
    deployment: str,
    system_identifier: str,
    server_version: int,
    now_utc: str,
    max_age_ns: int,
    physical: bool = False,
    components: Sequence[str] = COMPONENTS,
) -> list[Finding]:
    """What speaks against restoring this set.

    An altered manifest is the only finding then: nothing that it says can be believed.

    Args:
        manifest_sha256: the digest of ``manifest.json`` that was noted when the set was made.
        deployment: the name of the deployment to restore.
        system_identifier: the number of the PostgreSQL cluster that was backed up, as its control file gives it.
        server_version: of the server to restore into, as ``server_version_num``, e.g. 170010.
        now_utc: RFC 3339, UTC.
        max_age_ns: how old a set may be, in nanoseconds.
        physical: the set holds the server's files, which only the same major version can read.
        components: those that must hold something.

    Raises:
        UsageProblem: the manifest cannot be read or lacks a field that this needs.
    """
    where = backup.directory / MANIFEST
    if where.is_file() and (found := sha256_of(where)) != manifest_sha256:
        seen = f"its SHA-256 is {found}, and {manifest_sha256} was noted when it was made"
        return [Finding(code="BACKUP-MANIFEST-ALTERED", seen=seen, where=MANIFEST)]
    manifest = backup.manifest()
    if missing := [field for field in FIELDS if field not in manifest]:
        raise UsageProblem(
            f"the manifest of backup set {backup.directory}",
            seen=f"no {', '.join(missing)} in it",
            remedy="name a set that this release made",
        )
    return [
        *_foreign(manifest, deployment, system_identifier),
        *_stale(manifest, now_utc, max_age_ns),
        *mismatched(manifest, server_version, physical),
        *_empty(manifest["components"], components),
    ]


def _foreign(manifest: Mapping[str, Any], deployment: str, system_identifier: str) -> list[Finding]:
    wanted = {"deployment": deployment, "system_identifier": system_identifier}
    return [
        Finding(code="BACKUP-FOREIGN", seen=f"{field} {manifest[field]} instead of {value}", where=MANIFEST)
        for field, value in wanted.items()
        if str(manifest[field]) != value
    ]


def _stale(manifest: Mapping[str, Any], now_utc: str, max_age_ns: int) -> list[Finding]:
    made, now = instant_of(manifest["made_utc"]), instant_of(now_utc)
    age_ns = (now - made) // datetime.timedelta(microseconds=1) * 1000
    if made - now > CLOCKS_APART:
        seen = f"made {manifest['made_utc']}, which is after now, {now_utc}: its age is unknown"
    elif age_ns > max_age_ns:
        seen = f"made {manifest['made_utc']}, {format_duration(age_ns)} ago; at most {format_duration(max_age_ns)}"
    else:
        return []
    return [Finding(code="BACKUP-STALE", seen=seen, where=MANIFEST)]


def instant_of(stamp: str) -> datetime.datetime:
    """The instant that a manifest's stamp names.

    Raises:
        UsageProblem: it is not RFC 3339 with a time zone.
    """
    try:
        instant = datetime.datetime.fromisoformat(stamp)
        if instant.tzinfo is None:
            raise ValueError("without a time zone")
    except (TypeError, ValueError) as problem:
        raise UsageProblem(
            "the age of a backup set", seen=f"{stamp!r} ({problem})", remedy="write RFC 3339, e.g. 2026-01-31T04:00:00Z"
        ) from None
    return instant


def mismatched(manifest: Mapping[str, Any], server_version: int, physical: bool) -> list[Finding]:
    """Which versions of PostgreSQL do not fit each other: the source, the tools, the server to restore into."""
    source, target = int(manifest["server_version"]) // 10000, server_version // 10000
    shown = str(manifest["tools"].get("postgresql", ""))
    tools = re.match(r"\d+", shown)
    seen = []
    if tools is not None and int(tools[0]) < source:
        seen.append(f"made by tools of PostgreSQL {shown} from a server of {source}")
    if target < source:
        seen.append(f"of a server of PostgreSQL {source}, to be restored into {target}, which is older")
    elif target > source and physical:
        seen.append(f"the files of a server of PostgreSQL {source}, which {target} cannot read")
    return [Finding(code="VERSION-MISMATCH", seen=each, where=MANIFEST) for each in seen]


def _empty(held: Mapping[str, Mapping[str, int]], components: Sequence[str]) -> list[Finding]:
    return [
        Finding(code="BACKUP-EMPTY", seen=f"{files} files, {size} bytes", where=component)
        for component in components
        for files, size in [(held.get(component, {}).get("files", 0), held.get(component, {}).get("bytes", 0))]
        if files == 0 or size == 0
    ]

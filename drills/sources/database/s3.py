"""Backups below a prefix of a bucket: the newest object, or group of objects by the next part of their keys."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drills.sources.contract import Fetched, Fetching
from drills.sources.in_store import Group, base_of, groups_of, is_one, kind_of_group, store_of
from drills.sources.recognising import newest_dump
from fixtures.backup_set import FILES, MANIFEST
from fixtures.deployment import ObjectStore
from fixtures.rclone import bucket, copy, directory
from fixtures.shadow_settings import Kept
from reports.records import Finding, HarnessError

ROLES: Final = re.compile(r"global|role|user", re.IGNORECASE)


class S3:
    """See ``drills.sources.contract.Source``. Only what is restored is fetched."""

    name = "s3"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """The newest backup, to be recognised on the disk as one in a directory is."""
        store = store_of(kept)
        base, beginning = base_of(store, kept.prefix.lstrip("/"))
        groups = groups_of(store, base, beginning)
        place = fetching.target / "backup"
        if is_one(groups):
            names = [name for name in groups if name not in ("objects", "configuration")]
            for name in sorted(names):
                _fetch(store, base, groups[name], place / name if not groups[name].single else place, fetching)
            return dataclasses.replace(newest_dump(place, fetching), label=base.rstrip("/") or kept.bucket, ours=True)
        chosen, findings, roles = _choose(store, base, groups, fetching.deployment.database.name, kept)
        target = place if chosen.single else place / chosen.name
        _fetch(store, base, chosen, target, fetching)
        if chosen.single and roles is not None and roles is not chosen:
            _fetch(store, base, roles, place, fetching)
        found = newest_dump(target, fetching)
        return dataclasses.replace(found, label=chosen.name, ours=True, findings=(*findings, *found.findings))


def _choose(
    store: ObjectStore, base: str, groups: Mapping[str, Group], name: str, kept: Kept
) -> tuple[Group, list[Finding], Group | None]:
    """The newest backup of the database, what is newer and cannot be restored, and the newest roles beside."""
    foreign: Group | None = None
    chosen: Group | None = None
    roles: Group | None = None
    troubles: list[tuple[Group, str]] = []
    for group in sorted(groups.values(), key=lambda each: each.changed, reverse=True):
        if chosen is not None and group.changed < chosen.changed:
            if roles is not None or not chosen.single:
                break
            # Each look is a request: of what is older only that which may be roles, by its name.
            if not ROLES.search(group.name):
                continue
        kind = kind_of_group(store, base, group)
        if kind.what == "roles":
            roles = roles or group
        elif kind.trouble and chosen is None:
            troubles.append((group, kind.trouble))
        elif kind.what and kind.database not in ("", name):
            foreign = foreign or group
        elif kind.what and chosen is None:
            chosen = group
        elif kind.what and chosen is not None and group.changed == chosen.changed:
            raise HarnessError(
                f"bucket {kept.bucket}, prefix {kept.prefix!r}",
                seen=f"{chosen.name} and {group.name} are of the very same time",
                remedy="keep each database's backups below a prefix of their own",
            )
    chosen = chosen or foreign
    if chosen is None:
        told = "; ".join(f"{group.name}: {trouble}" for group, trouble in troubles[:3])
        raise HarnessError(
            f"bucket {kept.bucket}, prefix {kept.prefix!r}",
            seen=told or f"no backup of a database among {len(groups)} names",
            remedy="name the prefix that the keys of the backups begin with",
        )
    findings = [
        Finding(code="BACKUP-UNUSABLE", seen=f"{trouble}; {chosen.name} is restored instead", where=group.name)
        for group, trouble in troubles
        if group.changed > chosen.changed
    ]
    return chosen, findings, roles


def _fetch(store: ObjectStore, base: str, group: Group, target: Path, fetching: Fetching) -> None:
    """Copy a group; of a set of this suite's, what the database needs."""
    whole = f"{base}{group.name}"
    paths = {whole: target}
    if not group.single and group.holds(MANIFEST) and group.holds(FILES):
        paths = {f"{whole}/database": target / "database", f"{whole}/{MANIFEST}": target, f"{whole}/{FILES}": target}
    for path, place in paths.items():
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy(
            bucket(store, path, remote="kept"),
            directory(place),
            choice="everything",
            processes=fetching.processes,
            jobs=fetching.jobs,
            seconds=fetching.seconds,
            retries=3,
            metadata=False,
        )


SOURCE: Final = S3()

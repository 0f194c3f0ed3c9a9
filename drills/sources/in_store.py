"""Backups in an object store: what is listed there, and which group of objects is the newest backup."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final

import minio.error
import urllib3.exceptions

from drills.sources.kinds import HEAD_BYTES, PART_OF_DIRECTORY, TABLE_OF_CONTENTS, UNFINISHED, Kind, kind_of_head
from drills.sources.recognising import DEEPEST, VERSION_FILE
from fixtures.backup_set import FILES, MANIFEST
from fixtures.deployment import ObjectStore
from fixtures.shadow_settings import Kept
from reports.records import HarnessError

STORE_ERRORS: Final = (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError, ValueError)
# By which a group of objects is one backup, whatever else is in it.
MARKS: Final = (TABLE_OF_CONTENTS, MANIFEST, VERSION_FILE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One object: ``key`` without what was asked for, ``size`` in bytes, ``changed`` in seconds since 1970."""

    key: str
    size: int
    changed: float


@dataclasses.dataclass(kw_only=True)
class Group:
    """What has one name at the top; ``items`` are those by which it can be told what it is."""

    name: str
    changed: float = 0.0
    parts: bool = False
    items: list[Item] = dataclasses.field(default_factory=list)

    @property
    def single(self) -> bool:
        """Whether it is one object and not a directory of them."""
        return [item.key for item in self.items] == [self.name]

    def holds(self, name: str) -> bool:
        """Whether a file of this name is anywhere in it."""
        return any(item.key.rpartition("/")[2] == name for item in self.items)


def store_of(kept: Kept) -> ObjectStore:
    """The store that the profile names."""
    return ObjectStore(
        endpoint=kept.endpoint.rstrip("/"),
        bucket=kept.bucket,
        access_key=kept.access_key,
        secret_key=kept.secret_key,
    )


def listed(store: ObjectStore, prefix: str) -> Iterator[Item]:
    """Every object below a prefix, by its key after it.

    Raises:
        HarnessError: the store refuses, or does not answer.
    """
    try:
        for item in store.client().list_objects(store.bucket, prefix=prefix, recursive=True):
            key, at = str(item.object_name), item.last_modified
            if not key.endswith("/") and at is not None:
                yield Item(key=key.removeprefix(prefix), size=item.size or 0, changed=at.timestamp())
    except STORE_ERRORS as problem:
        raise HarnessError(
            f"bucket {store.bucket} at {store.endpoint}",
            seen=f"{type(problem).__name__}: {problem}",
            remedy="correct endpoint, bucket and keys of the place of the backups",
        ) from None


def base_of(store: ObjectStore, prefix: str) -> tuple[str, str]:
    """(what all keys begin with up to a slash, what the names after it begin with): a directory's name, or a name's."""
    if not prefix or prefix.endswith("/") or next(listed(store, f"{prefix}/"), None) is not None:
        return (f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""), ""
    directory, slash, name = prefix.rpartition("/")
    return directory + slash, name


def groups_of(store: ObjectStore, base: str, beginning: str) -> Mapping[str, Group]:
    """What lies there, by its name at the top; of a set's objects, nothing but their names' end is looked at."""
    groups: dict[str, Group] = {}
    for item in listed(store, base + beginning):
        key = beginning + item.key
        name, _, inside = key.partition("/")
        group = groups.setdefault(name, Group(name=name))
        group.changed = max(group.changed, item.changed)
        if PART_OF_DIRECTORY.search(key):
            group.parts = True
        elif not inside.startswith(("objects/", "configuration/")) and inside.count("/") <= DEEPEST + 1:
            group.items.append(dataclasses.replace(item, key=key))
    return groups


def is_one(groups: Mapping[str, Group]) -> bool:
    """Whether the groups together are one backup."""
    return any(groups[name].single for name in (TABLE_OF_CONTENTS, VERSION_FILE) if name in groups) or all(
        name in groups for name in (MANIFEST, FILES)
    )


def kind_of_group(store: ObjectStore, base: str, group: Group) -> Kind:
    """What a group is: by its name, by the beginning of its contents' table, or by that of each of its objects.

    Raises:
        HarnessError: an object cannot be read.
    """
    if UNFINISHED.search(group.name):
        return Kind(trouble="its name says that it is not finished")
    if group.single:
        return kind_of_head(group.name, _head(store, base, group.items[0]), group.items[0].size)
    for item in group.items:
        if item.key.endswith(f"/{TABLE_OF_CONTENTS}"):
            return kind_of_head(TABLE_OF_CONTENTS, _head(store, base, item), item.size)
    if group.holds(MANIFEST) or group.holds(VERSION_FILE):
        return Kind(what="archive")
    if group.parts:
        return Kind(trouble=f"a directory dump without {TABLE_OF_CONTENTS}")
    kinds = [kind_of_head(item.key, _head(store, base, item), item.size) for item in group.items]
    dumps = [kind for kind in kinds if kind.what in ("archive", "script", "cluster")]
    troubles = [kind for kind in kinds if kind.trouble]
    return (dumps or troubles or [Kind()])[0]


def _head(store: ObjectStore, base: str, item: Item) -> bytes:
    if not item.size:
        return b""
    try:
        answer = store.client().get_object(store.bucket, base + item.key, length=min(HEAD_BYTES, item.size))
        try:
            return answer.read()
        finally:
            answer.close()
    except STORE_ERRORS as problem:
        raise HarnessError(
            f"object {base}{item.key} of bucket {store.bucket}",
            seen=f"{type(problem).__name__}: {problem}",
            remedy="give keys that may read the backups",
        ) from None

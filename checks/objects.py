"""Does a restored bucket equal what the backup held: an inventory of each, and what differs between the two."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import http
import itertools
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import minio
import minio.error
import urllib3.exceptions

from checks.differences import Cases
from checks.fetching import Connections
from checks.inventories import Inventory, ObjectEntry, read_inventory, sorted_keys, write_inventory
from reports.records import Finding, HarnessError

DESCRIPTIONS = frozenset({"content_type", "metadata", "tags"})
# The client raises ValueError for a name that no bucket can have.
_STORE_ERRORS = (
    minio.error.MinioException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
)
_BATCH = 8
"""Keys handed to a worker at once: handing over costs as much as hashing 50 kB."""
_PIECE = 1 << 17
"""Bytes read at once: large enough that hashing lets other threads work, small enough for many workers."""


def take_inventory(
    store: minio.Minio,
    bucket: str,
    path: Path,
    *,
    describe: frozenset[str],
    workers: int,
    keys: Iterable[str] | None = None,
    timeout: float = 30,
    tls: ssl.SSLContext | None = None,
) -> Inventory:
    """Read every object of a bucket and write down its key, size and SHA-256, in the order of the keys.

    Objects are fetched by presigned addresses over connections of this function's own: the client's ``get_object``
    takes far more processor time for a small object (see ``checks.fetching``), and its pool may retry, which would
    hide a store that fails every second time. Nothing is tried twice.

    Args:
        store: lists, signs, and fetches tags.
        bucket: the bucket.
        path: the file to write; its directory also takes the sorted keys of a long listing while this works.
        describe: which of ``DESCRIPTIONS`` to write down too. Type and metadata come with the object; tags cost one
            request more for each object that has any.
        workers: how many objects are read at once.
        keys: only these; none lists the bucket. A key that is gone when it is read is left out.
        timeout: seconds without a byte after which an object counts as not answered.
        tls: for https, what to trust; none takes the system's, which ``SSL_CERT_FILE`` may set.

    Raises:
        HarnessError: the store refused, broke off or did not answer.
    """
    try:
        listed = keys if keys is not None else _list_keys(store, bucket)
        ordered = sorted_keys(listed, scratch=path.parent)
        address = store.get_presigned_url("GET", bucket, "any")
        with contextlib.closing(Connections.to(address, timeout=timeout, tls=tls)) as connections:
            read = functools.partial(_read_objects, store, bucket, describe, connections)
            return write_inventory(path, _in_order(read, ordered, workers))
    except _STORE_ERRORS as problem:
        raise HarnessError(
            f"reading bucket {bucket}",
            seen=f"{type(problem).__name__}: {str(problem)[:500]}",
            remedy="see whether the store answers, and its log",
        ) from problem


def list_objects(store: minio.Minio, bucket: str, path: Path) -> Inventory:
    """The inventory of a bucket as its listing tells it: the store's ETag stands in the digest's place.

    Raises:
        HarnessError: the store refused or did not answer.
    """
    try:
        # No key holds a NUL: sorted with its ETag and size behind it, a key stays in its place.
        told = (f"{item.object_name}\0{item.etag}\0{item.size}" for item in store.list_objects(bucket, recursive=True))
        lines = (line.split("\0") for line in sorted_keys(told, scratch=path.parent))
        return write_inventory(path, (ObjectEntry(key=key, size=int(size), sha256=etag) for key, etag, size in lines))
    except _STORE_ERRORS as problem:
        raise HarnessError(
            f"listing bucket {bucket}",
            seen=f"{type(problem).__name__}: {str(problem)[:500]}",
            remedy="see whether the store answers, and its log",
        ) from problem


def inventory_of_directory(root: Path, path: Path, *, workers: int) -> Inventory:
    """The inventory of a copy in a directory: keys are paths below ``root`` with slashes. Links are not followed.

    Raises:
        HarnessError: a file cannot be read, or its name is not UTF-8.
    """
    try:
        ordered = sorted_keys(_walk(root, ""), scratch=path.parent)
        return write_inventory(path, _in_order(functools.partial(_read_files, root), ordered, workers))
    except (OSError, UnicodeEncodeError) as problem:
        raise HarnessError(
            f"reading {root}", seen=f"{type(problem).__name__}: {problem}", remedy="see the directory's permissions"
        ) from problem


def compare_inventories(
    expected: Path,
    observed: Path,
    *,
    explained: Callable[[str], bool] | None = None,
    removed: Callable[[str], bool] = lambda key: False,
    describe: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Objects lost, altered, described differently or unexpected.

    Args:
        expected: inventory file of the backup.
        observed: inventory file taken after the restore.
        explained: whether a key that the backup did not hold is there for a known reason (a client wrote it);
            none: there is no such reason.
        removed: whether a key that the backup held is absent for a known reason (a client deleted it).
        describe: which of ``DESCRIPTIONS`` to compare; both inventories hold them.

    Raises:
        HarnessError: a file is absent, damaged or out of order.
    """
    lost, altered, unexpected, described = Cases(), Cases(), Cases(), Cases()
    for before, after in merged(read_inventory(expected), read_inventory(observed)):
        if before is None:
            assert after is not None
            if explained is None or not explained(after.key):
                unexpected.add(after.size, f"{after.key} ({after.size} bytes)")
        elif after is None:
            if removed(before.key):
                continue
            lost.add(before.size, f"{before.key} ({before.size} bytes)")
        elif (before.size, before.sha256) != (after.size, after.sha256):
            said = f"{before.size} bytes, now {after.size}" if before.size != after.size else "other bytes"
            altered.add(abs(before.size - after.size), f"{before.key} ({said})")
        else:
            for name in sorted(describe):
                was, now = getattr(before, name), getattr(after, name)
                if was != now:
                    described.add(0, f"{before.key}: {name} was {was!r}, is {now!r}")
    return [
        *lost.findings("OBJECT-LOST", "objects"),
        *altered.findings("OBJECT-ALTERED", "objects"),
        *described.findings("OBJECT-DESCRIPTION-ALTERED", "objects"),
        *unexpected.findings("OBJECT-UNEXPECTED", "objects"),
    ]


def merged(
    left: Iterator[ObjectEntry], right: Iterator[ObjectEntry]
) -> Iterator[tuple[ObjectEntry | None, ObjectEntry | None]]:
    """Pairs of entries of one key, with none on the side that lacks it; both sides in the order of their keys."""
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.key.encode() < other.key.encode()):
            yield one, None
            one = next(left, None)
        elif one is None or other.key.encode() < one.key.encode():
            yield None, other
            other = next(right, None)
        else:
            yield one, other
            one, other = next(left, None), next(right, None)


def _list_keys(store: minio.Minio, bucket: str) -> Iterator[str]:
    for item in store.list_objects(bucket, recursive=True):
        if item.object_name is not None:
            yield item.object_name


def _walk(root: Path, below: str) -> Iterator[str]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}"


def _in_order(
    read: Callable[[list[str]], list[ObjectEntry]], keys: Iterator[str], workers: int
) -> Iterator[ObjectEntry]:
    """What ``read`` gives for the keys, in their order, with a bounded number of them under way."""
    under_way: collections.deque[concurrent.futures.Future[list[ObjectEntry]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while batch := list(itertools.islice(keys, _BATCH)):
                under_way.append(pool.submit(read, batch))
                # Some slack, so that one large object does not hold up the others at once.
                if len(under_way) >= workers * 4:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:
            for waiting in under_way:
                waiting.cancel()


def _read_objects(
    store: minio.Minio, bucket: str, describe: frozenset[str], connections: Connections, keys: list[str]
) -> list[ObjectEntry]:
    entries = []
    for key in keys:
        answer = connections.get(store.get_presigned_url("GET", bucket, key))
        if answer.status == http.HTTPStatus.OK:
            described = _described(store, bucket, key, answer.headers, describe)
            entries.append(ObjectEntry(key=key, size=answer.size, sha256=answer.digest.hexdigest(), **described))
        elif answer.status != http.HTTPStatus.NOT_FOUND or b"NoSuchKey" not in answer.said:
            raise HarnessError(
                f"reading object {key} of bucket {bucket}",
                seen=f"status {answer.status}: {answer.said[:300].decode(errors='replace')}",
                remedy="see the store's log",
            )
    return entries


def _described(
    store: minio.Minio, bucket: str, key: str, headers: Mapping[str, str], describe: frozenset[str]
) -> dict[str, Any]:
    description: dict[str, Any] = {}
    if "content_type" in describe:
        description["content_type"] = headers.get("content-type")
    if "metadata" in describe:
        prefix = "x-amz-meta-"
        description["metadata"] = dict(
            sorted((name[len(prefix) :], value) for name, value in headers.items() if name.startswith(prefix))
        )
    if "tags" in describe:
        # Servers say with the object how many tags it has, and say nothing where it has none.
        tagged = headers.get("x-amz-tagging-count", "0") != "0"
        description["tags"] = dict(sorted((store.get_object_tags(bucket, key) or {}).items())) if tagged else {}
    return description


def _read_files(root: Path, keys: list[str]) -> list[ObjectEntry]:
    return [_read_file(root, key) for key in keys]


def _read_file(root: Path, key: str) -> ObjectEntry:
    digest, size = hashlib.sha256(), 0
    with (root / key).open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return ObjectEntry(key=key, size=size, sha256=digest.hexdigest())

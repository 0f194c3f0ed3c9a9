"""The bucket's own versions: nothing is copied, deletions and overwrites are undone where they happened."""

from __future__ import annotations

import concurrent.futures
import datetime
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import minio
import urllib3.exceptions
from minio.commonconfig import CopySource
from minio.error import MinioException, S3Error

from drills.contract import Job, Means
from fixtures.deployment import ObjectStore
from reports.records import HarnessError, utc_stamp

FILE: Final = "versions.json"
# A page lists its versions first and its delete markers after them.
PAGE: Final = 1000
STORE_ERRORS: Final = (MinioException, urllib3.exceptions.HTTPError, OSError)


class Versions:
    """See ``drills.contract.ObjectMethod`` and ``KeepsInBucket``.

    With ``job.until`` every key that had a version at that instant has it again: a delete marker on top is removed, an
    overwrite is covered by a copy of the version. Without, only the deletions since the first ``back_up`` are undone:
    which overwrites were meant cannot be known. A key that came after the instant is left; so are all versions.

    Stores tell times in whole seconds or milliseconds. What may have been written on either side of the instant counts
    as written after it if the key has an older version, and as written before it if it has none, so that nothing that
    was there is lost. The instant is the database's; both clocks must agree.
    """

    name = "versions"
    plain = False
    keeps_in_bucket = True

    def unavailable(self, means: Means) -> str:
        """See ``drills.contract.NeedsMeans``."""
        return "" if means.versioned_bucket else "the bucket keeps no versions: drill one whose object server does"

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:  # noqa: ARG002 - the contract's
        """Write down when the backup began, and when it was last called.

        Raises:
            HarnessError: the bucket keeps no versions.
        """
        called = utc_stamp()
        status = source.client().get_bucket_versioning(source.bucket).status
        if status != "Enabled":
            raise HarnessError(
                f"versioning of bucket {source.bucket}", seen=status or "never enabled", remedy="enable it"
            )
        target.mkdir(parents=True, exist_ok=True)
        since = _since(target) if (target / FILE).exists() else called
        (target / FILE).write_text(
            json.dumps({"bucket": source.bucket, "since": since, "until": called}) + "\n", "utf-8"
        )

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Make the versions current that are wanted.

        Raises:
            HarnessError: the store refused, or the backup does not say when it began.
        """
        since = _instant(_since(backup))
        until = _instant(job.until.time) if job.until else None
        client = target.client(connections=4 * job.jobs)

        def bring_back(history: Sequence[Any]) -> None:
            wanted = _deleted_since(history, since) if until is None else _at(history, until)
            if wanted is not None and not _latest(wanted):
                _make_current(client, target.bucket, history, wanted)

        try:
            listed = client.list_objects(target.bucket, recursive=True, include_version=True)
            with concurrent.futures.ThreadPoolExecutor(4 * job.jobs) as pool:
                under_way: deque[concurrent.futures.Future[None]] = deque()
                for history in _histories(listed):
                    under_way.append(pool.submit(bring_back, history))
                    if len(under_way) > PAGE:
                        under_way.popleft().result()
                for future in under_way:
                    future.result()
        except STORE_ERRORS as problem:
            raise HarnessError(
                f"versions of bucket {target.bucket}", seen=str(problem), remedy="see the store's message"
            ) from None


def _histories(entries: Iterable[Any]) -> Iterator[list[Any]]:
    """The versions and delete markers of each key. A key is whole once a page's worth of others has come after it."""
    waiting: dict[str, list[Any]] = {}
    last: dict[str, int] = {}
    for number, entry in enumerate(entries):
        waiting.setdefault(entry.object_name, []).append(entry)
        last[entry.object_name] = number
        while number - last[first := next(iter(waiting))] > PAGE:
            del last[first]
            yield waiting.pop(first)
    yield from waiting.values()


def _at(history: Sequence[Any], instant: datetime.datetime) -> Any | None:
    """The version that was current at the instant; none where the key was not there, or is newer."""
    versions = [entry for entry in history if not entry.is_delete_marker]
    earlier = [entry for entry in versions if entry.last_modified + _resolution(entry) <= instant]
    if not earlier:
        unsure = [entry for entry in versions if entry.last_modified - _resolution(entry) < instant]
        return unsure[-1] if unsure else None
    deleted = any(
        marker.last_modified + _resolution(marker) <= instant
        and (_latest(marker) or marker.last_modified > earlier[0].last_modified)
        for marker in history
        if marker.is_delete_marker
    )
    return None if deleted else earlier[0]


def _deleted_since(history: Sequence[Any], instant: datetime.datetime) -> Any | None:
    """The newest version where a delete marker that may be younger than the instant lies on top of it."""
    top = next((entry for entry in history if _latest(entry)), history[0])
    if not top.is_delete_marker or top.last_modified + _resolution(top) <= instant:
        return None
    return next((entry for entry in history if not entry.is_delete_marker), None)


def _make_current(client: minio.Minio, bucket: str, history: Sequence[Any], wanted: Any) -> None:
    versions = [entry for entry in history if not entry.is_delete_marker]
    if versions[0] is wanted:
        for marker in history:
            if marker.is_delete_marker and marker.last_modified >= wanted.last_modified:
                client.remove_object(bucket, wanted.object_name, marker.version_id)
        # OpenStack Swift does not put a version back under a key that is not plain ASCII.
        if _is_there(client, bucket, wanted.object_name):
            return
    client.copy_object(bucket, wanted.object_name, CopySource(bucket, wanted.object_name, version_id=wanted.version_id))


def _is_there(client: minio.Minio, bucket: str, key: str) -> bool:
    try:
        client.stat_object(bucket, key)
    except S3Error as problem:
        if problem.code != "NoSuchKey":
            raise
        return False
    return True


def _latest(entry: Any) -> bool:
    """Whether it lies on top; the client hands the store's word on as text."""
    return str(entry.is_latest).lower() == "true"


def _resolution(entry: Any) -> datetime.timedelta:
    """How far the true time may lie from the one told: stores cut it off or round it, to seconds or milliseconds."""
    return datetime.timedelta(milliseconds=1 if entry.last_modified.microsecond else 1000)


def _since(backup: Path) -> str:
    try:
        value = json.loads((backup / FILE).read_text("utf-8"))["since"]
        _instant(value)
    except (OSError, ValueError, LookupError, TypeError) as problem:
        raise HarnessError(f"backup {backup / FILE}", seen=str(problem), remedy="fetch the backup again") from None
    return str(value)


def _instant(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


METHOD: Final = Versions()

"""The heartbeat that ``drills/heartbeat.py`` writes: what of it is in a database and in a bucket, and what is wrong.

A beat is one row and one object with the same instant, number and token. The instant is the database's own and names
the beat: it stands in the row, and in the object's key.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import minio.error
import psycopg
import urllib3.exceptions

from checks.differences import summed_up
from checks.snapshot import telling
from fixtures.deployment import ObjectStore
from reports.records import NANOSECONDS, Finding, HarnessError

SCHEMA: Final = "enprivacy_heartbeat"
TABLE: Final = f"{SCHEMA}.beats"
PREFIX: Final = "enprivacy-heartbeat/"
STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
KEY: Final = re.compile(re.escape(PREFIX) + r"(\d{8}T\d{6}\.\d{6}Z)\.json")
# Two days of a beat a minute. Of more only the keys are read, which tell everything but number and token.
MOST_READ: Final = 3_000
LONGEST_BODY: Final = 4_096
# The writer forgets what is two days old, and may do so while it is copied: there, one that is missing is no hole.
JUDGED_NS: Final = 86_400 * NANOSECONDS
READERS: Final = 8
# As S3 says it, and as some servers do, whose answer the client does not take for S3's.
ABSENT: Final = re.compile(r"\bNoSuchKey\b|\bNoSuchObject\b")
_ROWS: Final = f"SELECT n, (extract(epoch FROM at) * 1000000)::bigint, token FROM {TABLE} ORDER BY at, n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beat:
    """One beat. ``at_ns``: of the database's clock, in nanoseconds since 1970, whole microseconds.

    ``n`` and ``token`` are None and empty where only the object's key was read.
    """

    at_ns: int
    n: int | None = None
    token: str = ""

    @property
    def text(self) -> str:
        """Its instant for people, RFC 3339 in UTC."""
        return _instant(self.at_ns).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beats:
    """What is there of a heartbeat, in one store: by instant, in order. There may be none."""

    by_instant: Mapping[int, Beat]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.by_instant)

    @property
    def first(self) -> datetime.datetime | None:
        """The instant of the oldest, in UTC; None where there is none."""
        return _instant(min(self.by_instant)) if self.by_instant else None

    @property
    def last(self) -> datetime.datetime | None:
        """The instant of the newest, in UTC; None where there is none."""
        return _instant(max(self.by_instant)) if self.by_instant else None

    def holes(self, interval_ns: int) -> list[tuple[Beat, Beat]]:
        """The neighbours that are further apart than one interval and a half."""
        pairs = itertools.pairwise(self.by_instant.values())
        return [(one, next_) for one, next_ in pairs if 2 * (next_.at_ns - one.at_ns) > 3 * interval_ns]


def beats_of(beats: Sequence[Beat]) -> Beats:
    """The beats in the order of their instants."""
    return Beats(by_instant={beat.at_ns: beat for beat in sorted(beats, key=lambda beat: beat.at_ns)})


def key_of(at_ns: int) -> str:
    """The key of a beat's object."""
    return f"{PREFIX}{_instant(at_ns):{STAMP}}.json"


def instant_of(key: str) -> int | None:
    """The instant that an object's key tells, in nanoseconds since 1970; None where it is no beat's."""
    match = KEY.fullmatch(key)
    if match is None:
        return None
    try:
        stamp = datetime.datetime.strptime(match[1], STAMP).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    return ((stamp - _EPOCH) // datetime.timedelta(microseconds=1)) * 1000


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _instant(at_ns: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=at_ns // 1000)


def read_beats(connection: psycopg.Connection[Any]) -> Beats | None:
    """The rows of a database; None where the heartbeat's table is not there.

    Raises:
        HarnessError: the table may not be read, or is another's.
    """
    with telling(f"reading {TABLE}"):
        there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (TABLE,)).fetchone()
        if there != (True,):
            return None
        rows = connection.execute(_ROWS)
        return beats_of([Beat(at_ns=at * 1000, n=n, token=token) for n, at, token in rows])


def read_object_beats(store: ObjectStore) -> Beats | None:
    """The objects of a bucket; None where there is none below the heartbeat's prefix.

    Of the newest three thousand number and token are read, of older ones the key alone.

    Raises:
        HarnessError: the bucket may not be listed or read, or did not answer.
    """
    client = store.client(connections=READERS)

    def read(at_ns: int) -> Beat | None:
        try:
            answer = client.get_object(store.bucket, key_of(at_ns))
        except minio.error.MinioException as problem:
            if ABSENT.search(str(problem)):  # its writer forgot it just now
                return None
            raise
        try:
            body = answer.read(LONGEST_BODY)
        finally:
            answer.close()
            answer.release_conn()
        return _parsed(at_ns, body)

    try:
        listed = client.list_objects(store.bucket, prefix=PREFIX, recursive=True)
        instants = sorted(at for each in listed if (at := instant_of(each.object_name or "")) is not None)
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            newest = [beat for beat in pool.map(read, instants[-MOST_READ:]) if beat is not None]
    except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError) as problem:
        raise HarnessError(
            f"the heartbeat's objects in {store.bucket} at {store.endpoint}",
            seen=f"{type(problem).__name__}: {str(problem)[:300]}",
            remedy="see that it is up, and that these keys may list and read there",
        ) from None
    return beats_of([*(Beat(at_ns=at) for at in instants[:-MOST_READ]), *newest]) if instants else None


def _parsed(at_ns: int, body: bytes) -> Beat:
    """A beat as its object tells it; one that is not readable has a token that no row has."""
    try:
        said = json.loads(body)
        return Beat(at_ns=at_ns, n=int(said["n"]), token=str(said["token"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Beat(at_ns=at_ns, n=0, token="(unreadable)")  # noqa: S106 - says that there is none


def body_of(beat: Beat) -> bytes:
    """What a beat's object holds."""
    return json.dumps({"at": beat.text, "n": beat.n, "token": beat.token}).encode()


def judge_beats(restored: Beats | None, source: Beats | None, interval_ns: int) -> tuple[list[Finding], dict[str, int]]:
    """What is wrong with the beats of a restored store, held against those of the store that was backed up.

    What the source lacks itself (its writer was down) is no fault of the restore: what is missing between two restored
    beats must be in the source to be a hole, and be of the last day before the newest restored one.

    Args:
        restored: of the restored store; ``source``: of the same kind of store, rows to rows, objects to objects. What
            either lacks at its ends is not compared: the source forgets old beats and goes on writing new ones.

    Returns:
        Findings, and counts: ``beats`` restored, ``compared`` ones that both have, ``lost`` ones after the last
        restored, ``missed`` ones that were never written, reckoned from the holes of the restored run and the interval.
    """
    if restored is None or not restored.by_instant:
        wanted = source.count if source is not None else 0
        seen = f"none is there; the source has {wanted:,}"
        counts = {"beats": 0, "compared": 0, "lost": wanted, "missed": 0}
        return [Finding(code="HEARTBEAT-ABSENT", seen=seen)] if wanted else [], counts
    there = source.by_instant if source is not None else {}
    first, last = min(restored.by_instant), max(restored.by_instant)
    newest = restored.by_instant[last].text
    within = [beat for at, beat in there.items() if first <= at <= last]
    gone = [beat for beat in within if beat.at_ns not in restored.by_instant and beat.at_ns > last - JUDGED_NS]
    both = [beat for beat in within if beat.at_ns in restored.by_instant]
    holes = restored.holes(interval_ns)
    findings = [
        *summed_up("HEARTBEAT-HOLE", "beat", [
            (0, f"{beat.text} is in the source and not restored, though the later {newest} is")
            for beat in gone
        ]),
        *_altered(restored, both, "the source's"),
        *_strangers(restored, there),
    ]  # fmt: skip
    missed = sum(round((after.at_ns - before.at_ns) / interval_ns) - 1 for before, after in holes)
    counts = {
        "beats": restored.count,
        "compared": len(both),
        "lost": sum(at > last for at in there),
        "missed": max(0, missed - len(gone)),
    }
    return findings, counts


def judge_pairs(rows: Beats | None, objects: Beats | None) -> tuple[list[Finding], dict[str, int]]:
    """Whether the row and the object of each beat of one deployment say the same.

    A beat that is in one only is not judged: either store may be restored to an earlier instant, and forgets in its
    own time.

    Returns:
        Findings, and ``pairs``: how many were compared.
    """
    if rows is None or objects is None:
        return [], {"pairs": 0}
    both = [beat for at, beat in rows.by_instant.items() if at in objects.by_instant]
    return _altered(objects, both, "its row's"), {"pairs": len(both)}


def _altered(held: Beats, against: Sequence[Beat], whose: str) -> list[Finding]:
    """Beats that do not say what the same beat says elsewhere; what was not read is not judged."""
    pairs = [(held.by_instant[beat.at_ns], beat) for beat in against]
    read = [(one, other) for one, other in pairs if one.n is not None and other.n is not None]
    return summed_up("HEARTBEAT-ALTERED", "beat", [
        (0, f"{one.text}: number {one.n} and its token are not {whose}, number {other.n}")
        for one, other in read if (one.n, one.token) != (other.n, other.token)
    ])  # fmt: skip


def _strangers(restored: Beats, source: Mapping[int, Beat]) -> list[Finding]:
    """Restored beats that the source never wrote, between its first and its last."""
    if not source:
        return []
    first, last = min(source), max(source)
    return summed_up("HEARTBEAT-ALTERED", "beat", [
        (0, f"{beat.text}: the source has no beat of that instant")
        for at, beat in restored.by_instant.items() if first <= at <= last and at not in source
    ])  # fmt: skip

"""Continuity of the audit log across a restore: what the store lost, what the stream lacks, what is in neither.

The lines of the stream before the strike are what an operator's log platform holds; the store is the restored database.
Together they are the whole trail. What the store lost is what a restore costs, and is counted; what neither tells of is
lost. ``check_continuity``, which is pure, says so; the others read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import psycopg

from checks.differences import summed_up
from fixtures.http_steps import at
from fixtures.log_source import LogSource
from reports.records import GENESIS, Finding

STREAM: Final = "stream"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedEvent:
    """An audit event as a line told of it. ``writer`` names the process; ``prev_hash`` is empty where none is given."""

    id: str
    type: str
    target: str
    time: str
    writer: str
    seq: int
    prev_hash: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """An audit event as the database holds it."""

    type: str
    target: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continuity:
    """What became of the trail: counts for ``looked_at``, and what was found."""

    counts: Mapping[str, int]
    findings: list[Finding]


def streamed_event(line: bytes, names: Mapping[str, str]) -> StreamedEvent | None:
    """The event that a line tells of; None of any other line.

    Args:
        names: the product's name of a field by ours, where they differ (``logs.fields`` of the profile).
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None

    def of(name: str) -> Any:
        return at(row, names.get(name, name))

    if not isinstance(row, dict) or not of("event_id") or not of("event_type"):
        return None
    seq = of("seq")
    return StreamedEvent(
        id=str(of("event_id")), type=str(of("event_type")), target=str(of("target.id")), time=str(of("time")),
        writer="/".join(str(of(f"service.{part}")) for part in ("name", "host", "instance")),
        seq=seq if isinstance(seq, int) else 0, prev_hash=str(of("prev_hash") or ""),
    )  # fmt: skip


def read_stream(sources: Iterable[LogSource], names: Mapping[str, str]) -> Iterator[StreamedEvent]:
    """The audit events in the whole lines of logs that were opened before the strike, and are read after it.

    A log that is open can be read to its end also after its file was removed.
    """
    for source in sources:
        rest = b""
        for chunk in source.read_from(0):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if event := streamed_event(line, names):
                    yield event


def stored_events(
    connection: psycopg.Connection[Any], query: str, *, since: str, until: str = "infinity"
) -> dict[str, StoredEvent]:
    """The events that a database holds, by their ids.

    Args:
        query: the deployment's ``audit_events_query``.
        since: a time with offset: that of the first event on the stream. What was written before is nobody's business.
        until: a time with offset: before the last instants, whose lines may still be on their way.
    """
    text = query.strip().rstrip(";").replace("%", "%%")
    wanted = f"SELECT id, type, target FROM ({text}\n) events WHERE time BETWEEN %s::timestamptz AND %s::timestamptz"
    rows = connection.execute(wanted.encode(), (since, until))
    return {row[0]: StoredEvent(type=row[1], target=row[2]) for row in rows}


def check_continuity(
    *,
    before: Iterable[StreamedEvent],
    after: Iterable[StreamedEvent],
    stored: Mapping[str, StoredEvent],
    stored_before: Mapping[str, StoredEvent],
    acknowledged: Mapping[str, str],
) -> Continuity:
    """Hold stream and restored store against each other.

    Args:
        before: the stream's events up to the strike.
        after: the stream's events since the services were started again.
        stored: what the restored database holds since the stream began, by the events' ids.
        stored_before: what the database held of the same time before the strike; empty where nobody looked.
        acknowledged: actions that a client knows to have happened while the stream was read: what each is, by the id of
            its target (the uploads of the ledger, by their documents' ids).
    """
    streamed = {event.id: event for event in before}
    targets = {event.target for event in streamed.values()} | {event.target for event in stored.values()}
    lost = [event for event in streamed.values() if event.id not in stored]
    unstreamed = {id_: event for id_, event in {**stored_before, **stored}.items() if id_ not in streamed}
    untold = {id_: said for id_, said in acknowledged.items() if id_ not in targets}
    known = {event.writer for event in streamed.values()}
    findings = [
        *summed_up(
            "AUDIT-STREAM-LACKS", STREAM, [(0, _told(id_, event)) for id_, event in unstreamed.items() if id_ in stored]
        ),
        *summed_up(
            "AUDIT-TRAIL-LOST", "stream and store",
            [(0, _told(id_, event)) for id_, event in unstreamed.items() if id_ not in stored]
            + [(0, f"{said} of {target}, of which neither tells") for target, said in untold.items()],
        ),
        *summed_up("AUDIT-CHAIN-NOT-ANCHORED", STREAM, [(0, said) for said in _badly_anchored(after, known)]),
    ]  # fmt: skip
    counts = {
        "events on the stream": len(streamed), "of them in the store": len(streamed) - len(lost),
        "of them lost in the store": len(lost), "actions acknowledged": len(acknowledged),
        "events before the strike": len(stored_before),
    }  # fmt: skip
    return Continuity(counts=counts, findings=findings)


def _badly_anchored(after: Iterable[StreamedEvent], known: Collection[str]) -> Iterable[str]:
    """New processes are new writers: each begins at 1 with a chain of its own, so that nobody takes it for the old."""
    met: set[str] = set()
    for event in after:
        if event.writer in met:
            continue
        met.add(event.writer)
        if event.writer in known:
            yield f"{event.writer} goes on under the name of the writer before the restore, with seq {event.seq}"
        elif event.seq != 1 or event.prev_hash not in ("", GENESIS):
            yield f"{event.writer} begins with seq {event.seq} and prev_hash {event.prev_hash[:12] or 'absent'}…"


def _told(event_id: str, event: StoredEvent) -> str:
    return f"{event.type} of {event.target}, event {event_id}"

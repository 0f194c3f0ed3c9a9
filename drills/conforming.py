"""What is checked of a restored deployment beside its data: its audit trail, and whatever conformance only looks at."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from checks.checked import checked
from checks.conformance.registry import every_check
from checks.conformance.subject import Subject
from checks.continuity import Continuity, StoredEvent, StreamedEvent, check_continuity, read_stream, stored_events
from drills.schema_queries import audit_events_query
from drills.site import Site
from fixtures.deployment import NotGiven
from fixtures.log_source import LogSource, open_source
from reports.records import NANOSECONDS, utc_now

# An event is stored before its line is written; one of the last second may not have come to that.
SETTLED: Final = timedelta(seconds=1)


@dataclasses.dataclass(kw_only=True)
class Trail:
    """The audit trail across a strike: what the logs told, what the database held of it then and holds now.

    ``opened_ns`` is when the logs were opened, just before the strike; ``acknowledged`` are uploads that the product
    acknowledged while they told, by the documents' ids. ``absent`` says what nobody gave, where there is no trail.
    """

    sources: Sequence[LogSource] = ()
    stored_before: Mapping[str, StoredEvent] = dataclasses.field(default_factory=dict)
    before: Sequence[StreamedEvent] = ()
    after: Sequence[StreamedEvent] = ()
    stored: Mapping[str, StoredEvent] = dataclasses.field(default_factory=dict)
    opened_ns: int = 0
    acknowledged: Mapping[str, str] = dataclasses.field(default_factory=dict)
    absent: NotGiven | None = None


def open_trail(site: Site, held: contextlib.ExitStack) -> Trail:
    """Just before the strike: hold the logs open, to be read after it, and see what the database holds."""
    deployment = site.deployment
    try:
        query = audit_events_query(deployment)
        sources = [
            held.enter_context(open_source(site.profile, deployment, service.name)) for service in deployment.services
        ]
    except NotGiven as absent:
        return Trail(absent=absent)
    opened_ns = site.record.clock.now()
    with deployment.database.connect() as connection:
        stored = stored_events(connection, query, since=_since(site, sources), until=str(utc_now() - SETTLED))
    return Trail(sources=sources, stored_before=stored, opened_ns=opened_ns)


def _since(site: Site, sources: Sequence[LogSource]) -> str:
    """The time of the first event on the stream; now, where there is none."""
    return min((event.time for event in read_stream(sources, site.profile.logs.fields)), default=str(utc_now()))


def verify_trail(site: Site, trail: Trail, restored: psycopg.Connection[Any]) -> None:
    """Count what of the trail the store lost; find what is in neither store nor stream, and who did not begin anew."""
    deployment, names = site.deployment, site.profile.logs.fields
    optional = trail.absent is not None
    with checked(site.journal, site.id, "audit trail", optional=optional) as check, contextlib.ExitStack() as held:
        if trail.absent is not None:
            raise trail.absent
        trail.before = list(read_stream(trail.sources, names))
        since = min((event.time for event in trail.before), default=str(utc_now()))
        trail.stored = stored_events(restored, audit_events_query(deployment), since=since)
        trail.acknowledged = _acknowledged(site, trail, since)
        opened = [
            held.enter_context(open_source(site.profile, deployment, service.name)) for service in deployment.services
        ]
        trail.after = list(read_stream(opened, names))
        continuity = judge_trail(trail)
        check.looked_at, check.findings = dict(continuity.counts), continuity.findings


def _acknowledged(site: Site, trail: Trail, since: str) -> dict[str, str]:
    """The uploads that were made after the first event on the stream and acknowledged well before the strike.

    None where the ledger does not hold the product's own ids.
    """
    if not site.load.lists:
        return {}
    passed = utc_now() - datetime.fromisoformat(since)
    first_ns = site.record.clock.now() - int(passed.total_seconds() * NANOSECONDS)
    settled_ns = trail.opened_ns - int(SETTLED.total_seconds() * NANOSECONDS)
    uploads = site.load.uploads(since=first_ns, until=settled_ns)
    return {document: f"upload {identity}" for identity, document in uploads.items()}


def judge_trail(trail: Trail) -> Continuity:
    """What became of the trail."""
    return check_continuity(
        before=trail.before,
        after=trail.after,
        stored=trail.stored,
        stored_before=trail.stored_before,
        acknowledged=trail.acknowledged,
    )


def verify_conformance(site: Site) -> None:
    """Every conformance check that only looks, at what was restored."""
    subject = Subject(
        deployment=site.deployment,
        profile=site.profile,
        directory=site.directory,
        clock=site.record.clock,
        redactor=site.record.redactor,
    )
    for conformance in every_check().values():
        if conformance.after_restore:
            with checked(site.journal, site.id, conformance.id, optional=True) as check:
                conformance.look(subject, check)

"""What is checked of a restored deployment beside its data: its audit trail, and whatever conformance only looks at."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import psycopg

from checks.checked import checked
from checks.conformance.registry import every_check
from checks.conformance.subject import Subject
from checks.continuity import Continuity, StoredEvent, StreamedEvent, check_continuity, read_stream, stored_events
from drills.site import Site
from fixtures.log_source import LogSource, open_source
from reports.records import utc_now

# An event is stored before its line is written; one of the last second may not have come to that.
SETTLED: Final = timedelta(seconds=1)


@dataclasses.dataclass(kw_only=True)
class Trail:
    """The audit trail across a strike: what the logs told, what the database held of it then and holds now."""

    sources: Sequence[LogSource] = ()
    stored_before: Mapping[str, StoredEvent] = dataclasses.field(default_factory=dict)
    before: Sequence[StreamedEvent] = ()
    after: Sequence[StreamedEvent] = ()
    stored: Mapping[str, StoredEvent] = dataclasses.field(default_factory=dict)


def open_trail(site: Site, held: contextlib.ExitStack) -> Trail:
    """Just before the strike: hold the logs open, to be read after it, and see what the database holds."""
    deployment = site.deployment
    sources = [
        held.enter_context(open_source(site.profile, deployment, service.name)) for service in deployment.services
    ]
    with deployment.database.connect() as connection:
        stored = stored_events(
            connection, deployment.audit_events_query, since=_since(site, sources), until=str(utc_now() - SETTLED)
        )
    return Trail(sources=sources, stored_before=stored)


def _since(site: Site, sources: Sequence[LogSource]) -> str:
    """The time of the first event on the stream; now, where there is none."""
    return min((event.time for event in read_stream(sources, site.profile.logs.fields)), default=str(utc_now()))


def verify_trail(site: Site, trail: Trail, restored: psycopg.Connection[Any]) -> None:
    """Count what of the trail the store lost; find what is in neither store nor stream, and who did not begin anew."""
    deployment, names = site.deployment, site.profile.logs.fields
    with checked(site.journal, site.id, "audit trail") as check, contextlib.ExitStack() as held:
        trail.before = list(read_stream(trail.sources, names))
        since = min((event.time for event in trail.before), default=str(utc_now()))
        trail.stored = stored_events(restored, deployment.audit_events_query, since=since)
        opened = [
            held.enter_context(open_source(site.profile, deployment, service.name)) for service in deployment.services
        ]
        trail.after = list(read_stream(opened, names))
        continuity = judge_trail(trail)
        check.looked_at, check.findings = dict(continuity.counts), continuity.findings


def judge_trail(trail: Trail) -> Continuity:
    """What became of the trail."""
    return check_continuity(
        before=trail.before,
        after=trail.after,
        stored=trail.stored,
        stored_before=trail.stored_before,
        acknowledged={},
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

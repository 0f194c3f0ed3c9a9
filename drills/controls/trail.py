"""The audit trail with something taken from it, as it stood across the strike of this drill."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from checks.continuity import StoredEvent
from drills.conforming import Trail, judge_trail
from drills.controls.bench import Bench, Control, Seen

UNTOLD = {"00000000-0000-4000-8000-000000000000": StoredEvent(type="user.login", target="web")}
UNHEARD = {"00000000-0000-4000-8000-000000000001": "upload"}


def controls(bench: Bench) -> Iterator[Control]:
    """An event of which neither store nor stream tells any more, and a writer that goes on as if nothing had been."""
    trail = bench.outcome.trail
    yield Control(name="healthy twin of the audit trail", breaks="nothing", look=lambda: _judged(trail))
    yield Control(
        name="event in neither store nor stream",
        breaks="an event that only the database held before the strike, and that no line told of",
        expects=("AUDIT-TRAIL-LOST",),
        look=lambda: _judged(dataclasses.replace(trail, stored_before={**trail.stored_before, **UNTOLD})),
    )
    yield Control(
        name="acknowledged upload in neither",
        breaks="an upload that its user was told of, and nobody else",
        expects=("AUDIT-TRAIL-LOST",),
        look=lambda: _judged(dataclasses.replace(trail, acknowledged={**trail.acknowledged, **UNHEARD})),
    )
    yield Control(
        name="log goes on after the restore",
        breaks="the first line of each writer after the restore left out",
        expects=("AUDIT-CHAIN-NOT-ANCHORED",),
        look=lambda: _judged(dataclasses.replace(trail, after=[event for event in trail.after if event.seq != 1])),
    )


def _judged(trail: Trail) -> Seen:
    if trail.absent is not None:
        raise trail.absent
    told = f"{len(trail.before)} events before the strike, {len(trail.after)} after it"
    return Seen(victim=told, findings=judge_trail(trail).findings)

"""The part of the evidence that is about a deployment itself, not about a drill: its checks, and the proof of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from reports import measures
from reports.measures import Event
from reports.records import Verdict

_HEADER: Final = ("deployment", "architecture", "provider", "stand_in", "tools")


def assess_conformance(events: Sequence[Event]) -> dict[str, Any] | None:
    """Checks, findings and controls that belong to no drill; ``None`` where no deployment was opened for them.

    The verdict is the worst of its parts. Checks that had nothing to look at are listed with their reason and change it
    no more than a method that cannot be drilled here, unless all of them are such. A deployment that was opened and
    never checked is an ``error``.
    """
    ours = [event for event in events if event["kind"] in ("check", "control") and "drill" not in event]
    opened = measures.last_of(events, "conformance.opened")
    if opened is None:
        return None
    rows, (controls, uncaught) = measures.checks(ours), measures.controls(ours)
    for event, row in zip(measures.of_kind(ours, "check"), rows, strict=True):
        row |= {key: event[key] for key in ("title", "guide")} | {"supports": list(event["supports"])}
    findings = [*measures.check_findings(ours), *(each.as_record() for each in uncaught)]
    judged = [Verdict(row["verdict"]) for row in (*rows, *controls["rows"])]
    judged = [verdict for verdict in judged if verdict is not Verdict.NOT_TESTED] or [Verdict.NOT_TESTED]
    judged += [] if rows else [Verdict.ERROR]
    judged += [Verdict.FAILED for each in findings if each["severity"] == "failure"]
    return {
        "verdict": Verdict.worst(judged).value,
        **{key: opened[key] for key in _HEADER},
        "checks": rows,
        "findings": findings,
        "controls": controls,
        "not_tested": [remark for row in rows for remark in row["not_tested"]],
    }

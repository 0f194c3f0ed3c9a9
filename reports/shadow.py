"""The assessment of a shadow restore: nothing was struck, so time runs from where recovery began. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from reports import measures
from reports.accounting import Outage
from reports.measures import Event, last_of, of_kind
from reports.records import Verdict

LEVEL: Final = "shadow"
_HEADER: Final = ("drill", "level", "architecture", "provider", "stand_in", "disaster", "methods", "tools", "scale")
_BACKUP: Final = ("store", "label", "form", "instant", "known_by", "taken", "bytes")
_POINT: Final = ("channel", "basis", "instant_utc", "loss_ns", "resolution_ns")


def assess_shadow(
    events: Sequence[Event], remarks: Callable[[Sequence[Event]], list[dict[str, str]]]
) -> dict[str, Any]:
    """One shadow restore's figures, findings and verdict, in the form of a drill's part of ``evidence.json``.

    Args:
        events: the drill's own, the first of which is ``drill.opened``.
        remarks: what of events was not tested.
    """
    opened, closed = next(each for each in events if each["kind"] == "drill.opened"), last_of(events, "drill.closed")
    began, point = last_of(events, "shadow.began"), last_of(events, "shadow.point")
    recovered = measures.recovery_time(events, began["at_ns"] if began else None, Outage())
    # A backup that could not be restored, or a copy that did not do its business, is proven to be bad.
    failed = closed is not None and _failed(closed)
    due = failed or (began and closed and measures.recovery_was_due(events))
    channels = [{key: each[key] for key in _POINT} for each in point["channels"]] if point else []
    worst = _worst(channels)
    achieved_ns = worst["loss_ns"] if worst else None
    resolution_ns = max((each["resolution_ns"] for each in channels), default=0)
    rto, too_long = measures.judge("rto", opened["objectives"]["rto"], recovered["achieved_ns"], lower_bound=False,
                                   unmeasured=Verdict.FAILED if due else Verdict.ERROR)  # fmt: skip
    rpo, too_much = measures.judge("rpo", opened["objectives"]["rpo"], achieved_ns, lower_bound=False,
                                   unmeasured=Verdict.FAILED if failed else Verdict.ERROR)  # fmt: skip
    checks, (controls, uncaught) = measures.checks(events), measures.controls(events)
    findings = measures.check_findings(events) + [each.as_record() for each in [*too_long, *too_much, *uncaught]]
    reasons = [*_reasons(events, closed, began, checks, controls), *measures.unmeasured(rto, rpo)]
    judged = [verdict for verdict, _ in reasons]
    judged += [Verdict(row["verdict"]) for row in [*checks, *controls["rows"]]]
    judged += [Verdict.FAILED for each in findings if each["severity"] == "failure"]
    phases = measures.phases(events)
    return {
        **{key: opened[key] for key in _HEADER},
        "deployment": dict(opened.get("deployment", {})),
        "plan": None,
        "verdict": Verdict.worst(judged).value,
        "reasons": [text for _, text in reasons],
        "closed": closed is not None,
        "objectives": [rto, rpo],
        "recovery_time": {**recovered, "basis": opened["recovery_basis"]},
        "recovery_point": {
            "achieved_ns": achieved_ns,
            "lower_bound": False,
            "worst_channel": worst["channel"] if worst else "",
            "basis": worst["basis"] if worst else "nothing tells how far back it goes",
            "resolution_ns": resolution_ns,
            "channels": [],
        },
        "verification_time_ns": next((row["duration_ns"] for row in phases if row["phase"] == "verify"), None),
        "phases": phases,
        "strike_proofs": [],
        "backup": None,
        "shadow": {
            "backups": [{key: event[key] for key in _BACKUP} for event in of_kind(events, "shadow.fetched")],
            "points": channels,
            "began_utc": point["began_utc"] if point else "",
        },
        "checks": checks,
        "findings": findings,
        "controls": controls,
        "not_tested": [*(remark for row in checks for remark in row["not_tested"]), *remarks(events)],
    }


def _worst(channels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The store that goes furthest back; None where that of one is not known, for it may go further."""
    if not channels or any(each["loss_ns"] is None for each in channels):
        return None
    return max(channels, key=lambda each: int(each["loss_ns"]))


def _reasons(
    events: Sequence[Event], closed: Event | None, began: Event | None, checks: Sequence[Mapping[str, Any]],
    controls: Mapping[str, Any],
) -> Iterator[tuple[Verdict, str]]:  # fmt: skip
    """Why it does not pass as a whole, apart from its findings."""
    yield from measures.endings(events, closed)
    if began is None:
        yield Verdict.ERROR, "no backup was restored"
    # What was to follow a failure did not run, and proves nothing either way.
    yield from measures.unproven(checks, controls, due=closed is None or not _failed(closed))


def _failed(closed: Event) -> bool:
    return bool(closed["outcome"] == "failed")

"""The assessment of an upgrade's rehearsal: what came of it on a restored copy, how long the way back took. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from reports import measures
from reports.accounting import Outage
from reports.measures import Event, last_of, of_kind
from reports.records import Verdict

_HEADER: Final = ("drill", "deployment", "stand_in", "old", "new", "commands", "basis")
_CELL: Final = ("data", "services", "required", "works", "seen")
_TIME: Final = ("achieved_ns", "lower_ns", "uncertainty_ns")


def assess_rehearsal(
    events: Sequence[Event], remarks: Callable[[Sequence[Event]], list[dict[str, str]]]
) -> dict[str, Any] | None:
    """The rehearsal's part of ``evidence.json``; ``None`` where none was opened.

    The upgrade's time runs from the start of its first command to the first business transaction of the new version,
    the way back from the start of its restore to the first one of the old version, which is held against the objective.

    Args:
        remarks: what of events was not tested.
    """
    opened = last_of(events, "rehearsal.opened")
    if opened is None:
        return None
    ours = [event for event in events if event.get("drill") == opened["drill"]]
    closed = last_of(ours, "rehearsal.closed")
    began, back = last_of(ours, "upgrade.began"), last_of(ours, "rollback.began")
    until = ours.index(back) if back else len(ours)
    upgraded = measures.recovery_time(ours[:until], began["at_ns"] if began else None, Outage())
    returned = measures.recovery_time(ours, back["at_ns"] if back else None, Outage())
    checks, (controls, uncaught) = measures.checks(ours), measures.controls(ours)
    objective, too_long = measures.judge("rto", opened["objective"], returned["achieved_ns"], lower_bound=False,
                                         unmeasured=Verdict.FAILED if back else Verdict.ERROR)  # fmt: skip
    findings = measures.check_findings(ours) + [each.as_record() for each in [*too_long, *uncaught]]
    reasons = [*_reasons(ours, closed, back, checks, controls)]
    reasons += measures.unmeasured(objective) if back else []
    judged = [verdict for verdict, _ in reasons]
    # A check that had nothing to look at is a remark: the copy may hold no such thing.
    judged += [Verdict(row["verdict"]) for row in [*checks, *controls["rows"]]
               if row["verdict"] != Verdict.NOT_TESTED]  # fmt: skip
    judged += [Verdict.FAILED for each in findings if each["severity"] == "failure"]
    return {
        **{key: opened[key] for key in _HEADER},
        "verdict": Verdict.worst(judged).value,
        "reasons": [text for _, text in reasons],
        "closed": closed is not None,
        "upgrade_time": {key: upgraded[key] for key in _TIME},
        "rollback_time": {key: returned[key] for key in _TIME},
        "objective": objective,
        "matrix": [{key: event[key] for key in _CELL} for event in of_kind(ours, "restored_into")],
        "phases": measures.phases(ours),
        "checks": checks,
        "findings": findings,
        "controls": controls,
        "not_tested": [*(remark for row in checks for remark in row["not_tested"]), *remarks(ours)],
    }


def _reasons(
    events: Sequence[Event], closed: Event | None, back: Event | None, checks: Sequence[Mapping[str, Any]],
    controls: Mapping[str, Any],
) -> Iterator[tuple[Verdict, str]]:  # fmt: skip
    """Why it does not pass as a whole, apart from its findings."""
    if closed is None:
        yield Verdict.ERROR, "the rehearsal was opened and never closed: aborted"
    elif closed["outcome"] != "done":
        verdict = Verdict.FAILED if closed["outcome"] == "failed" else Verdict.ERROR
        yield verdict, measures.ending(closed, events).replace("the drill", "the rehearsal", 1)
    if back is None:
        yield Verdict.ERROR, "the way back was not tried"
    for verdict, reason in measures.unproven(checks, controls):
        if verdict is not Verdict.NOT_TESTED:
            yield verdict, reason
    for event in of_kind(events, "restored_into"):
        if event["required"] and not event["works"]:
            yield Verdict.FAILED, f"{event['data']} under services {event['services']} does not work: {event['seen']}"

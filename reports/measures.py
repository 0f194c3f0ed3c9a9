"""Phases, recovery time and objectives of one drill, from its journal events. Pure; times in nanoseconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from reports.accounting import Outage
from reports.records import Finding, Severity, Verdict, format_duration

Event = Mapping[str, Any]
INTERRUPTED: Final = "interrupted"  # what ``records.Journal.phase`` says of a phase that no error ended
PLANTED: Final = "planted by the disaster: "
_EVENT_FIELDS = frozenset({"n", "t", "utc", "kind", "prev", "hash", "drill", "phase", "outcome", "error"})


def of_kind(events: Iterable[Event], kind: str) -> list[Event]:
    """The events of one kind, in order."""
    return [event for event in events if event["kind"] == kind]


def last_of(events: Iterable[Event], kind: str) -> Event | None:
    """The last event of one kind, if there is any."""
    return next(iter(reversed(of_kind(events, kind))), None)


def gone_ns(events: Iterable[Event]) -> int | None:
    """The instant since which no client was served, until recovery; ``None`` where nothing was struck.

    Clients were shut out then, or, where the disaster itself took the deployment away, that was proven.
    """
    strike, proven, shut = (last_of(events, kind) for kind in ("strike", "strike.proven", "shut"))
    if strike is None:
        return None
    at = shut["at_ns"] if shut else proven["t"] if proven else strike["at_ns"]
    return max(int(at), int(strike["at_ns"]))


def phases(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The phases in the order they were opened; one that was never closed has no duration and reads ``aborted``."""
    rows: list[dict[str, Any]] = []
    for event in events:
        if event["kind"] == "phase.opened":
            rows.append({"phase": event["phase"], "opened_ns": event["t"], "duration_ns": None, "outcome": "aborted",
                         "error": "", "attributes": {}})  # fmt: skip
        elif event["kind"] == "phase.closed":
            row = next(row for row in reversed(rows) if row["phase"] == event["phase"] and row["outcome"] == "aborted")
            row["duration_ns"] = event["t"] - row["opened_ns"]
            row["outcome"], row["error"] = event["outcome"], event["error"]
            row["attributes"] = {key: value for key, value in event.items() if key not in _EVENT_FIELDS}
    return rows


def recovery_was_due(events: Iterable[Event]) -> bool:
    """Whether the deployment was started after its restore and nobody interrupted the drill: it had to recover."""
    rows = phases(events)
    return any(row["phase"] == "start" for row in rows) and not any(row["error"] == INTERRUPTED for row in rows)


def ending(closed: Event, events: Iterable[Event]) -> str:
    """How a drill ended that did not come to its end; an interruption has no text of its own, and is named."""
    why = str(closed["error"]).strip()
    if not why or why.endswith(":"):
        interrupted = any(row["error"] == INTERRUPTED for row in phases(events))
        why = f"{why} {INTERRUPTED if interrupted else 'no reason given'}".strip()
    return f"the drill ended as {closed['outcome']}: {why}"


def recovery_time(events: Iterable[Event], strike_ns: int | None, felt: Outage) -> dict[str, Any]:
    """The recovery time achieved: the strike to the end of the first successful probe, and the interval it lies in.

    A probe that began before clients were shut out has met what the disaster left, not what was restored.
    """
    events = list(events)
    gone, shut = gone_ns(events) or 0, last_of(events, "shut")
    probes = [] if strike_ns is None else [probe for probe in of_kind(events, "probe") if probe["ended_ns"] > strike_ns]
    success = next((probe for probe in probes if probe["outcome"] == "succeeded" and probe["started_ns"] >= gone), None)
    failures = [probe for probe in probes if probe["outcome"] == "failed"
                and (success is None or probe["started_ns"] < success["started_ns"])]  # fmt: skip
    last_failed = failures[-1] if failures else None
    upper = success["ended_ns"] - strike_ns if success and strike_ns is not None else None
    lower = max(0, last_failed["started_ns"] - strike_ns) if last_failed and strike_ns is not None else 0
    return {
        "strike_ns": strike_ns,
        "shut_ns": shut["at_ns"] if shut else None,
        "achieved_ns": upper,
        "lower_ns": lower if upper is not None else None,
        "upper_ns": upper,
        "uncertainty_ns": upper - lower if upper is not None else None,
        "last_failed_probe": probe(last_failed),
        "first_successful_probe": probe(success),
        "failed_probes": success["failed_before"] if success else last_failed["failed_before"] if last_failed else 0,
        "felt": {
            "last_before_ns": felt.last_before_ns,
            "first_after_ns": felt.first_after_ns,
            "outage_ns": felt.outage_ns,
            "attempts_ns": felt.attempts_ns,
        },
    }


def probe(event: Event | None) -> dict[str, Any] | None:
    """A probe as the evidence holds it."""
    return {key: event[key] for key in ("started_ns", "ended_ns", "step", "seen")} if event else None


def disagreement(recovered: Mapping[str, Any], write_interval_ns: int, probe_interval_ns: int) -> list[Finding]:
    """``OUTAGE-DISAGREES`` where what clients felt and what the probe measured are further apart than both can err."""
    success, felt = recovered["first_successful_probe"], recovered["felt"]
    if success is None:
        return []
    allowed = write_interval_ns + probe_interval_ns + success["ended_ns"] - success["started_ns"] + felt["attempts_ns"]
    if felt["first_after_ns"] is None:
        seen = "a whole transaction succeeded, and the ledger's writer had no write acknowledged after the strike"
    elif abs(apart := felt["first_after_ns"] - success["ended_ns"]) > allowed:
        seen = (f"the first acknowledged write came {format_duration(abs(apart))} {'before' if apart < 0 else 'after'}"
                f" the end of the first successful probe; at most {format_duration(allowed)} are explained by the"
                " intervals of writes and probes and by how long the probe and the writes beside it took")  # fmt: skip
    else:
        return []
    return [Finding(code="OUTAGE-DISAGREES", seen=seen, where="recovery time")]


def judge(
    objective: str,
    target: Mapping[str, Any],
    achieved_ns: int | None,
    *,
    lower_bound: bool,
    unmeasured: Verdict,
    resolution_ns: int = 0,
) -> tuple[dict[str, Any], list[Finding]]:
    """One row of the objectives table, and what is found where the target is missed.

    A lower bound never passes: where nothing was recovered the loss is unknown, and the least it can be is no measure.
    Nor does an achieved zero against a target finer than ``resolution_ns``: what was lost within one interval is not
    seen, so it reads ``error``, as what could not be verified. A figure above zero counts back to a recovered write and
    is the most that can have been lost. ``unmeasured`` is the verdict where there is no figure at all.
    """
    target_ns = target["target_ns"]
    row = {"objective": objective, "target_ns": target_ns, "source": target["source"], "achieved_ns": achieved_ns,
           "lower_bound": lower_bound, "margin_ns": None, "verdict": unmeasured.value}  # fmt: skip
    if achieved_ns is None:
        return row, []
    if target_ns is None:
        return row | {"verdict": Verdict.NO_TARGET.value}, []
    if achieved_ns == 0 and target_ns < resolution_ns:
        return row | {"verdict": Verdict.ERROR.value}, []
    margin = target_ns - achieved_ns
    if margin >= 0 and not lower_bound:
        return row | {"margin_ns": margin, "verdict": Verdict.PASSED.value}, []
    least = "at least " if lower_bound else ""
    seen = f"{least}{format_duration(achieved_ns)} achieved, {format_duration(target_ns)} allowed by {target['source']}"
    if margin < 0:
        seen += f": {least}{format_duration(-margin)} too much"
    else:
        seen += ": nothing of one channel was recovered, so its whole loss is not known"
    finding = Finding(code=f"{objective.upper()}-EXCEEDED", seen=seen, where=f"objective {objective}")
    return row | {"margin_ns": margin, "verdict": Verdict.FAILED.value}, [finding]


def checks(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The checks with a verdict each; one that looked at nothing at all is ``not tested``, whatever it reports.

    An expected check passes by finding something: the disaster planted it.
    """
    rows = []
    for event in of_kind(events, "check"):
        expected = event.get("expected", False)
        accused = any(each["severity"] == "failure" for each in event["findings"])
        remarks = [{"what": each["what"], "reason": each["reason"]} for each in event["not_tested"]]
        looked = sum(event["looked_at"].values()) > 0
        if not looked and not remarks and not event["error"] and not expected:
            remarks = [{"what": event["check"], "reason": "there was nothing for it to look at"}]
        if event["error"]:
            verdict = Verdict.ERROR
        elif expected:
            verdict = Verdict.PASSED if accused else Verdict.FAILED
        elif accused:
            verdict = Verdict.FAILED
        else:
            verdict = Verdict.PASSED if looked else Verdict.NOT_TESTED
        rows.append({"check": event["check"], "verdict": verdict.value, "error": event["error"],
                     "duration_ns": event["ended_ns"] - event["started_ns"], "looked_at": dict(event["looked_at"]),
                     "findings": len(event["findings"]), "expected": bool(expected),
                     "not_tested": remarks})  # fmt: skip
    return rows


def check_findings(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What the checks found. What a disaster planted on purpose is a notice, and where it was not seen a failure."""
    found = []
    for event, row in zip(of_kind(events, "check"), checks(events), strict=True):
        if not row["expected"]:
            found += [dict(each) for each in event["findings"]]
            continue
        found += [{**each, "severity": Severity.NOTICE.value, "seen": f"{PLANTED}{each['seen']}"}
                  for each in event["findings"]]  # fmt: skip
        if row["verdict"] == Verdict.FAILED:
            seen = "the disaster planted damage for this check to find, and it found none"
            found.append(Finding(code="DISASTER-UNSEEN", seen=seen, where=f"check {event['check']}").as_record())
    return found


def restored_backup(events: Sequence[Event]) -> dict[str, Any] | None:
    """The backup set that was restored: the one chosen, or, where none was yet, the last one made."""
    chosen, made = last_of(events, "backup.chosen"), of_kind(events, "backup.made")
    if chosen is not None:
        made = [event for event in made if event["manifest_sha256"] == chosen["manifest_sha256"]]
    if not made:
        return None
    keys = ("manifest_sha256", "bytes", "snapshot_ns", "skew_ns", "components")
    return {
        **{key: made[-1][key] for key in keys},
        "age_ns": chosen["age_ns"] if chosen else None,
        "fallback": bool(chosen and chosen["fallback"]),
    }


def summary(drills: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all drills of a run come to, and those of each disaster: the same figures for both.

    A drill that is a negative control of its row counts among the verdicts and not in the figures: it is made to lose.
    """
    disasters = dict.fromkeys(drill["disaster"] for drill in drills)
    return {
        **_spread(drills),
        "disasters": [
            {"disaster": name, **_spread([drill for drill in drills if drill["disaster"] == name])}
            for name in disasters
        ],
    }


def _spread(drills: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Verdicts, and of the drills that measured it the median and the worst; of an even number the lower median."""
    held = [drill for drill in drills if not drill.get("failover", {}).get("expects")]
    took = [drill for drill in held if drill["recovery_time"]["achieved_ns"] is not None]
    back = [drill for drill in held if drill["recovery_point"]["achieved_ns"] is not None]
    slowest = max(took, key=lambda drill: drill["recovery_time"]["achieved_ns"], default=None)
    furthest = max(
        back,
        key=lambda drill: (drill["recovery_point"]["achieved_ns"], drill["recovery_point"]["lower_bound"]),
        default=None,
    )
    verdicts = [drill["verdict"] for drill in drills]
    times = [drill["recovery_time"]["achieved_ns"] for drill in took]
    return {
        "drills": len(drills),
        "verdicts": {verdict.value: verdicts.count(verdict) for verdict in Verdict if verdict in verdicts},
        "recovery_time": {
            "measured": len(took),
            "median_ns": statistics.median_low(times) if times else None,
            "worst_ns": slowest["recovery_time"]["achieved_ns"] if slowest else None,
            "worst_drill": slowest["drill"] if slowest else "",
        },
        "recovery_point": {
            "measured": len(back),
            "worst_ns": furthest["recovery_point"]["achieved_ns"] if furthest else None,
            "lower_bound": bool(furthest and furthest["recovery_point"]["lower_bound"]),
            "worst_drill": furthest["drill"] if furthest else "",
        },
    }


def all_controls(drills: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The score of the negative controls of all drills together."""
    planted, caught = (sum(drill["controls"][what] for drill in drills) for what in ("planted", "caught"))
    return {"planted": planted, "caught": caught, "score": f"{caught}/{planted}"}


def controls(events: Sequence[Event]) -> tuple[dict[str, Any], list[Finding]]:
    """The negative controls with their score, the healthy twin beside them, and those that were not caught.

    A control counts as caught when the drill says so and one of the codes that it expects was indeed seen.
    """
    rows, found = [], []
    for event in of_kind(events, "control"):
        twin = not event["expects"]
        holds = not event["saw"] if twin else bool(set(event["expects"]) & set(event["saw"]))
        caught = bool(event["caught"]) and holds and not event["error"]
        verdict = Verdict.ERROR if event["error"] else Verdict.PASSED if caught else Verdict.FAILED
        rows.append({"control": event["control"], "twin": twin, "breaks": event["breaks"], "caught": caught,
                     "expects": list(event["expects"]), "saw": list(event["saw"]), "error": event["error"],
                     "duration_ns": event["ended_ns"] - event["started_ns"], "verdict": verdict.value})  # fmt: skip
        if verdict is Verdict.FAILED:
            saw = ", ".join(event["saw"]) or "nothing"
            expected = "nothing should be seen" if twin else f"expected {' or '.join(event['expects'])}"
            code = "HEALTHY-TWIN-ACCUSED" if twin else "CONTROL-NOT-CAUGHT"
            seen = f"{event['control']} ({event['breaks'] or 'untouched'}): {expected}, saw {saw}"
            found.append(Finding(code=code, seen=seen, where=f"control {event['control']}"))
    planted = [row for row in rows if not row["twin"]]
    caught_ones = sum(row["caught"] for row in planted)
    score = {"planted": len(planted), "caught": caught_ones, "score": f"{caught_ones}/{len(planted)}", "rows": rows}
    return score, found


def endings(events: Sequence[Event], closed: Event | None) -> Iterator[tuple[Verdict, str]]:
    """Why a drill does not pass that did not come to its end."""
    if closed is None:
        yield Verdict.ERROR, "the drill was opened and never closed: aborted"
    elif closed["outcome"] != "done":
        yield Verdict.FAILED if closed["outcome"] == "failed" else Verdict.ERROR, ending(closed, events)


def unproven(checks: Sequence[Event], controls: Event, *, due: bool = True) -> Iterator[tuple[Verdict, str]]:
    """Why a drill does not pass where checks or controls did not do their work.

    Args:
        due: some of each had to run; not so where the drill ended before by a failure of what was drilled.
    """
    if due and not checks:
        yield Verdict.ERROR, "no check ran"
    if due and not controls["planted"]:
        yield Verdict.ERROR, "no negative control ran"
    for row in checks:
        if row["error"]:
            yield Verdict.ERROR, f"check {row['check']} could not verify: {row['error']}"
    for row in controls["rows"]:
        if row["error"]:
            yield Verdict.ERROR, f"control {row['control']} could not be run: {row['error']}"
    for row in checks:
        if row["verdict"] == Verdict.NOT_TESTED:
            yield Verdict.NOT_TESTED, f"check {row['check']} looked at nothing"


def unmeasured(*objectives: Mapping[str, Any]) -> Iterator[tuple[Verdict, str]]:
    """Why a drill does not pass that did not measure an objective's figure."""
    names = {"rto": "recovery time", "rpo": "recovery point"}
    for row in objectives:
        if row["achieved_ns"] is None:
            yield Verdict(row["verdict"]), f"the {names[row['objective']]} was not measured"

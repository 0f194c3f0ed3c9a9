"""Go or no-go before an upgrade, decided from the evidence and the journal alone, so that anybody can decide it again.

Each reason has a verdict of its own. One that failed is a no-go whatever the others say; one that could not be told, of
those that are asked for, leaves the gate undecided. What is merely remarked changes nothing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jsonschema

from reports import wording
from reports.measures import Event, last_of, of_kind
from reports.records import HarnessError, Verdict, canonical

FILE_NAME: Final = "gate.json"
SCHEMA_VERSION: Final = 1
EXITS: Final[Mapping[str, int]] = {"go": 0, "no-go": 1, "undecided": 2}
NAMES: Final = {"rto": "recovery time", "rpo": "recovery point"}
COMPONENTS: Final = ("database", "objects", "configuration")
DAY: Final = datetime.timedelta(days=1)
_LONGEST: Final = 600

Reason = dict[str, Any]


def decide(evidence: Mapping[str, Any], events: Sequence[Event]) -> dict[str, Any] | None:
    """The decision and its reasons, worst first; ``None`` where the run was no gate.

    Args:
        evidence: the rest of the run's evidence.
        events: those of its journal.

    Returns:
        The ``gate`` of ``evidence.json``, which is the content of ``gate.json`` too.
    """
    opened = last_of(events, "gate.opened")
    if opened is None:
        return None
    reasons = [
        *_prerequisites(events),
        *_targets(opened),
        *_backups(events),
        *_conformance(evidence, opened),
        *_shadow(evidence),
        *_kept(opened, events),
        *_past(evidence, opened, events),
        *_rehearsal(evidence, opened),
    ]
    reasons += _run(evidence, reasons)
    reasons.sort(key=_weight)
    decision = _decision(reasons)
    return {
        "schema_version": SCHEMA_VERSION,
        "decision": decision,
        "exit": EXITS[decision],
        "run_id": evidence["run_id"],
        "opened_utc": evidence["opened_utc"],
        "closed_utc": evidence["closed_utc"],
        "suite": dict(evidence["suite"]),
        "profile": dict(evidence["profile"]),
        "deployment": opened["deployment"],
        "stand_in": opened["stand_in"],
        "upgrade": dict(opened["upgrade"]) if opened["upgrade"] else None,
        "reasons": reasons,
    }


def write(decided: Mapping[str, Any], directory: Path) -> None:
    """Write ``gate.json``, whole or not at all.

    Raises:
        HarnessError: it is not what its schema says.
    """
    schema = json.loads(Path(__file__).with_name("gate.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    try:
        canonical(decided)
        wrong = [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(decided)]
    except (TypeError, ValueError) as problem:
        wrong = [str(problem)]
    if wrong:
        remedy = "report it as a bug of the suite, with the run's journal.jsonl"
        raise HarnessError("the decision of this run", seen="; ".join(wrong[:3]), remedy=remedy)
    half = directory / f"{FILE_NAME}.half"
    half.write_text(json.dumps(decided, indent=2, ensure_ascii=False) + "\n", "utf-8")
    half.replace(directory / FILE_NAME)


def lines(decided: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, bool]]]:
    """The closing lines of the terminal: the decision, then each reason, worst first, with what to do."""
    style = {"go": {"green": True, "bold": True}, "no-go": {"red": True, "bold": True}}
    told = f"{decided['decision'].upper()} (exit code {decided['exit']})"
    if decided["upgrade"]:
        old, new = decided["upgrade"]["old"], decided["upgrade"]["new"]
        told += f" for the upgrade of {decided['deployment']} from {old} to {new}"
    yield wording.one_line(told, 300), style.get(decided["decision"], {"yellow": True, "bold": True})
    for reason in decided["reasons"]:
        bad = reason["verdict"] in (Verdict.FAILED, Verdict.ERROR)
        shade = {"red": True} if bad else {"green": True} if reason["verdict"] == Verdict.PASSED else {"yellow": True}
        part = "" if reason["required"] else " (decides nothing)"
        yield f"{reason['verdict']}{part}: {wording.one_line(reason['what'] + ': ' + reason['seen'], _LONGEST)}", shade
        if reason["remedy"]:
            yield f"    remedy: {wording.one_line(reason['remedy'], _LONGEST)}", {}


def _weight(reason: Reason) -> tuple[bool, bool, bool, int]:
    """The worst first. Failed comes before error: what is known to be wrong is more than what is not known."""
    verdict = Verdict(reason["verdict"])
    passed = verdict is Verdict.PASSED
    return verdict is not Verdict.FAILED, passed, not reason["required"], list(Verdict).index(verdict)


def _decision(reasons: Sequence[Reason]) -> str:
    asked = [Verdict(reason["verdict"]) for reason in reasons if reason["required"]]
    if Verdict.FAILED in asked:
        return "no-go"
    return "go" if asked and all(verdict is Verdict.PASSED for verdict in asked) else "undecided"


def _known(verdict: Verdict, failed: bool) -> Verdict:
    """What is known to be wrong stays so where something else beside it could not be told."""
    return Verdict.FAILED if failed and verdict is Verdict.ERROR else verdict


def _reason(what: str, verdict: Verdict, seen: str, *, code: str, remedy: str = "", required: bool = True) -> Reason:
    return {
        "what": what,
        "verdict": verdict.value,
        "seen": wording.one_line(seen, _LONGEST),
        "remedy": "" if verdict is Verdict.PASSED else wording.one_line(remedy, _LONGEST),
        "code": code,
        "required": required,
    }


def _prerequisites(events: Sequence[Event]) -> Iterator[Reason]:
    """What a restore needs on this machine and of the places where backups are kept."""
    found = of_kind(events, "gate.prerequisite")
    missing = [event for event in found if event["state"] == "missing"]
    for event in missing:
        # What this machine lacks says nothing of the deployment; a backup or a key that cannot be had says all.
        verdict = Verdict.ERROR if event["here"] else Verdict.FAILED
        yield _reason(f"prerequisite {event['what']}", verdict, event["seen"], code="PREREQUISITE-MISSING",
                      remedy=event["remedy"])  # fmt: skip
    for event in found:
        if event["state"] == "not tested":
            yield _reason(f"prerequisite {event['what']}", Verdict.NOT_TESTED, event["seen"], required=False,
                          code="PREREQUISITE-UNKNOWN", remedy=event["remedy"])  # fmt: skip
    there = [event["what"] for event in found if event["state"] == "works"]
    if there and not missing:
        yield _reason("prerequisites of a restore", Verdict.PASSED, f"{len(there)}: {', '.join(there)}",
                      code="PREREQUISITES")  # fmt: skip
    elif not found:
        yield _reason("prerequisites of a restore", Verdict.ERROR, "were not looked at", code="PREREQUISITE-UNKNOWN",
                      remedy="run the gate to its end, without -k")  # fmt: skip


def _targets(opened: Event) -> Iterator[Reason]:
    """Whether somebody has said how long recovery may take, how much may be lost, and how often is backed up."""
    for which, target in opened["targets"].items():
        what = f"{NAMES[which]} objective"
        if target["target_ns"] is None:
            yield _reason(what, Verdict.FAILED, f"not set ({target['source']})", code="TARGET-UNSET",
                          remedy=f"choose a tier with --targets, or set objectives.{which}")  # fmt: skip
        else:
            yield _reason(what, Verdict.PASSED, f"{wording.duration(target['target_ns'])} by {target['source']}",
                          code="TARGET")  # fmt: skip
    for component, target in opened["frequency"].items():
        if target["target_ns"] is None:
            yield _reason(f"frequency of {component} backups", Verdict.FAILED, f"not set ({target['source']})",
                          code="TARGET-UNSET",
                          remedy=f"choose a tier with --targets, or set objectives.frequency.{component}")  # fmt: skip


def _backups(events: Sequence[Event]) -> Iterator[Reason]:
    """A fresh, verified backup of each component."""
    found = {event["component"]: event for event in of_kind(events, "gate.backup")}
    for component in COMPONENTS:
        event, what = found.get(component), f"backup of the {component}"
        if event is None:
            yield _reason(what, Verdict.ERROR, "was not looked at", code="BACKUP-UNKNOWN",
                          remedy="run the gate to its end, without -k")  # fmt: skip
        elif event["error"]:
            yield _reason(what, Verdict.ERROR, event["error"], code="BACKUP-UNKNOWN", remedy=event["remedy"])
        elif not event["known"]:
            yield _reason(what, Verdict.NOT_TESTED, event["seen"], code="BACKUP-UNKNOWN", remedy=event["remedy"])
        elif event["age_ns"] is None:
            yield _reason(what, Verdict.FAILED, event["seen"], code="BACKUP-ABSENT", remedy=event["remedy"])
        elif event["age_ns"] > event["limit_ns"]:
            seen = f"{event['seen']}: {wording.duration(event['age_ns'])} old, at most {_limit(event)}"
            yield _reason(what, Verdict.FAILED, seen, code="BACKUP-STALE", remedy=event["remedy"])
        else:
            seen = f"{event['seen']}: {wording.duration(event['age_ns'])} old, {_limit(event)} allowed"
            yield _reason(what, Verdict.PASSED, seen, code="BACKUP")


def _limit(event: Event) -> str:
    return f"{wording.duration(event['limit_ns'])} ({event['limit_source']})"


def _conformance(evidence: Mapping[str, Any], opened: Event) -> Iterator[Reason]:
    """The checks of the deployment itself: which were judged, and which read not tested."""
    part, what = evidence["conformance"], "conformance"
    remedy = "see the findings, and run pytest checks on it"
    if part is None or not part["checks"]:
        yield _reason(what, Verdict.ERROR, "no check looked at the deployment", code="CONFORMANCE",
                      remedy="run the gate to its end, without -k")  # fmt: skip
        return
    ran = {row["check"] for row in part["checks"]}
    if left_out := [name for name in opened.get("checks", ()) if name not in ran]:
        yield _reason("conformance that did not run", Verdict.ERROR, ", ".join(left_out), code="CONFORMANCE-LEFT-OUT",
                      remedy="run the gate to its end, without -k, -m and --deselect")  # fmt: skip
    verdicts = [Verdict(row["verdict"]) for row in part["checks"]]
    judged = [verdict for verdict in verdicts if verdict is not Verdict.NOT_TESTED]
    order = [*(each for each in Verdict if each is not Verdict.NOT_TESTED), Verdict.NOT_TESTED]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in order if each in verdicts)
    bad = [f"{row['check']} {row['verdict']}" for row in part["checks"] if row["verdict"] in ("failed", "error")]
    verdict = Verdict.worst(judged) if judged else Verdict.NOT_TESTED
    verdict = _known(verdict, Verdict.FAILED in judged)
    yield _reason(what, verdict, f"{counts}{': ' if bad else ''}{'; '.join(bad)}", code="CONFORMANCE", remedy=remedy)
    names = [row["check"] for row in part["checks"] if row["verdict"] == Verdict.NOT_TESTED]
    if names and judged:
        yield _reason("conformance that was not judged", Verdict.NOT_TESTED, ", ".join(names), required=False,
                      code="CONFORMANCE-NOT-TESTED",
                      remedy="run pytest checks without a profile; see each check's reason")  # fmt: skip


def _shadow(evidence: Mapping[str, Any]) -> Iterator[Reason]:
    """A restore of the backup within the targets."""
    what = "shadow restore"
    drills = [drill for drill in evidence["drills"] if drill.get("level") == "shadow"]
    if not drills:
        yield _reason(what, Verdict.ERROR, "no backup was restored", code="SHADOW-RESTORE",
                      remedy="run the gate to its end, without -k; see what kept the restore from running")  # fmt: skip
        return
    (drill,) = drills
    codes = [f"{each['code']} {each['seen']}" for each in drill["findings"] if each["severity"] == "failure"]
    took = ", ".join(f"{NAMES[row['objective']]} {wording.duration(row['achieved_ns'])}" for row in drill["objectives"])
    seen = "; ".join([took, *drill["reasons"], *codes])
    remedy = "; ".join(dict.fromkeys(each["remedy"] for each in drill["findings"] if each["severity"] == "failure"))
    yield _reason(
        what,
        _known(Verdict(drill["verdict"]), bool(codes)),
        seen,
        code="SHADOW-RESTORE",
        remedy=remedy or "see the report",
    )


def _kept(opened: Event, events: Sequence[Event]) -> Iterator[Reason]:
    """Whether what was restored is what the operator keeps: a backup made for the gate proves nothing of it."""
    taken = [event["store"] for event in of_kind(events, "shadow.fetched") if event["taken"]]
    if taken and not opened["stand_in"]:
        seen = f"that of the {' and the '.join(taken)} was made by the gate itself: yours was not restored"
        remedy = f"name where it is kept as {' and '.join(f'shadow.{each}' for each in taken)}"
        yield _reason("restore of the backups that are kept", Verdict.NOT_TESTED, seen, code="RESTORE-UNPROVEN",
                      remedy=remedy)  # fmt: skip


def _past(evidence: Mapping[str, Any], opened: Event, events: Sequence[Event]) -> Iterator[Reason]:
    """Whether a drill has passed not too long ago."""
    past, what, days = last_of(events, "gate.past"), "evidence of past drills", opened["stale_days"]
    remedy = "run a drill that passes: pytest drills --level shadow with this profile; see python -m reports history"
    if past is None:
        yield _reason(what, Verdict.ERROR, "the runs of before were not read", code="EVIDENCE-STALE", remedy=remedy)
    elif past["last"] is None:
        seen = f"none of {past['runs']} runs with this profile holds a drill that passed"
        yield _reason(what, Verdict.FAILED, seen, code="EVIDENCE-STALE", remedy=remedy)
    else:
        age = _time(evidence["opened_utc"]) - _time(past["last"]["opened_utc"])
        if age < datetime.timedelta():
            seen = f"run {past['last']['run_id']}, opened after this one: some clock is wrong, and its age not known"
        else:
            seen = f"the last that passed is of run {past['last']['run_id']}, {age // DAY} days ago; {days} are allowed"
        verdict = Verdict.PASSED if datetime.timedelta() <= age <= days * DAY else Verdict.FAILED
        yield _reason(what, verdict, seen, code="EVIDENCE-STALE", remedy=remedy)


def _rehearsal(evidence: Mapping[str, Any], opened: Event) -> Iterator[Reason]:
    """The upgrade on the restored copy, and the way back."""
    part, what = evidence.get("rehearsal"), "rehearsal of the upgrade"
    if opened["upgrade"] is None:
        yield _reason(what, Verdict.NOT_TESTED, "the profile does not say how the upgrade is done", code="REHEARSAL",
                      remedy="add [upgrade] to the profile: docs/gate.md")  # fmt: skip
        return
    if part is None:
        yield _reason(what, Verdict.NOT_TESTED, "there was no restored copy to rehearse on", code="REHEARSAL",
                      remedy="see what became of the shadow restore")  # fmt: skip
        return
    failures = [each for each in part["findings"] if each["severity"] == "failure"]
    seen = [f"{part['old']} to {part['new']}: upgrade {wording.duration(part['upgrade_time']['achieved_ns'])},"
            f" way back {wording.duration(part['rollback_time']['achieved_ns'])}",
            *(f"{each['code']} {each['seen']}" for each in failures),
            *part["reasons"]]  # fmt: skip
    remedy = "; ".join(dict.fromkeys(each["remedy"] for each in failures)) or "see the report"
    yield _reason(
        what, _known(Verdict(part["verdict"]), bool(failures)), "; ".join(seen), code="REHEARSAL", remedy=remedy
    )
    for each in part["findings"]:
        if each["severity"] == "notice":
            of_structure = "STRUCTURE" in each["code"]  # the rest is of the sandbox, and not the upgrade's doing
            named = "what the upgrade takes away or adds" if of_structure else "what the rehearsal noticed"
            yield _reason(named, Verdict.NOT_TESTED, f"{each['code']} {each['seen']}", code="REHEARSAL-NOTICE",
                          remedy=each["remedy"], required=False)  # fmt: skip
    if remarks := list(dict.fromkeys(remark["what"] for remark in part["not_tested"])):
        yield _reason("what the rehearsal did not look at", Verdict.NOT_TESTED, "; ".join(remarks), required=False,
                      code="REHEARSAL-NOT-TESTED", remedy="see why on the evidence page")  # fmt: skip


def _run(evidence: Mapping[str, Any], reasons: Sequence[Reason]) -> list[Reason]:
    """Whether the run came to its end, and whether what failed in it is among the reasons."""
    unexplained = evidence["exit"] == 1 and _decision(reasons) == "go"
    if unexplained or evidence["exit"] not in (0, 1, 5):
        seen = "; ".join(evidence["reasons"]) or f"exit code {evidence['exit']}"
        return [_reason("the run itself", Verdict.ERROR, seen, code="RUN-INCOMPLETE", remedy="run the gate again")]
    return []


def _time(stamp: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))


def past_of(runs: Sequence[Any], *, profile: str, stand_in: bool, opened_utc: str) -> dict[str, Any]:
    """What a gate asks of the population: how many runs with this profile, and the last that proves something.

    Args:
        runs: ``reports.population.PastRun``, oldest first.
        profile: the name of the profile's file.
        opened_utc: when the gate was opened; what was opened after it, or broke, proves nothing.
    """
    ours = [run for run in runs if run.profile == profile]
    proven = [
        (run, drill)
        for run in ours if run.proves(_time(opened_utc))
        for drill in run.drills
        if drill.verdict is Verdict.PASSED and drill.stand_in == stand_in
        and not drill.negative_control and drill.level != "failover"
    ]  # fmt: skip
    last = {"run_id": proven[-1][0].run_id, "opened_utc": proven[-1][0].opened_utc,
            "drill": proven[-1][1].drill} if proven else None  # fmt: skip
    return {"runs": len(ours), "last": last}

"""The content of ``evidence.json``, computed from the journal and the ledgers alone, so that it can be computed again.

No clock, no environment and no other file enters: the same facts give the same figures anywhere. No floats either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import failover, gate, measures, recovery_point, regression, shadow
from reports.accounting import Accounting, Outage, felt_outage
from reports.cluster_account import Facts
from reports.conformance import assess_conformance
from reports.measures import Event, last_of, of_kind
from reports.records import Finding, UsageProblem, Verdict, read_journal, read_lines
from reports.rehearsal import assess_rehearsal

SCHEMA_VERSION: Final = 1
_ENVELOPE: Final = ("n", "t", "utc", "kind", "prev", "hash")
_HEADER: Final = ("architecture", "provider", "stand_in", "disaster", "methods", "tools", "scale")


def assess_run(directory: Path) -> dict[str, Any]:
    """Everything measured in one run and what it means, from the files of its directory.

    Raises:
        UsageProblem: no journal, a broken chain of digests, a ledger that cannot be read, or events that lack what
            ``docs/journal.md`` says they hold.
    """
    return assess_events(read_journal(directory / "journal.jsonl"), directory)


def assess_events(events: Sequence[Event], directory: Path) -> dict[str, Any]:
    """As ``assess_run``, from events already read."""
    with shaped(directory):
        opened = next((event for event in events if event["kind"] == "run.opened"), None)
        if opened is None:
            raise UsageProblem(str(directory / "journal.jsonl"), seen="no run was opened in it", remedy="name the"
                               " directory of a run, the one that holds its journal.jsonl")  # fmt: skip
        closed = last_of(events, "run.closed")
        names = dict.fromkeys(event["drill"] for event in of_kind(events, "drill.opened"))
        drills = [_assess_files(events, directory, name) for name in names]
        conformance = assess_conformance(events)
        remarks = _remarks(event for event in events if "drill" not in event)
        rehearsal = rehearsed(events)
        evidence = _run(opened, closed, drills, conformance, rehearsal, remarks) | _context(events) | _sealing(events)
        decided = gate.decide(evidence, events)
        return evidence if decided is None else evidence | {"gate": decided}


@contextlib.contextmanager
def shaped(directory: Path) -> Iterator[None]:
    """Reading facts that somebody else may have written: whatever they lack ends as a problem of theirs.

    Raises:
        UsageProblem: an event or a line is not what ``docs/journal.md`` says.
    """
    try:
        yield
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        StopIteration,
        ArithmeticError,
        RecursionError,
    ) as problem:
        raise UsageProblem(
            str(directory),
            seen=f"the run's files lack something that docs/journal.md says they hold ({type(problem).__name__}:"
            f" {problem})",
            remedy="read the run with the version of the suite that wrote it",
        ) from problem


def assess_one(events: Iterable[Event], directory: Path, drill: str) -> dict[str, Any]:
    """The assessment of one drill from the run's events and its ledger files, so far."""
    return _assess_files(events, directory, drill)


def rehearsed(events: Sequence[Event]) -> dict[str, Any] | None:
    """The assessment of the run's rehearsal of an upgrade, so far; ``None`` where there is none."""
    return assess_rehearsal(events, _remarks)


def ledger_files(events: Iterable[Event], directory: Path) -> tuple[Path | None, Path | None]:
    """Where one drill's ledger and its observation lie; ``None`` where the journal names none.

    Raises:
        UsageProblem: the journal names a place outside the run's directory.
    """
    events = list(events)
    ledger = last_of(events, "ledger.closed") or last_of(events, "ledger.opened")
    observed = last_of(events, "ledger.observed")
    return _inside(directory, ledger), _inside(directory, observed)


def watched_files(events: Iterable[Event], directory: Path) -> tuple[Path | None, Path | None]:
    """Where what was witnessed of one drill's cluster lies, and what was read there; as ``ledger_files``."""
    events = list(events)
    return _inside(directory, last_of(events, "witness.closed")), _inside(directory, last_of(events, "reads.closed"))


def cluster_facts(events: Iterable[Event], directory: Path) -> Facts:
    """The lines of one failover drill's files; one that cannot be read is told of as a problem.

    Raises:
        UsageProblem: as ``ledger_files``.
    """
    events, read, problems = list(events), [], []
    names = ("the ledger", "what was observed of the ledger", "the witness's record", "the record of reads")
    for name, path in zip(names, (*ledger_files(events, directory), *watched_files(events, directory)), strict=True):
        try:
            read.append(None if path is None else list(read_lines(path)))
        except UsageProblem as problem:
            read.append(None)
            problems.append(f"{name} cannot be used: {problem.seen}")
    ledger, observed, witness, reads = read
    return Facts(ledger=ledger, observed=observed, witness=witness, reads=reads, problems=tuple(problems))


def _inside(directory: Path, event: Event | None) -> Path | None:
    if event is None:
        return None
    path: Path = (directory / event["path"]).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise UsageProblem(
            str(event["path"]), seen="a file outside the run's directory", remedy="do not trust this journal"
        )
    return path


def _assess_files(events: Iterable[Event], directory: Path, drill: str) -> dict[str, Any]:
    ours = [event for event in events if event.get("drill") == drill]
    return regression.with_history(_assess_facts(ours, directory), ours)


def _assess_facts(ours: Sequence[Event], directory: Path) -> dict[str, Any]:
    if any(event.get("level") == failover.LEVEL for event in of_kind(ours, "drill.opened")):
        return failover.assess_failover(ours, cluster_facts(ours, directory), _remarks)
    ledger, observed = ledger_files(ours, directory)
    try:
        return assess_drill(ours, read_lines(ledger) if ledger else (), read_lines(observed) if observed else ())
    except UsageProblem as problem:
        # What remains of the facts is still assessed, and says so: a broken ledger must not take the evidence with it.
        return assess_drill(ours, (), (), ledger_problem=problem.seen)


def assess_drill(
    events: Sequence[Event],
    ledger_lines: Iterable[Mapping[str, Any]],
    observed_lines: Iterable[Mapping[str, Any]],
    *,
    ledger_problem: str = "",
) -> dict[str, Any]:
    """One drill's figures, findings and verdict.

    Args:
        events: the drill's own events, the first of which is ``drill.opened``.
        ledger_lines: the lines of its ``ledger.jsonl``; none where none was opened.
        observed_lines: the lines of its ``observed.jsonl``; only read when the journal says that it was observed.
        ledger_problem: why the ledger cannot be used, where it cannot: the drill then reads ``error``.

    Returns:
        The drill's part of ``evidence.json``. ``verdict`` is ``error`` where something could not be verified: the
        drill was not closed or broke, nothing was struck or proven gone, no check or no control ran, or one crashed.
        It is ``failed`` on a finding of severity failure, ``not tested`` where a whole check looked at nothing, and
        ``passed`` otherwise: an objective without target and remarks on single features stand beside it.
    """
    opened, closed = next(each for each in events if each["kind"] == "drill.opened"), last_of(events, "drill.closed")
    if opened.get("level") == shadow.LEVEL:
        return shadow.assess_shadow(events, _remarks)
    strike, proven = last_of(events, "strike"), last_of(events, "strike.proven")
    strike_ns = strike["at_ns"] if strike else None
    accounting, felt = _account(events, opened, None if ledger_problem else strike_ns, ledger_lines, observed_lines)
    recovered = measures.recovery_time(events, strike_ns, felt) | _basis(events)

    channels, apart = recovery_point.channels(events, opened)
    interval_ns = apart.get("api", opened["ledger"]["interval_ns"])

    found = list(accounting.findings) if accounting else []
    due = strike and closed and measures.recovery_was_due(events)
    if due and recovered["achieved_ns"] is None:
        last = recovered["last_failed_probe"]
        seen = f"{recovered['failed_probes']} probes failed" + (
            f"; the last at step {last['step']}: {last['seen']}" if last else ""
        )
        found.append(Finding(code="RECOVERY-UNSEEN", seen=seen, where="recovery time"))
    if strike and not ledger_problem and "api" in channels:
        found += measures.disagreement(recovered, interval_ns, opened["probe"]["interval_ns"])

    rto, too_long = measures.judge("rto", opened["objectives"]["rto"], recovered["achieved_ns"], lower_bound=False,
                                   unmeasured=Verdict.FAILED if due else Verdict.ERROR)  # fmt: skip
    rpo, too_much = measures.judge("rpo", opened["objectives"]["rpo"],
                                   accounting.rpo_achieved_ns if accounting else None, unmeasured=Verdict.ERROR,
                                   lower_bound=bool(accounting and accounting.lower_bound),
                                   resolution_ns=accounting.resolution_ns if accounting else 0)  # fmt: skip
    checks, (controls, uncaught) = measures.checks(events), measures.controls(events)
    findings = measures.check_findings(events)
    findings += [each.as_record() for each in [*too_long, *too_much, *found, *uncaught]]

    reasons = [(Verdict.ERROR, f"the ledger cannot be used: {ledger_problem}")] if ledger_problem else []
    reasons += [*_reasons(events, closed, strike, proven, checks, controls)]
    reasons += [*measures.unmeasured(rto, rpo), *recovery_point.too_coarse(rpo, accounting)]
    judged = [verdict for verdict, _ in reasons]
    judged += [Verdict(row["verdict"]) for row in checks]
    judged += [Verdict(row["verdict"]) for row in controls["rows"]]
    judged += [Verdict.FAILED for each in findings if each["severity"] == "failure"]
    phases = measures.phases(events)
    return {
        "drill": opened["drill"],
        **{key: opened[key] for key in _HEADER},
        "deployment": dict(opened.get("deployment", {})),
        "plan": dict(opened["plan"]) if "plan" in opened else None,
        "verdict": Verdict.worst(judged).value,
        "reasons": [text for _, text in reasons],
        "closed": closed is not None,
        "objectives": [rto, rpo],
        "recovery_time": recovered,
        "recovery_point": recovery_point.of(accounting, opened),
        "verification_time_ns": next((row["duration_ns"] for row in phases if row["phase"] == "verify"), None),
        "phases": phases,
        "strike_proofs": [{"what": each["what"], "seen": each["seen"]} for each in proven["proofs"]] if proven else [],
        "backup": measures.restored_backup(events),
        **failover.rebuilt(events, opened, strike_ns),
        "checks": checks,
        "findings": findings,
        "controls": controls,
        "not_tested": [*(remark for row in checks for remark in row["not_tested"]), *_remarks(events)],
    }


def _remarks(events: Iterable[Event]) -> list[dict[str, str]]:
    return [{"what": event["what"], "reason": event["reason"]} for event in of_kind(events, "not_tested")]


def _basis(events: Sequence[Event]) -> dict[str, str]:
    """What counts as recovered, where the journal says so: runs from before it did stay as they are."""
    started = last_of(events, "ledger.opened")
    return {"basis": started["recovery_basis"]} if started and "recovery_basis" in started else {}


def _account(
    events: Sequence[Event], opened: Event, strike_ns: int | None,
    ledger_lines: Iterable[Mapping[str, Any]], observed_lines: Iterable[Mapping[str, Any]],
) -> tuple[Accounting | None, Outage]:  # fmt: skip
    """The account, where there was a strike and something was observed after it; and the outage the writer felt."""
    if strike_ns is None:
        return None, Outage()
    gone_ns = measures.gone_ns(events) or strike_ns
    if last_of(events, "ledger.observed") is None:
        return None, felt_outage(ledger_lines, strike_ns, gone_ns, "api")
    accounting = recovery_point.account_of(events, opened, strike_ns, gone_ns, ledger_lines, observed_lines)
    felt = next((each.felt for each in accounting.channels if each.channel == "api"), None)
    return accounting, felt or Outage()


def _reasons(
    events: Sequence[Event], closed: Event | None, strike: Event | None, proven: Event | None,
    checks: Sequence[Mapping[str, Any]], controls: Mapping[str, Any],
) -> list[tuple[Verdict, str]]:  # fmt: skip
    """Why the drill as a whole does not pass, apart from its findings; a passed verdict where it does."""
    reasons = [*measures.endings(events, closed)]
    if strike is None:
        reasons.append((Verdict.ERROR, "nothing was struck"))
    elif proven is None or not proven["proofs"]:
        reasons.append((Verdict.ERROR, "the disaster was not proven before the restore"))
    if last_of(events, "backup.chosen") and measures.restored_backup(events) is None:
        reasons.append((Verdict.ERROR, "the backup set that was restored is none of those that the drill made"))
    reasons += measures.unproven(checks, controls)
    return reasons


def _run(
    opened: Event, closed: Event | None, drills: list[dict[str, Any]], conformance: dict[str, Any] | None,
    rehearsal: dict[str, Any] | None, not_tested: list[dict[str, str]],
) -> dict[str, Any]:  # fmt: skip
    reasons: list[tuple[Verdict, str]] = []
    if not drills and conformance is None:
        reasons.append((Verdict.ERROR, "no drill was run, and no deployment checked"))
    if closed is None:
        reasons.append((Verdict.ERROR, "the run was opened and never closed: aborted"))
    elif closed["exit"] == 1:
        reasons.append((Verdict.FAILED, "at least one test of the run failed"))
    elif closed["exit"] != 0:
        reasons.append((Verdict.ERROR, f"the run ended before its end, with exit code {closed['exit']}"))
    parts = [*drills, *(each for each in (conformance, rehearsal) if each)]
    worst = [*(Verdict(part["verdict"]) for part in parts), *(verdict for verdict, _ in reasons)]
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": opened["run_id"],
        "verdict": Verdict.worst(worst).value,
        "reasons": [text for _, text in reasons],
        "aborted": closed is None,
        "opened_utc": opened["utc"],
        "closed_utc": closed["utc"] if closed else None,
        "exit": closed["exit"] if closed else None,
        **{key: opened[key] for key in ("suite", "command", "profile", "host", "interval_note")},
        "controls": measures.all_controls(parts),
        "summary": measures.summary(drills),
        "not_tested": not_tested,
        "conformance": conformance,
        **({"rehearsal": rehearsal} if rehearsal else {}),
        "drills": drills,
    }


def _context(events: Sequence[Event]) -> dict[str, Any]:
    """What nobody can measure: who ran it, on whose authority, of what; absent from runs of before it was told."""
    told = last_of(events, "run.context")
    return {"context": {key: value for key, value in told.items() if key not in _ENVELOPE}} if told else {}


def _sealing(events: Sequence[Event]) -> dict[str, Any]:
    """The last line of the register before this run, and the key that signs it; absent before there was a register."""
    head = last_of(events, "register.head")
    return {"previous": head["previous"], "key_id": head["key_id"]} if head else {}

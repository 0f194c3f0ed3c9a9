"""The assessment of a failover drill: nothing was restored, the cluster healed itself. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from reports import measures, outages, recovery_point, row_control
from reports.accounting import Outage
from reports.cluster_account import ClusterAccount, Facts, account_cluster
from reports.measures import Event, last_of, of_kind
from reports.outages import ChannelOutage
from reports.records import NANOSECONDS, Finding, Severity, Verdict, format_duration
from reports.witnessed import Look

LEVEL: Final = "failover"
_HEADER: Final = ("drill", "level", "architecture", "provider", "stand_in", "disaster", "methods", "tools", "scale")
_TIMING: Final = ("stock", "label", "ttl_ns", "loop_wait_ns", "retry_timeout_ns")
_STANDBY: Final = ("node", "state", "sync_state", "flush_lag_bytes", "replay_lag_bytes")
# A look takes a second at most, and the next begins a tenth of one after; a machine may be busy.
_UNSEEN_NS: Final = 3 * NANOSECONDS
_NOT_HELD: Final = "none: a negative control is held to no objective"


def findings_if(events: Sequence[Event], facts: Facts, *, planned: bool | None = None) -> list[Finding]:
    """What a failover drill's own account finds had just these lines been written; for its negative controls."""
    return list(account_cluster(events, facts, planned=planned).findings)


def assess_failover(
    events: Sequence[Event], facts: Facts, remarks: Callable[[Sequence[Event]], list[dict[str, str]]]
) -> dict[str, Any]:
    """One failover drill's figures, findings and verdict, in the form of a drill's part of ``evidence.json``.

    Args:
        events: the drill's own, the first of which is ``drill.opened``.
        facts: the lines of its files.
        remarks: what of events was not tested.
    """
    opened, closed = next(each for each in events if each["kind"] == "drill.opened"), last_of(events, "drill.closed")
    strike, proven = last_of(events, "strike"), last_of(events, "strike.proven")
    cluster, expects = opened["cluster"], list(opened["cluster"]["expects"])
    account = account_cluster(events, facts)
    strike_ns = account.strike_ns
    recovered = _recovery_time(events, strike_ns, _writers_outage(account))
    ended = closed is not None and closed["outcome"] != "error" and not _interrupted(events)
    due = bool(strike and ended and (of_kind(events, "probe") or of_kind(events, "probes")))

    found = [*account.findings]
    if due and recovered["achieved_ns"] is None:
        found.append(_unseen(recovered))
    if strike and ended and _waited(events) and not of_kind(events, "redundant"):
        seen = "when the drill ended, not every member streamed from the leader again"
        found.append(Finding(code="REDUNDANCY-NOT-BACK", seen=seen, where="redundancy"))
    told = {each["code"] for event in of_kind(events, "check") for each in event["findings"]
            if each["severity"] == Severity.FAILURE}  # fmt: skip
    found = [each for each in found if each.code not in told]  # a check that says so has seen more of it
    failures = told | {each.code for each in found if each.kind.severity is Severity.FAILURE
                       and each.where not in row_control.UNREPLICATED}  # fmt: skip
    excused = row_control.excused(expects, failures)
    events = row_control.excuse_checks(events, excused)

    (rto, too_long), (rpo, too_much) = _objectives(opened, account, recovered, due=due)
    checks, (controls, uncaught) = measures.checks(events), measures.controls(events)
    if expects and closed and strike_ns is not None:
        row, missed = row_control.judge(cluster["variant"], opened["disaster"], expects, failures,
                                        closed["t"] - strike_ns)  # fmt: skip
        controls, uncaught = _with(controls, row), [*uncaught, *missed]
    findings = measures.check_findings(events) + row_control.excuse((each.as_record() for each in found), excused)
    findings += [each.as_record() for each in [*too_long, *too_much, *uncaught]]

    reasons = [*_reasons(events, closed, proven, account), *measures.unproven(checks, controls)]
    if not expects:
        reasons += [*measures.unmeasured(rto, rpo), *recovery_point.too_coarse(rpo, account.accounting)]
        if rto["achieved_ns"] == 0 and rto["verdict"] == Verdict.ERROR:
            most, target = format_duration(recovered["upper_ns"]), format_duration(rto["target_ns"])
            why = f"no transaction failed, and one took so long that the outage may have lasted {most}"
            reasons.append((Verdict.ERROR, f"{why}: that does not show that the target of {target} was met"))
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
        "recovery_point": recovery_point.of(account.accounting, opened),
        "verification_time_ns": next((row["duration_ns"] for row in phases if row["phase"] == "verify"), None),
        "phases": phases,
        "strike_proofs": [{"what": each["what"], "seen": each["seen"]} for each in proven["proofs"]] if proven else [],
        "backup": None,
        "failover": _cluster(events, cluster, account) | {"caught": bool(set(expects) & failures) if expects else None},
        "checks": checks,
        "findings": findings,
        "controls": controls,
        "not_tested": [*(remark for row in checks for remark in row["not_tested"]), *remarks(events)],
    }


def _objectives(
    opened: Event, account: ClusterAccount, recovered: Mapping[str, Any], *, due: bool
) -> tuple[tuple[dict[str, Any], list[Finding]], tuple[dict[str, Any], list[Finding]]]:
    """The two rows of the objectives table; a negative control is measured and held to none.

    Where no probe failed nothing was seen of an outage, which may have been as long as the longest time between two
    successes: that does not meet a target shorter than it.
    """
    rto, rpo = opened["objectives"]["rto"], opened["objectives"]["rpo"]
    late, unknown = Verdict.FAILED if due else Verdict.ERROR, Verdict.ERROR
    if opened["cluster"]["expects"]:
        rto = rpo = {"target_ns": None, "source": _NOT_HELD}
        late = unknown = Verdict.NO_TARGET
    accounting = account.accounting
    return (
        measures.judge("rto", rto, recovered["achieved_ns"], lower_bound=False, unmeasured=late,
                       resolution_ns=recovered["upper_ns"] or 0),
        measures.judge("rpo", rpo, accounting.rpo_achieved_ns if accounting else None, unmeasured=unknown,
                       lower_bound=bool(accounting and accounting.lower_bound),
                       resolution_ns=accounting.resolution_ns if accounting else 0),
    )  # fmt: skip


def _recovery_time(events: Sequence[Event], strike_ns: int | None, felt: Outage) -> dict[str, Any]:
    """From the strike to the end of the first transaction that succeeds after the last one that failed.

    Several are under way at once: the last that failed is the last to have begun; of those that began after it the
    first is the first to have ended. Where none failed it is 0, and as uncertain as the longest time between two that
    succeeded. Where none succeeded afterwards, or none was tried to the end of the load, it is not measured.
    """
    whole = last_of(events, "probes")
    tried = sorted(of_kind(events, "probe"), key=lambda probe: int(probe["started_ns"]))
    probes = [] if strike_ns is None else [probe for probe in tried if probe["ended_ns"] > strike_ns]
    failures = [probe for probe in probes if probe["outcome"] == "failed"]
    last_failed = failures[-1] if failures else None
    since = last_failed["started_ns"] if last_failed else strike_ns
    worked = [probe for probe in probes if probe["outcome"] == "succeeded" and probe["started_ns"] >= since]
    success = min(worked, key=lambda probe: int(probe["ended_ns"]), default=None)
    lower = upper = achieved = None
    if success is not None and strike_ns is not None and last_failed is not None:
        achieved = upper = success["ended_ns"] - strike_ns
        lower = max(0, _last_kept_waiting(tried, last_failed, success, strike_ns) - strike_ns)
    elif success is not None and strike_ns is not None and whole is not None:
        achieved, lower, upper = 0, 0, _longest_between(tried, strike_ns)
    return {
        "strike_ns": strike_ns,
        "shut_ns": None,
        "achieved_ns": achieved,
        "lower_ns": lower,
        "upper_ns": upper,
        "uncertainty_ns": upper - lower if upper is not None and lower is not None else None,
        "last_failed_probe": measures.probe(last_failed),
        "first_successful_probe": measures.probe(success),
        "failed_probes": whole["failed"] if whole else len(failures),
        "felt": dataclasses.asdict(felt),
    }


def _last_kept_waiting(tried: Sequence[Event], last_failed: Event, success: Event, strike_ns: int) -> int:
    """The latest instant at which the business was certainly not done as before the strike.

    A transaction that began after the last failed one, and was still waiting when the first success ended, for longer
    than any had taken before the strike, was kept waiting. Without such: when the last failed one began.
    """
    before = [each["ended_ns"] - each["started_ns"] for each in tried
              if each["outcome"] == "succeeded" and each["ended_ns"] <= strike_ns]  # fmt: skip
    earliest: int = last_failed["started_ns"]
    if not before:
        return earliest
    latest = success["ended_ns"] - max(before)
    waited = [int(each["started_ns"]) for each in tried if earliest <= each["started_ns"] < latest]
    return max(waited, default=earliest)


def _longest_between(tried: Sequence[Event], strike_ns: int) -> int:
    """The longest time between the ends of two successes, the later of them after the strike; from it without any."""
    ends = sorted(each["ended_ns"] for each in tried if each["outcome"] == "succeeded")
    since = max((end for end in ends if end <= strike_ns), default=strike_ns)
    after = [since, *(end for end in ends if end > strike_ns)]
    return max((later - earlier for earlier, later in itertools.pairwise(after)), default=0)


def _writers_outage(account: ClusterAccount) -> Outage:
    """The longest outage that the ledger's writer felt through the API; 0 where it felt none."""
    api = next((each for each in account.outages if (each.kind, each.channel) == (outages.WRITES, "api")), None)
    if api is None:
        return Outage()
    gap = api.longest
    if gap is None:
        return Outage(outage_ns=0)
    first = gap.to_ns if gap.ended else None
    return Outage(last_before_ns=gap.from_ns, first_after_ns=first, outage_ns=gap.to_ns - gap.from_ns)


def _unseen(recovered: Mapping[str, Any]) -> Finding:
    last = recovered["last_failed_probe"]
    seen = f"{recovered['failed_probes']} probes failed, and none succeeded after the last" + (
        f", at step {last['step']}: {last['seen']}" if last else ""
    )
    return Finding(code="RECOVERY-UNSEEN", seen=seen, where="recovery time")


def _waited(events: Iterable[Event]) -> bool:
    return any(row["phase"] == "redundant" for row in measures.phases(events))


def _interrupted(events: Iterable[Event]) -> bool:
    return any(row["error"] == measures.INTERRUPTED for row in measures.phases(events))


def _with(controls: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The controls with the drill itself as one more that was planted."""
    planted, caught = controls["planted"] + 1, controls["caught"] + row["caught"]
    return {"planted": planted, "caught": caught, "score": f"{caught}/{planted}", "rows": [row, *controls["rows"]]}


def _reasons(
    events: Sequence[Event], closed: Event | None, proven: Event | None, account: ClusterAccount
) -> Iterator[tuple[Verdict, str]]:
    """Why the drill as a whole does not pass, apart from its findings."""
    for problem in account.problems:
        yield Verdict.ERROR, problem
    yield from measures.endings(events, closed)
    if account.strike_ns is None:
        yield Verdict.ERROR, "nothing was struck"
        return
    if proven is None or not proven["proofs"]:
        yield Verdict.ERROR, "the disaster was not proven"
    if account.accounting is None:
        yield Verdict.ERROR, "the ledger was not accounted for"
    for node, looks in account.seen.looks.items() if account.seen else ():
        if not any(look.t0 >= account.strike_ns for look in looks):
            yield Verdict.ERROR, f"nobody looked at node {node} after the strike: two leaders would not have been seen"
        elif (blind := _unseen_ns(looks, account.strike_ns, _load_ended(events))) > _UNSEEN_NS:
            yield Verdict.ERROR, (f"nobody looked at node {node} for {format_duration(blind)} after the strike: two"
                                  " leaders would not have been seen")  # fmt: skip
    if account.seen is None:
        yield Verdict.ERROR, "there is no witness's record: two leaders at once would not have been seen"
    if not any(each.kind == outages.READS for each in account.outages):
        yield Verdict.ERROR, "there is no record of reads: their outage is not known"
    if not of_kind(events, "redundant") and not _waited(events):
        yield Verdict.ERROR, "it was not waited for that every member streams from the leader again"


def _load_ended(events: Sequence[Event]) -> int:
    return int((last_of(events, "ledger.closed") or {"t": 0})["t"])


def _unseen_ns(looks: Sequence[Look], strike_ns: int, end_ns: int) -> int:
    """The longest time from the strike to the end of the load in which no look at a node was under way."""
    until, longest = strike_ns, 0
    for look in looks:
        longest, until = max(longest, look.t0 - until), max(until, look.t)
    return max(longest, end_ns - until)


def _cluster(events: Sequence[Event], cluster: Mapping[str, Any], account: ClusterAccount) -> dict[str, Any]:
    """What the evidence holds of a failover drill alone."""
    lag, redundant = last_of(events, "cluster.lag"), last_of(events, "redundant")
    mended, copied = of_kind(events, "mended"), last_of(events, "objects.copied")
    probes, seen, strike_ns = last_of(events, "probes"), account.seen, account.strike_ns
    writes, reads = account.longest(outages.WRITES), account.longest(outages.READS)
    return {
        "timing": {key: cluster["timing"][key] for key in _TIMING},
        "settings": dict(cluster["settings"]),
        "variant": cluster["variant"],
        "planned": cluster["planned"],
        "expects": list(cluster["expects"]),
        "floor": {key: cluster["floor"][key] for key in ("low_ns", "high_ns", "why")} if cluster["floor"] else None,
        "longest_write_outage_ns": writes.longest_ns if writes else None,
        "longest_read_outage_ns": reads.longest_ns if reads else None,
        "nodes": [_node(node, account) for node in cluster["nodes"]],
        "leaders": [
            {key: getattr(reign, key) for key in ("node", "timeline", "from_ns", "to_ns")} for reign in seen.reigns
        ] if seen else [],
        "splits": [{**dataclasses.asdict(split), "nodes": list(split.nodes), "timelines": list(split.timelines)}
                   for split in seen.splits] if seen else [],
        "outages": [_outage(each) for each in account.outages],
        "counts": {
            "lost": account.lost, "committed_unacknowledged": account.unacknowledged,
            "zombie_acknowledged": account.zombie, "zombie_lost": account.zombie_lost,
        },
        "lag": {
            "at_ns": lag["at_ns"],
            "leader": lag["leader"],
            "standbys": [{key: each[key] for key in _STANDBY} for each in lag["standbys"]],
        } if lag else None,
        "mended": [{"at_ns": event["at_ns"], "what": event["what"]} for event in mended],
        "redundant": _redundant(redundant, strike_ns, mended),
        "promotions_refused": [
            {key: event[key] for key in ("at_ns", "node", "why")} for event in of_kind(events, "promotion.refused")
        ],
        "objects_copied": {key: copied[key] for key in ("at_ns", "missing", "behind_ns")} if copied else None,
        "probes": {key: probes[key] for key in ("count", "failed")} if probes else None,
    }  # fmt: skip


def rebuilt(events: Sequence[Event], opened: Event, strike_ns: int | None) -> dict[str, Any]:
    """Of a restore drill on a cluster: its timing, and when the cluster was whole again; nothing of any other."""
    if "cluster" not in opened:
        return {}
    timing = opened["cluster"]["timing"]
    redundant = _redundant(last_of(events, "redundant"), strike_ns, ())
    return {"rebuilt": {"timing": {key: timing[key] for key in _TIMING}, "redundant": redundant}}


def _redundant(event: Event | None, strike_ns: int | None, mended: Sequence[Event]) -> dict[str, Any] | None:
    if event is None:
        return None
    return {
        "at_ns": event["at_ns"],
        "after_strike_ns": event["at_ns"] - strike_ns if strike_ns is not None else None,
        "after_mended_ns": event["at_ns"] - mended[-1]["at_ns"] if mended else None,
        "members": [{key: each[key] for key in ("node", "how", "at_ns")} for each in event["members"]],
    }


def _node(node: Mapping[str, Any], account: ClusterAccount) -> dict[str, Any]:
    """One node: where it is, how closely it was watched, and what was seen of it."""
    looks = account.seen.looks[node["name"]] if account.seen else ()
    apart = [later.t0 - earlier.t0 for earlier, later in itertools.pairwise(looks)]
    return {
        "name": node["name"],
        "address": node["address"],
        "looks": len(looks),
        "longest_unseen_ns": max(apart, default=None),
        "spans": [
            {"state": span.state.value, "timeline": span.timeline, "from_ns": span.from_ns, "to_ns": span.to_ns}
            for span in (account.seen.spans[node["name"]] if account.seen else ())
        ],
    }


def _outage(each: ChannelOutage) -> dict[str, Any]:
    return {**dataclasses.asdict(each), "spans": [dataclasses.asdict(gap) for gap in each.spans]}

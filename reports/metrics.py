"""A run and its history as metrics for the textfile collector of Prometheus' node_exporter.

Times are seconds, instants Unix seconds. Nothing is measured here and no clock is read: how old something is, the alert
rules compute. There is no sample of a figure that was not measured, of a target that is not set, and of a loss of which
only the least is known: 0 would be a lie.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from reports import wording
from reports.population import PastDrill, PastRun, State
from reports.records import NANOSECONDS, Verdict
from reports.staleness import stale_days

FILE_NAME: Final = "metrics.prom"
LONGEST_LABEL: Final = 120
# Of each drill. `level` is destroy, shadow or failover; `stand_in` is true for the reference application, which is not
# the product; `stock_timing` is false where a cluster waits shorter than Patroni accepts, and no time is to be quoted.
LABELS: Final = ("drill", "level", "architecture", "disaster", "stand_in", "stock_timing")
VERDICTS: Final = tuple(verdict.value for verdict in Verdict if verdict is not Verdict.NO_TARGET)
_SECONDS_OF_A_DAY: Final = 86_400


def exposition(evidence: Mapping[str, Any], population: Sequence[PastRun]) -> str:
    """The metrics in Prometheus' text format 0.0.4.

    Args:
        evidence: the newest run's ``evidence.json``.
        population: every run so far, oldest first, that one among them. Of each drill the newest run with it counts;
            runs that go on are left out, those that were retired are counted.
    """
    registry = CollectorRegistry()
    ended = [run for run in population if run.state is not State.RUNNING and run.opened]
    _of_runs(registry, evidence, ended)
    # What was opened after the newest run had ended makes nothing fresh: a wrong clock would silence alerts for ever.
    now = datetime.datetime.fromisoformat(evidence["closed_utc"] or evidence["opened_utc"])
    _of_drills(registry, ended, now)
    _of_checks(registry, ended, now)
    return generate_latest(registry).decode()


def _of_runs(registry: CollectorRegistry, evidence: Mapping[str, Any], runs: Sequence[PastRun]) -> None:
    """What is known of whole runs."""

    def gauge(name: str, told: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"enprivacy_{name}", told, labels, registry=registry)

    suite = gauge("suite_info", "The suite that made the newest run; always 1.", ("version", "commit"))
    suite.labels(_label(evidence["suite"]["version"]), _label(evidence["suite"]["commit"])).set(1)
    opened = _seconds(evidence["opened_utc"])
    gauge("run_last_timestamp_seconds", "When the newest run that wrote evidence began, Unix seconds.").set(opened)
    verdict = gauge("run_verdict", "1 for the newest run's verdict, 0 for the others.", ("verdict",))
    for each in VERDICTS:
        verdict.labels(each).set(evidence["verdict"] == each)
    controls = evidence["controls"]
    gauge("run_controls_planted", "Negative controls of the newest run: damage planted.").set(controls["planted"])
    gauge("run_controls_caught", "Negative controls of the newest run: damage caught.").set(controls["caught"])
    stale = gauge("evidence_stale_after_seconds", "How old the newest success may be before the evidence is stale.")
    stale.set(stale_days(evidence) * _SECONDS_OF_A_DAY)
    known = gauge("runs", "Runs on record, by how they ended; those that were aborted among them.", ("end",))
    ends = [run.verdict.value if run.state is State.CLOSED and run.verdict else run.state.value for run in runs]
    for end in (*VERDICTS, *(state.value for state in State if state not in (State.CLOSED, State.RUNNING))):
        known.labels(end).set(ends.count(end))


def _of_drills(registry: CollectorRegistry, runs: Sequence[PastRun], now: datetime.datetime) -> None:
    """The newest figures of every drill on record, and when it last passed."""

    def gauge(name: str, told: str, *more: str) -> Gauge:
        return Gauge(f"enprivacy_drill_{name}", told, (*LABELS, *more), registry=registry)

    last = gauge("last_run_timestamp_seconds", "When the newest run with this drill began, Unix seconds.")
    success = gauge("last_success_timestamp_seconds", "When the newest run began in which this drill passed, Unix"
                    " seconds; no sample where it never did.")  # fmt: skip
    verdict = gauge("verdict", "1 for the newest verdict of this drill, 0 for the others.", "verdict")
    figures = {
        "recovery_time_ns": gauge("recovery_time_seconds", "Recovery time achieved in the newest run of this drill."),
        "recovery_time_target_ns": gauge("recovery_time_target_seconds", "Recovery time objective it was held to."),
        "recovery_point_ns": gauge("recovery_point_seconds", "Recovery point achieved in the newest run of it."),
        "recovery_point_target_ns": gauge("recovery_point_target_seconds", "Recovery point objective it was held to."),
    }
    newest: dict[tuple[str, ...], tuple[float, PastDrill]] = {}
    for run in runs:
        for drill in run.drills:
            if drill.negative_control:
                continue  # made to fail: no figure of it is one of a deployment
            at, labels = _seconds(run.opened_utc), _labels(drill)
            newest[labels] = (at, drill)
            if drill.verdict is Verdict.PASSED and run.proves(now):
                success.labels(*labels).set(at)
    for labels, (at, drill) in sorted(newest.items()):
        last.labels(*labels).set(at)
        for each in VERDICTS:
            verdict.labels(*labels, each).set(drill.verdict == each)
        for field, metric in figures.items():
            value = getattr(drill, field)
            if value is not None and not (field == "recovery_point_ns" and drill.lower_bound):
                metric.labels(*labels).set(value / NANOSECONDS)


def _of_checks(registry: CollectorRegistry, runs: Sequence[PastRun], now: datetime.datetime) -> None:
    """The newest verdict of the conformance checks, and when they last passed."""

    def gauge(name: str, told: str, *labels: str) -> Gauge:
        return Gauge(f"enprivacy_conformance_{name}", told, labels, registry=registry)

    verdict = gauge("verdict", "1 for the newest verdict of the conformance checks, 0 for the others.", "stand_in",
                    "verdict")  # fmt: skip
    success = gauge("last_success_timestamp_seconds", "When the newest run began in which the conformance checks"
                    " passed, Unix seconds; no sample where they never did.", "stand_in")  # fmt: skip
    for run in runs:
        if run.conformance is None:
            continue
        stand_in = str(run.stand_in).lower()
        for each in VERDICTS:
            verdict.labels(stand_in, each).set(run.conformance == each)
        if run.conformance is Verdict.PASSED and run.proves(now):
            success.labels(stand_in).set(_seconds(run.opened_utc))


def _labels(drill: PastDrill) -> tuple[str, ...]:
    shown = (_label(each) for each in (drill.drill, drill.level, drill.architecture, drill.disaster))
    return (*shown, str(drill.stand_in).lower(), str(not drill.not_stock).lower())


def _label(text: object) -> str:
    return wording.one_line(text, LONGEST_LABEL)


def _seconds(utc: str) -> float:
    return datetime.datetime.fromisoformat(utc).timestamp()

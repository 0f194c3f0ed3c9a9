"""The metrics of a run and its history, read again by the client's parser and by promtool, and the alert rules."""

import dataclasses
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reports import metrics
from reports.population import PastDrill, PastRun, State
from reports.records import NANOSECONDS, Verdict

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMTOOL = Path(__file__).parents[2] / ".cache/prometheus/promtool"
needs_promtool = pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is not in .cache/prometheus")
PASSED = PastDrill(
    drill="single-node-pg_dump-rclone-total_loss", architecture="single-node", provider="embedded", level="destroy",
    disaster="total_loss", methods={}, scale={}, stand_in=True, verdict=Verdict.PASSED, negative_control=False,
    not_stock="", recovery_time_ns=1_500_000_000, recovery_point_ns=0, recovery_time_target_ns=60 * NANOSECONDS,
)  # fmt: skip
FAILED = dataclasses.replace(PASSED, verdict=Verdict.FAILED, recovery_time_ns=None)
EVIDENCE = {"suite": {"version": "0.1.0", "commit": "c0ffee"}, "opened_utc": "2026-11-22T00:00:00Z",
            "closed_utc": "2026-11-22T00:01:00Z", "verdict": "failed",
            "controls": {"planted": 75, "caught": 74}}  # fmt: skip
FIRST, SECOND = 1_795_219_200, 1_795_305_600  # 21 and 22 November 2026, midnight UTC


def past(day, *drills, state=State.CLOSED, verdict=Verdict.PASSED, **given):
    return PastRun(run_id=f"202611{day}T000000Z-0000", directory=Path(), state=state, verdict=verdict,
                   opened_utc=f"2026-11-{day}T00:00:00Z", drills=drills, **given)  # fmt: skip


def samples(*runs, evidence=EVIDENCE):
    """The samples by name, each as its labels and its value."""
    read = {}
    for family in text_string_to_metric_families(metrics.exposition(evidence, runs)):
        for sample in family.samples:
            read.setdefault(sample.name.removeprefix("enprivacy_"), []).append((sample.labels, sample.value))
    return read


def value(read, name):
    [(_, one)] = read[name]
    return one


def ones(read, name, label):
    return [labels[label] for labels, value in read[name] if value == 1]


def promtool(*arguments, text=None):
    return subprocess.run([PROMTOOL, *arguments], input=text, capture_output=True, text=True, timeout=60)


def test_the_newest_figures_stand_in_seconds_beside_their_targets():
    read = samples(past(21, dataclasses.replace(PASSED, recovery_time_ns=9)), past(22, PASSED))
    assert value(read, "drill_recovery_time_seconds") == 1.5
    assert value(read, "drill_recovery_time_target_seconds") == 60
    assert value(read, "drill_recovery_point_seconds") == 0
    assert value(read, "drill_last_success_timestamp_seconds") == SECOND


def test_what_was_not_measured_and_a_target_that_is_not_set_have_no_sample():
    read = samples(past(22, FAILED))
    assert not {"drill_recovery_time_seconds", "drill_recovery_point_target_seconds",
                "drill_last_success_timestamp_seconds"} & set(read)  # fmt: skip


def test_a_loss_of_which_only_the_least_is_known_has_no_sample():
    assert "drill_recovery_point_seconds" not in samples(past(22, dataclasses.replace(PASSED, lower_bound=True)))


def test_a_drill_that_fails_keeps_the_time_of_its_last_success():
    read = samples(past(21, PASSED), past(22, FAILED))
    assert value(read, "drill_last_success_timestamp_seconds") == FIRST
    assert value(read, "drill_last_run_timestamp_seconds") == SECOND
    assert ones(read, "drill_verdict", "verdict") == ["failed"]


def test_a_drill_that_passed_in_a_run_that_was_aborted_is_no_success():
    assert "drill_last_success_timestamp_seconds" not in samples(past(22, PASSED, state=State.ABORTED))


@pytest.mark.parametrize("wrong", [{"verdict": Verdict.ERROR}, {"opened_utc": "2099-01-01T00:00:00Z"}])
def test_what_passed_in_a_run_that_broke_off_or_by_a_clock_that_is_ahead_is_no_success(wrong):
    later = dataclasses.replace(past(22, PASSED, conformance=Verdict.PASSED), **wrong)
    read = samples(past(21, PASSED, conformance=Verdict.PASSED), later)
    for name in ("drill_last_success_timestamp_seconds", "conformance_last_success_timestamp_seconds"):
        assert value(read, name) == FIRST


def test_a_drill_on_a_stand_in_and_one_with_another_timing_are_apart():
    others = (dataclasses.replace(PASSED, stand_in=False), dataclasses.replace(PASSED, not_stock="NOT STOCK: ttl 5 s"))
    told = samples(past(22, PASSED, *others))["drill_verdict"]
    assert {(labels["stand_in"], labels["stock_timing"]) for labels, _ in told} == {
        ("true", "true"), ("false", "true"), ("true", "false")}  # fmt: skip


def test_a_negative_control_of_a_cluster_has_no_figure():
    assert "drill_verdict" not in samples(past(22, dataclasses.replace(FAILED, negative_control=True)))


def test_every_run_is_counted_by_how_it_ended():
    read = samples(past(20), past(21, state=State.ABORTED, verdict=Verdict.ERROR), past(22, verdict=Verdict.FAILED),
                   past(23, state=State.RUNNING, verdict=None))  # fmt: skip
    assert {labels["end"]: count for labels, count in read["runs"] if count} == {"passed": 1, "aborted": 1, "failed": 1}


def test_the_newest_run_tells_its_verdict_its_controls_and_when_it_is_stale():
    read = samples(evidence={**EVIDENCE, "context": {"stale_days": 30}})
    assert ones(read, "run_verdict", "verdict") == ["failed"]
    assert (value(read, "run_controls_planted"), value(read, "run_controls_caught")) == (75, 74)
    assert value(read, "run_last_timestamp_seconds") == SECOND
    assert value(read, "evidence_stale_after_seconds") == 30 * 86_400


def test_conformance_keeps_the_time_of_its_last_success():
    read = samples(past(21, conformance=Verdict.PASSED), past(22, conformance=Verdict.FAILED))
    assert value(read, "conformance_last_success_timestamp_seconds") == FIRST
    assert ones(read, "conformance_verdict", "verdict") == ["failed"]


HOSTILE = dataclasses.replace(PASSED, drill='a"\n} 1\nevil 1\\' + "x" * 1_000_000, disaster="\x1b[31m\u202e<b>")


def test_hostile_names_are_escaped_and_bounded():
    text = metrics.exposition(EVIDENCE, [past(22, HOSTILE)])
    assert len(text) < 20_000
    assert not any(line.startswith("evil") for line in text.splitlines())
    [(labels, _)] = samples(past(22, HOSTILE))["drill_recovery_time_seconds"]
    assert labels["drill"].startswith('a" } 1 evil 1\\xxx')
    assert labels["disaster"] == "<U+202E><b>"


@needs_promtool
@pytest.mark.parametrize("drill", [PASSED, HOSTILE], ids=["plain", "hostile"])
def test_promtool_reads_the_metrics_and_finds_nothing_to_say(drill):
    checked = promtool("check", "metrics", text=metrics.exposition(EVIDENCE, [past(22, drill)]))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_promtool
def test_promtool_finds_fault_with_what_is_none():
    assert promtool("check", "metrics", text="enprivacy_x{ 1\n").returncode != 0


@needs_promtool
@pytest.mark.parametrize(("verb", "name"), [("check", "prometheus-alerts.yml"), ("test", "prometheus-alerts.test.yml")])
def test_the_alert_rules_are_rules_and_fire_when_they_should(verb, name):
    checked = promtool(verb, "rules", EXAMPLES / name)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_metric_that_a_rule_asks_for_is_written():
    written = set(samples(past(22, PASSED)))
    rules = (EXAMPLES / "prometheus-alerts.yml").read_text("utf-8")
    asked = {word for word in rules.replace("{", " ").replace("(", " ").replace(")", " ").split()
             if word.startswith("enprivacy_")}  # fmt: skip
    assert asked
    assert {name.removeprefix("enprivacy_") for name in asked} <= written | {"drill_recovery_point_target_seconds"}

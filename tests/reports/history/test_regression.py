"""The finding that a recovery took longer than the last ones like it."""

import re

import pytest

from reports import evidence, population, regression
from reports.assessment import assess_run
from reports.records import UsageProblem, read_journal
from reports.run import Run

S = 1_000_000_000


def compared(past, **changes):
    """What a run like the others would be compared with."""
    events = [dict(event) for event in read_journal(past.built / "journal.jsonl")]
    for event in events:
        if event["kind"] == "drill.opened":
            event |= changes
    (facts,) = regression.facts(events, past.runs())
    return facts


def judged(made, achieved_ms, past_ms):
    """The evidence of a drill that took so long after these."""
    run = made(recovery=achieved_ms * 1_000_000, rto=60 * S)
    rows = [{"run_id": f"run-{n}", "achieved_ns": each * 1_000_000} for n, each in enumerate(past_ms)]
    same = compared_with_nothing(run)
    closed = run.journal.events.pop()
    run.journal.drill(regression.KIND, closed["t"], same=same, compared=rows, unlike=0)
    run.journal.write("run.closed", closed["t"], exit=0)
    run.journal.save(run.directory)
    found = assess_run(run.directory)
    assert not evidence.problems(found)
    return found["drills"][0]


def compared_with_nothing(run):
    (facts,) = regression.facts(run.journal.events, [])
    return facts["same"]


def open_drill(run, past):
    opened = next(event for event in read_journal(past.built / "journal.jsonl") if event["kind"] == "drill.opened")
    envelope = ("n", "t", "utc", "kind", "prev", "hash")
    run.journal.write("drill.opened", **{key: value for key, value in opened.items() if key not in envelope})


def test_a_recovery_far_beyond_the_spread_of_the_last_is_a_notice_and_fails_nothing(made):
    drill = judged(made, 9_000, [4_000, 4_100, 4_200, 4_000, 3_900])
    (finding,) = [each for each in drill["findings"] if each["code"] == "RECOVERY-SLOWER"]
    assert (finding["severity"], drill["verdict"]) == ("notice", "passed")
    assert "9 s" in finding["seen"] and "4 s in the median" in finding["seen"]
    assert drill["history"]["judgement"] == "slower"


@pytest.mark.parametrize(
    ("achieved_ms", "past_ms", "judgement"),
    [
        (4_400, [4_000, 4_100, 4_200, 4_000, 3_900], "not slower"),
        (9_000, [4_000, 4_100, 4_200, 4_000], "too few to tell"),
        (9_000, [], "too few to tell"),
        (6_500, [2_000, 5_000, 4_000, 3_000, 6_000], "not slower"),  # they are as far apart as that
        (4_900, [4_000, 4_000, 4_000, 4_000, 60_000], "slower"),  # one wild run widens nothing
    ],
)
def test_what_is_within_the_spread_or_has_too_few_before_it_is_no_finding(made, achieved_ms, past_ms, judgement):
    drill = judged(made, achieved_ms, past_ms)
    assert drill["history"]["judgement"] == judgement
    assert any(each["code"] == "RECOVERY-SLOWER" for each in drill["findings"]) == (judgement == "slower")


def test_the_limit_is_the_median_and_the_greatest_of_the_three_allowances():
    assert regression.limit([100, 100, 100, 100, 100], 0) == (100, 0, 110)
    assert regression.limit([100, 100, 100, 100, 100], 40) == (100, 0, 140)
    assert regression.limit([80, 90, 100, 110, 120], 0) == (100, 14, 142)


def test_a_figure_of_the_journal_alone_is_computed_again_without_the_runs(made):
    drill = judged(made, 9_000, [4_000] * 5)
    assert [row["run_id"] for row in drill["history"]["compared"]] == [f"run-{n}" for n in range(5)]


def test_only_the_last_passed_runs_are_compared_with(past):
    past.add(9, verdict="failed")
    past.add(8, aborted=True)
    for days in range(30, 9, -1):
        past.add(days, seconds=days)
    facts = compared(past)
    assert [row["achieved_ns"] // S for row in facts["compared"]] == list(range(29, 9, -1))
    assert facts["unlike"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "high-availability"},
        {"provider": "containers"},
        {"scale": {"documents": 1_000_000}},
        {"stand_in": False},
        {"cluster": {"timing": {"stock": False, "label": "NOT STOCK: fast"}}},
    ],
)
def test_a_run_under_other_conditions_is_counted_and_not_compared_with(past, changes):
    past.add()
    assert compared(past)["compared"]
    facts = compared(past, **changes)
    assert (facts["compared"], facts["unlike"]) == ([], 1)


def test_another_machine_or_profile_is_another_condition(past):
    past.add(2, host={"system": "Linux 6.1.0 x86_64", "python": "3.11.9", "processors": 64})
    past.add(1, profile={"name": "other.toml", "sha256": ""})
    assert compared(past)["unlike"] == 2


def test_a_negative_control_of_a_cluster_is_compared_with_nothing(past):
    past.add()
    events = [dict(event) for event in read_journal(past.built / "journal.jsonl")]
    opened = next(event for event in events if event["kind"] == "drill.opened")
    opened["cluster"] = {"timing": {"stock": True, "label": "stock"}, "expects": ["SPLIT-BRAIN"]}
    assert list(regression.facts(events, past.runs())) == []


def test_a_run_writes_what_it_was_compared_with_before_it_is_closed(past, tmp_path):
    for days in range(6):
        past.add(days)
    run = Run(past.directory, profile={"name": "built-in", "sha256": ""})
    open_drill(run, past)
    run.close(0)
    kinds = [event["kind"] for event in read_journal(run.directory / "journal.jsonl")]
    assert kinds.index("history.read") < kinds.index("run.closed")
    assert kinds.count("history.read") == 1


def test_runs_that_cannot_be_listed_are_told_of_and_take_no_evidence_with_them(past, monkeypatch):
    def refuse(directory):
        raise UsageProblem(str(directory), seen="permission denied", remedy="let it be read")

    run = Run(past.directory)
    open_drill(run, past)
    monkeypatch.setattr(population, "read", refuse)
    told = run.close(0)
    assert any(re.search("permission denied", each["reason"]) for each in told["not_tested"])

"""The population: every run is in it, whatever became of it."""

import fcntl
import json
import os
import shutil

import pytest

from reports.population import State, last_successes, read, scenarios, since, summary_of
from reports.records import UsageProblem, Verdict
from reports.register import retire


def states(past):
    return {run.run_id: run.state for run in past.runs()}


def test_a_closed_run_is_summed_up_with_the_figures_of_its_evidence(past):
    directory = past.add(seconds=7)
    (run,) = past.runs()
    (drill,), kept = run.drills, past.kept["drills"][0]
    assert (run.run_id, run.verdict, run.state) == (directory.name, Verdict.PASSED, State.CLOSED)
    assert (drill.recovery_time_ns, drill.recovery_time_target_ns) == (7_000_000_000, 10_000_000_000)
    assert (drill.recovery_point_ns, drill.recovery_point_target_ns) == (
        kept["recovery_point"]["achieved_ns"], 60_000_000_000)  # fmt: skip
    assert run.score == past.kept["controls"]["score"]
    assert run.stand_in and not run.sealed


def test_runs_come_oldest_first(past):
    made = [past.add(days).name for days in (3, 9, 1)]
    assert [run.run_id for run in past.runs()] == [made[1], made[0], made[2]]


def test_an_aborted_run_is_in_it_as_an_error_with_what_it_wrote(past):
    past.add(aborted=True)
    (run,) = past.runs()
    assert (run.state, run.verdict, run.aborted) == (State.ABORTED, Verdict.ERROR, True)
    assert [drill.verdict for drill in run.drills] == [Verdict.ERROR]
    assert "drills opened: 1, closed: 1" in run.problem


def test_a_run_whose_journal_is_held_is_running_and_has_no_verdict(past):
    with (past.add(aborted=True) / "journal.jsonl").open() as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        (run,) = past.runs()
    assert (run.state, run.verdict) == (State.RUNNING, None)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("evidence.json", b"{", "evidence.json cannot be read"),
        ("evidence.json", b'{"drills": 3}', "evidence.json cannot be read"),
        ("evidence.json", b"[" * 100_000, "evidence.json cannot be read"),
        ("evidence.json", b"\xff\xfe", "evidence.json cannot be read"),
        ("evidence.json", None, "it was closed, and evidence.json is missing"),
        ("journal.jsonl", None, "it has no journal.jsonl"),
    ],
)
def test_a_run_that_cannot_be_read_is_in_it_as_broken_with_the_reason(past, name, content, told):
    path = past.add() / name
    path.write_bytes(content) if content is not None else path.unlink()
    (run,) = past.runs()
    assert (run.state, run.verdict) == (State.BROKEN, Verdict.ERROR)
    assert told in run.problem


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema_version", 9), ("opened_utc", "yesterday"), ("verdict", "splendid"), ("run_id", "20200101T000000Z-aaaa")],
)
def test_an_evidence_of_which_one_field_is_wrong_is_broken(past, field, value):
    path = past.add() / "evidence.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert list(states(past).values()) == [State.BROKEN]


@pytest.mark.parametrize("figure", [-1, 2**53, 10**40, 1.5, "4"])
def test_a_figure_that_no_journal_can_hold_makes_a_run_broken(past, figure):
    path = past.add() / "evidence.json"
    kept = json.loads(path.read_text())
    kept["drills"][0]["recovery_time"]["achieved_ns"] = figure
    path.write_text(json.dumps(kept))
    assert list(states(past).values()) == [State.BROKEN]


def test_evidence_of_before_there_were_scores_levels_and_history_is_read(past):
    path = past.add() / "evidence.json"
    kept = json.loads(path.read_text())
    for key in ("controls", "summary", "conformance", "not_tested"):
        del kept[key]
    path.write_text(json.dumps(kept))
    (run,) = past.runs()
    assert (run.state, run.drills[0].level) == (State.CLOSED, "destroy")
    assert run.planted > 0


def test_a_run_that_the_register_holds_and_the_disk_does_not_is_missing_or_retired(past):
    retired, missing, kept = past.add(3, seconds=6), past.add(2), past.add(1)
    (run, *_) = past.runs()
    retire(past.directory, [(retired.name, summary_of(run))])
    for place in (retired, missing):
        shutil.rmtree(place)
    assert states(past) == {retired.name: State.RETIRED, missing.name: State.MISSING, kept.name: State.CLOSED}
    assert past.runs()[0].drills == run.drills


def test_a_retired_run_keeps_what_could_not_be_tested_and_how_often_it_was_signed_off(past):
    place = past.add(not_tested=[{"what": "disaster page_damaged", "reason": "no root"}])
    (place / "sign-off-1.dsse.json").write_text("")
    retire(past.directory, [(place.name, summary_of(past.runs()[0]))])
    shutil.rmtree(place)
    (run,) = past.runs()
    assert (run.not_tested, run.sign_offs) == ((("disaster page_damaged", "no root"),), 1)


def test_a_register_with_a_line_that_cannot_be_read_is_told_of_and_hides_no_run(past):
    place = past.add()
    (past.directory / "register.jsonl").write_text("nonsense\n")
    assert states(past) == {"register.jsonl": State.BROKEN, place.name: State.CLOSED}


def test_the_controls_of_a_rehearsal_are_in_the_score(past):
    kept, rehearsed = past.kept["controls"], {"controls": {"planted": 7, "caught": 6}}
    past.add(rehearsal=rehearsed)
    assert past.runs()[0].score == f"{kept['caught'] + 6}/{kept['planted'] + 7}"


@pytest.mark.parametrize("system", ["Linux 6.1.0-44 x86_64", "Linux 6.12.1 x86_64", "Linux x86_64"])
def test_a_machine_is_the_same_after_an_update_of_its_kernel(past, system):
    past.add(host={"system": system, "processors": 2})
    assert past.runs()[0].host == "Linux x86_64, 2 processors"


def test_a_directory_of_something_else_is_no_run(past):
    (past.directory / "notes").mkdir()
    assert past.runs() == []


def test_a_directory_that_is_not_there_is_one_clear_problem(tmp_path):
    with pytest.raises(UsageProblem, match="name the directory that holds the directories of runs"):
        read(tmp_path / "nowhere")


def test_the_last_success_is_the_newest_run_in_which_all_drills_of_the_kind_passed(past, now):
    past.add(30)
    past.add(20, verdict="failed")
    past.add(10, aborted=True)
    (success,) = last_successes(past.runs(), now)
    assert (success.architecture, success.level, success.stand_in) == ("single-node", "destroy", True)
    assert success.days(now) == 30


def test_a_run_that_broke_off_after_its_first_drill_is_no_success(past, now):
    past.add(20)
    past.add(1, verdict="error", drill={"verdict": "passed"})
    (success,) = last_successes(past.runs(), now)
    assert success.days(now) == 20


def test_a_run_of_a_clock_that_is_ahead_is_no_success_and_hides_none(past, now):
    past.add(20)
    past.add(-26_000)
    (success,) = last_successes(past.runs(), now)
    assert success.days(now) == 20


def test_a_kind_that_never_passed_is_listed_without_a_success(past, now):
    past.add(verdict="failed")
    (success,) = last_successes(past.runs(), now)
    assert (success.run, success.days(now)) == (None, None)


def test_a_negative_control_of_a_cluster_is_no_success_by_itself(past, now):
    timing = {"timing": {"stock": True, "label": "stock"}, "expects": ["SPLIT-BRAIN"]}
    past.add(drill={"level": "failover", "failover": timing})
    (success,) = last_successes(past.runs(), now)
    assert success.run is None


def test_the_stand_in_never_stands_for_the_product(past, now):
    past.add(5)
    past.add(400, drill={"stand_in": False})
    assert [(each.stand_in, each.run.run_id[:4]) for each in last_successes(past.runs(), now)] == [
        (False, "2025"), (True, "2026")]  # fmt: skip


def test_drills_are_gathered_by_scenario_and_other_profiles_apart(past):
    for profile in ("one.toml", "one.toml", "two.toml"):
        past.add(profile={"name": profile, "sha256": ""})
    assert [(each.profile, len(drills)) for each, drills in scenarios(past.runs()).items()] == [
        ("one.toml", 2), ("two.toml", 1)]  # fmt: skip


def test_a_period_includes_its_first_and_last_day(past, now):
    for days in (1, 2, 3, 4):
        past.add(days)
    day = now.date()
    kept = since(past.runs(), day.replace(day=day.day - 3), day.replace(day=day.day - 2))
    assert [run.run_id[6:8] for run in kept] == ["19", "20"]


def test_a_run_whose_journal_is_no_file_is_listed_as_broken(past):
    directory = past.add()
    (directory / "journal.jsonl").unlink()
    os.mkfifo(directory / "journal.jsonl")
    (run,) = past.runs()
    assert (run.state, run.problem) == (State.BROKEN, "journal.jsonl is no file")

"""``python -m reports retain``: what goes, what stays, and that nothing goes silently."""

import fcntl
import hashlib
import json
import shutil

import pytest

from reports import evidence, register, retention
from reports.__main__ import main
from reports.assessment import assess_run
from reports.population import State
from reports.records import GENESIS, canonical

DRILL = "single-node-pg_dump-total_loss"


@pytest.fixture
def past(past):
    """As in the conftest, but what is added holds: its journal is chained anew and its figures are computed."""
    add = past.add

    def add_one_that_holds(days=0, *, verdict="passed", **given):
        place = add(days, verdict=verdict, **given)
        events, path, before = [], place / "journal.jsonl", GENESIS
        for event in map(json.loads, path.read_text("utf-8").splitlines()):
            if event["kind"] == "drill.opened" and verdict == "failed":
                event["objectives"]["rto"]["target_ns"] = 1
            event |= {"prev": before}
            body = {key: value for key, value in event.items() if key != "hash"}
            before = event["hash"] = hashlib.sha256(canonical(body)).hexdigest()
            events.append(canonical(event) + b"\n")
        path.write_bytes(b"".join(events))
        shutil.copytree(past.built / DRILL, place / DRILL)
        if "drill" not in given:
            evidence.write(assess_run(place), place / "evidence.json")
        return place

    past.add = add_one_that_holds
    return past


def plan(past, now, **options):
    return retention.plan(past.runs(), now, **{"keep_days": 30, **options})


def names(runs):
    return [run.run_id for run in runs]


@pytest.fixture
def retain(past, capsys):
    """The exit code, and what the command printed."""

    def run(*options):
        code = main(["retain", str(past.directory), "--keep-days", "30", *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_what_is_older_goes_and_what_is_not_stays(past, now):
    old, _ = past.add(31), past.add(30)
    past.add(1)
    assert names(plan(past, now).go) == [old.name]


def test_the_last_runs_stay_however_old(past, now):
    places = [past.add(days, verdict="failed") for days in (90, 80, 70)]
    assert names(plan(past, now, keep_last=2).go) == [places[0].name]


def test_the_last_success_of_an_architecture_is_never_deleted(past, now):
    past.add(90)
    newest = past.add(80)
    past.add(70, verdict="failed")
    other = past.add(300, drill={"architecture": "high-availability"})
    stay = {run.run_id: reason for run, reason in plan(past, now).stay}
    assert stay == {newest.name: "the last success of single-node", other.name: "the last success of high-availability"}
    assert len(plan(past, now).go) == 2


def test_a_run_that_is_still_being_sealed_is_not_deleted(past, now):
    place = past.add(90, verdict="failed")
    with (place / "journal.jsonl").open() as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert [reason for _, reason in plan(past, now).stay] == ["it is running"]


def test_what_cannot_be_read_is_not_deleted(past, now):
    (past.add(90) / "evidence.json").write_text("{")
    assert "cannot be read" in plan(past, now).stay[0][1]


@pytest.mark.parametrize("name", ["naïve", "x" * 2_000_000])
def test_a_run_whose_figures_the_register_cannot_keep_is_not_deleted(past, now, name):
    past.add(90, verdict="failed", drill={"methods": {name: "pg_dump"}})
    assert "its figures" in plan(past, now).stay[0][1]


def test_a_run_whose_files_differ_is_not_deleted(past, now):
    place = past.add(90, verdict="failed")
    past.add(1)
    path = place / "evidence.json"
    path.write_text(path.read_text().replace('"verdict": "failed"', '"verdict": "passed"'))
    past.add(80)
    assert next(reason for _, reason in plan(past, now).stay).startswith("its files differ, see verify: evidence.json")


def test_without_delete_nothing_is_changed(past, retain):
    past.add(90, verdict="failed")
    past.add(1)
    code, text = retain()
    assert code == 0
    assert "would go" in text and "nothing was changed" in text
    assert len(past.runs()) == 2 and not (past.directory / "register.jsonl").exists()


def test_a_deleted_run_stays_in_the_register_and_in_the_history_with_its_figures(past, retain):
    place = past.add(90, verdict="failed", seconds=9)
    past.add(1)
    (before, _) = past.runs()
    assert retain("--delete")[0] == 0
    assert not place.exists()
    after = past.runs()[0]
    assert (after.run_id, after.state, after.verdict, after.drills) == (
        place.name, State.RETIRED, before.verdict, before.drills)  # fmt: skip
    line = register.latest(register.read(past.directory))[place.name]
    assert (line["state"], len(line["sha256"])) == ("retired", 64)


def test_a_removal_that_was_interrupted_is_finished_by_the_next(past, retain):
    place = past.add(90, verdict="failed")
    past.add(1)
    kept = shutil.copytree(place, past.directory.parent / "kept")
    retain("--delete")
    place.mkdir()
    (place / "evidence.json").write_bytes((kept / "evidence.json").read_bytes())
    code, text = retain("--delete")
    assert (code, place.exists()) == (0, False)
    assert f"deleted  {place.name}" in text
    assert len(register.read(past.directory)) == 3  # two runs, and one retired once


def test_a_register_that_does_not_hold_lets_nothing_be_deleted(past, retain):
    place = past.add(90, verdict="failed")
    past.add(1)
    (past.directory / "register.jsonl").write_text(json.dumps({"n": 0}) + "\n")
    code, text = retain("--delete")
    assert (code, place.exists()) == (4, True)
    assert "the chain of digests is broken" in text


def test_how_long_to_keep_must_be_said(past, capsys):
    assert main(["retain", str(past.directory)]) == 4
    assert "--keep-days" in capsys.readouterr().err

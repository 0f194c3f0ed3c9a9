"""The decision from facts alone: what makes a go, a no-go, and what leaves it undecided."""

import copy
import dataclasses
from pathlib import Path

import pytest

from reports import gate
from reports.population import PastDrill, PastRun, State
from reports.records import HarnessError, Verdict

HOUR = 3600 * 10**9
SET = {"target_ns": 4 * HOUR, "source": "tier standard"}
UNSET = {"target_ns": None, "source": "Operations Guide: TODO"}


def opened(**changes):
    return {
        "kind": "gate.opened", "deployment": "acme", "stand_in": False, "targets": {"rto": SET, "rpo": SET},
        "frequency": dict.fromkeys(gate.COMPONENTS, SET), "stale_days": 90, "upgrade": {"old": "3.0", "new": "3.1"},
    } | changes  # fmt: skip


def prerequisite(**changes):
    return {
        "kind": "gate.prerequisite", "what": "disk", "state": "works", "seen": "9 GiB free", "remedy": "a disk",
        "here": True,
    } | changes  # fmt: skip


def backup(component, **changes):
    return {
        "kind": "gate.backup", "component": component, "known": True, "seen": "set a", "age_ns": HOUR,
        "limit_ns": 2 * HOUR, "limit_source": "frequency by tier standard", "remedy": "make one", "error": "",
    } | changes  # fmt: skip


def past(opened_utc="2026-08-26T00:00:00.000000Z"):
    last = {"run_id": "20260826T000000Z-0000", "opened_utc": opened_utc, "drill": "shadow-restore"}
    return {"kind": "gate.past", "runs": 3, "last": last if opened_utc else None}


SHADOW = {
    "drill": "shadow-restore", "level": "shadow", "verdict": "passed", "findings": [], "reasons": [],
    "objectives": [{"objective": "rto", "achieved_ns": HOUR}, {"objective": "rpo", "achieved_ns": HOUR}],
}  # fmt: skip
REHEARSAL = {
    "old": "3.0", "new": "3.1", "verdict": "passed", "findings": [], "reasons": [], "not_tested": [],
    "upgrade_time": {"achieved_ns": HOUR}, "rollback_time": {"achieved_ns": HOUR},
}  # fmt: skip
EVIDENCE = {
    "run_id": "20261123T000000Z-0000", "opened_utc": "2026-11-23T00:00:00.000000Z", "exit": 0, "reasons": [],
    "closed_utc": "2026-11-23T00:10:00.000000Z", "profile": {"name": "acme.toml", "sha256": ""},
    "suite": {"name": "s", "version": "1", "commit": "", "source_sha256": ""}, "drills": [SHADOW],
    "conformance": {"checks": [{"check": "a", "verdict": "passed"}, {"check": "b", "verdict": "not tested"}]},
    "rehearsal": REHEARSAL,
}  # fmt: skip
EVENTS = [opened(), prerequisite(), *map(backup, gate.COMPONENTS), past()]
FINDING = {"code": "UPGRADE-LOSES-ROWS", "severity": "failure", "seen": "1 row", "remedy": "do not upgrade"}


def decided(*events, without=(), **changes):
    """The decision where these events come in the place of those of their kind and component."""
    mine = [(event["kind"], event.get("component")) for event in events]
    kept = [
        each for each in EVENTS if (each["kind"], each.get("component")) not in mine and each["kind"] not in without
    ]
    return gate.decide(copy.deepcopy(EVIDENCE) | changes, [*kept, *events])


def test_where_every_reason_passes_it_is_a_go_and_what_was_not_judged_is_told():
    found = decided()
    assert (found["decision"], found["exit"]) == ("go", 0)
    assert [each["code"] for each in found["reasons"] if each["verdict"] != "passed"] == ["CONFORMANCE-NOT-TESTED"]
    assert all(not each["remedy"] for each in found["reasons"] if each["verdict"] == "passed")


@pytest.mark.parametrize(
    ("events", "changes", "code"),
    [
        ([opened(targets={"rto": UNSET, "rpo": SET})], {}, "TARGET-UNSET"),
        ([opened(frequency={**dict.fromkeys(gate.COMPONENTS, SET), "objects": UNSET})], {}, "TARGET-UNSET"),
        ([backup("objects", age_ns=2 * HOUR + 1)], {}, "BACKUP-STALE"),
        ([backup("database", age_ns=None)], {}, "BACKUP-ABSENT"),
        ([past("")], {}, "EVIDENCE-STALE"),
        ([past("2026-08-24T23:59:59.000000Z")], {}, "EVIDENCE-STALE"),
        ([prerequisite(state="missing", here=False)], {}, "PREREQUISITE-MISSING"),
        ([], {"conformance": {"checks": [{"check": "a", "verdict": "failed"}]}}, "CONFORMANCE"),
        ([], {"drills": [SHADOW | {"verdict": "failed"}]}, "SHADOW-RESTORE"),
        ([], {"rehearsal": REHEARSAL | {"verdict": "failed", "findings": [FINDING]}}, "REHEARSAL"),
    ],
)
def test_one_reason_that_failed_is_a_no_go_and_stands_first_with_its_remedy(events, changes, code):
    found = decided(*events, **changes)
    assert (found["decision"], found["exit"]) == ("no-go", 1)
    first = found["reasons"][0]
    assert (first["code"], first["verdict"]) == (code, "failed")
    assert first["remedy"]


@pytest.mark.parametrize(
    ("events", "without", "changes", "code"),
    [
        ([prerequisite(state="missing")], (), {}, "PREREQUISITE-MISSING"),
        ([], ("gate.prerequisite",), {}, "PREREQUISITE-UNKNOWN"),
        ([backup("configuration", known=False)], (), {}, "BACKUP-UNKNOWN"),
        ([backup("configuration", error="cannot be read")], (), {}, "BACKUP-UNKNOWN"),
        ([], ("gate.backup",), {}, "BACKUP-UNKNOWN"),
        ([], ("gate.past",), {}, "EVIDENCE-STALE"),
        ([], (), {"conformance": None}, "CONFORMANCE"),
        ([], (), {"conformance": {"checks": [{"check": "a", "verdict": "not tested"}]}}, "CONFORMANCE"),
        ([], (), {"drills": []}, "SHADOW-RESTORE"),
        ([], (), {"drills": [SHADOW | {"verdict": "error"}]}, "SHADOW-RESTORE"),
        ([], (), {"rehearsal": None}, "REHEARSAL"),
        ([opened(upgrade=None)], (), {"rehearsal": None}, "REHEARSAL"),
        ([], (), {"exit": 3, "reasons": ["the run ended before its end"]}, "RUN-INCOMPLETE"),
    ],
)
def test_what_could_not_be_told_leaves_it_undecided(events, without, changes, code):
    found = decided(*events, without=without, **changes)
    assert (found["decision"], found["exit"]) == ("undecided", 2)
    assert found["reasons"][0]["code"] == code
    assert found["reasons"][0]["remedy"]


def test_what_is_known_to_be_wrong_outweighs_what_is_not_known():
    found = decided(past(""), prerequisite(state="missing"))
    assert (found["decision"], [each["code"] for each in found["reasons"][:2]]) == (
        "no-go", ["EVIDENCE-STALE", "PREREQUISITE-MISSING"],
    )  # fmt: skip


def test_on_the_day_on_which_it_grows_stale_evidence_still_counts():
    assert decided(past("2026-08-25T00:00:00.000000Z"))["decision"] == "go"


def test_a_drill_of_a_clock_that_is_ahead_proves_nothing():
    found = decided(past("2099-01-01T00:00:00.000000Z"))
    assert (found["decision"], found["reasons"][0]["code"]) == ("no-go", "EVIDENCE-STALE")
    assert "some clock is wrong" in found["reasons"][0]["seen"]


@pytest.mark.parametrize("wrong", [{"verdict": Verdict.ERROR}, {"state": State.ABORTED},
                                   {"opened_utc": "2099-01-01T00:00:00Z"}])  # fmt: skip
def test_a_drill_of_a_run_that_broke_off_or_by_a_clock_that_is_ahead_is_not_the_last(wrong):
    drill = PastDrill(drill="d", architecture="a", provider="p", level="shadow", disaster="", methods={}, scale={},
                      stand_in=False, verdict=Verdict.PASSED, negative_control=False, not_stock="")  # fmt: skip
    good = PastRun(run_id="good", directory=Path(), state=State.CLOSED, verdict=Verdict.FAILED, profile="a.toml",
                   opened_utc="2026-11-01T00:00:00Z", drills=(drill,))  # fmt: skip
    later = dataclasses.replace(good, run_id="later", opened_utc="2026-11-02T00:00:00Z")
    told = {"profile": "a.toml", "stand_in": False, "opened_utc": EVIDENCE["opened_utc"]}
    assert gate.past_of([good, later], **told)["last"]["run_id"] == "later"
    assert gate.past_of([good, dataclasses.replace(later, **wrong)], **told)["last"]["run_id"] == "good"


def test_a_run_that_is_no_gate_decides_nothing():
    assert decided(without=("gate.opened",)) is None


def test_a_decision_is_written_only_as_its_schema_says(tmp_path):
    gate.write(decided(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["gate.json"]
    with pytest.raises(HarnessError, match="decision of this run"):
        gate.write(decided() | {"exit": 7}, tmp_path)


def test_hostile_text_of_a_reason_is_bounded_and_shown_on_its_line():
    evil = "\x1b[31m" + "x" * 10**6 + "\n‮</script>"
    found = decided(backup("objects", age_ns=None, seen=evil))
    assert len(found["reasons"][0]["seen"]) < 800
    shown = [text for text, _ in gate.lines(found)]
    assert all("\n" not in text and "\x1b" not in text and "‮" not in text for text in shown)
    assert shown[0].startswith("NO-GO (exit code 1) for the upgrade of acme from 3.0 to 3.1")


def test_a_check_of_the_deployment_that_was_left_out_leaves_the_gate_undecided():
    found = decided(opened(checks=["a", "b", "c"]))
    assert (found["decision"], found["reasons"][0]["code"]) == ("undecided", "CONFORMANCE-LEFT-OUT")
    assert decided(opened(checks=["a", "b"]))["decision"] == "go"


def test_a_failure_of_the_run_that_no_reason_explains_is_no_go():
    assert decided(exit=1)["decision"] == "undecided"
    assert decided(opened(targets={"rto": UNSET, "rpo": SET}), exit=1)["decision"] == "no-go"


def test_a_restore_of_a_backup_made_for_the_gate_does_not_prove_the_operators():
    fetched = {"kind": "shadow.fetched", "store": "database", "taken": True}
    assert decided(fetched)["decision"] == "undecided"
    assert decided(fetched | {"taken": False})["decision"] == "go"
    assert decided(opened(stand_in=True), fetched)["decision"] == "go"


def test_what_failed_stays_a_no_go_where_something_beside_it_broke():
    checks = {"checks": [{"check": "a", "verdict": "failed"}, {"check": "b", "verdict": "error"}]}
    assert decided(conformance=checks)["decision"] == "no-go"
    assert decided(rehearsal=REHEARSAL | {"verdict": "error", "findings": [FINDING]})["decision"] == "no-go"
    assert decided(drills=[SHADOW | {"verdict": "error", "findings": [FINDING]}])["decision"] == "no-go"


def test_what_the_rehearsal_did_not_look_at_and_what_it_merely_noticed_are_told_and_decide_nothing():
    notice = {"code": "UPGRADE-REMOVES-STRUCTURE", "severity": "notice", "seen": "1 policy", "remedy": "see it"}
    remarks = [{"what": "tags of the objects", "reason": "not kept"}] * 2
    found = decided(rehearsal=REHEARSAL | {"findings": [notice], "not_tested": remarks})
    told = {each["code"]: each["seen"] for each in found["reasons"] if each["what"] != "rehearsal of the upgrade"}
    assert found["decision"] == "go"
    assert "1 policy" in told["REHEARSAL-NOTICE"] and told["REHEARSAL-NOT-TESTED"] == "tags of the objects"
    lines = [text for text, _ in gate.lines(found)]
    assert any(line.startswith("not tested (decides nothing): what the upgrade takes away or adds: ") for line in lines)


def test_a_notice_of_the_sandbox_is_not_told_as_the_upgrades_doing():
    notice = {"code": "EGRESS-BY-FILE", "severity": "notice", "seen": "/run/a.sock", "remedy": "see it"}
    found = decided(rehearsal=REHEARSAL | {"findings": [notice]})
    assert [each["what"] for each in found["reasons"] if each["code"] == "REHEARSAL-NOTICE"] == [
        "what the rehearsal noticed"
    ]


def test_what_k_left_out_is_mended_by_running_the_gate_to_its_end_and_what_was_judged_is_counted_first():
    remedies = {each["code"]: each["remedy"] for each in decided(conformance=None, drills=[])["reasons"]}
    assert all("to its end, without -k" in remedies[code] for code in ("CONFORMANCE", "SHADOW-RESTORE"))
    told = {each["code"]: each for each in decided()["reasons"]}
    assert told["CONFORMANCE"]["seen"] == "1 passed, 1 not tested"
    assert "without a profile" in told["CONFORMANCE-NOT-TESTED"]["remedy"]

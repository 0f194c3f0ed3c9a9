"""From the facts to figures and verdicts: one rule a test."""

import json

import pytest

from reports import evidence
from reports.assessment import assess_run
from reports.records import UsageProblem

MS = 1_000_000
LOST_ROWS = {"code": "ROWS-LOST", "seen": "documents: 1,998 of 2,000 rows", "where": "public.documents", "count": 2}


def codes(drill):
    return [finding["code"] for finding in drill["findings"]]


def test_a_healthy_run_passes_and_its_unset_targets_read_no_target(assessed):
    run = assessed()
    drill = run["drills"][0]
    assert (run["verdict"], run["reasons"], drill["verdict"], codes(drill)) == ("passed", [], "passed", [])
    assert [row["verdict"] for row in drill["objectives"]] == ["no target", "no target"]
    assert evidence.problems(run) == []


def test_recovery_time_lies_between_the_last_failed_and_the_first_successful_probe(assessed):
    took = assessed(recovery=4_210 * MS)["drills"][0]["recovery_time"]
    assert (took["lower_ns"], took["upper_ns"], took["achieved_ns"]) == (3_830 * MS, 4_210 * MS, 4_210 * MS)
    assert took["uncertainty_ns"] == 380 * MS


def test_a_target_that_is_missed_by_a_millisecond_fails_with_its_finding(assessed):
    drill = assessed(recovery=4_210 * MS, rto=4_209 * MS)["drills"][0]
    assert (codes(drill), drill["verdict"]) == (["RTO-EXCEEDED"], "failed")
    assert drill["objectives"][0]["margin_ns"] == -1 * MS
    assert assessed(recovery=4_210 * MS, rto=4_210 * MS)["drills"][0]["objectives"][0]["verdict"] == "passed"


def test_more_lost_than_allowed_fails(assessed):
    drill = assessed(lost=40, rpo=1_000 * MS)["drills"][0]
    assert (codes(drill), drill["objectives"][1]["verdict"]) == (["RPO-EXCEEDED"], "failed")


def test_a_target_finer_than_the_write_interval_is_not_met_by_an_achieved_zero(assessed):
    drill = assessed(lost=0, rpo=1 * MS)["drills"][0]
    rpo = drill["objectives"][1]
    assert (rpo["achieved_ns"], rpo["verdict"], rpo["margin_ns"], drill["verdict"]) == (0, "error", None, "error")
    assert "one write every 50 ms" in drill["reasons"][0]
    for enough in (50 * MS, 900_000 * MS):
        assert assessed(lost=0, rpo=enough)["drills"][0]["objectives"][1]["verdict"] == "passed"


def test_a_lower_bound_never_passes(assessed):
    drill = assessed(lost=200, rpo=3_600_000 * MS)["drills"][0]
    assert (drill["recovery_point"]["lower_bound"], drill["objectives"][1]["verdict"]) == (True, "failed")


def test_a_finding_of_a_check_fails_check_drill_and_run(assessed):
    run = assessed(findings=[LOST_ROWS])
    drill = run["drills"][0]
    failed = [row["check"] for row in drill["checks"] if row["verdict"] == "failed"]
    assert (failed, drill["verdict"], run["verdict"]) == (["contents"], "failed", "failed")


def test_a_notice_is_shown_and_fails_nothing(assessed):
    drill = assessed(findings=[{"code": "SEQUENCE-AHEAD", "seen": "by three"}])["drills"][0]
    assert (codes(drill), drill["verdict"]) == (["SEQUENCE-AHEAD"], "passed")


def test_a_remark_on_a_single_feature_stands_beside_a_pass(assessed):
    drill = assessed()["drills"][0]
    assert drill["not_tested"] == [{"what": "object tags", "reason": "rclone serve s3 keeps none"}]
    assert drill["verdict"] == "passed"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"check_error": "psql: connection refused"}, "check sequences could not verify"),
        ({"drill_closed": None}, "never closed"),
        ({"drill_closed": "error"}, "the restore broke"),
        ({"checks": False}, "no check ran"),
        ({"controls": False}, "no negative control ran"),
        ({"observed": False}, "recovery point was not measured"),
    ],
)
def test_what_could_not_be_verified_is_an_error(assessed, given, reason):
    run = assessed(**given)
    assert (run["verdict"], run["drills"][0]["verdict"]) == ("error", "error")
    assert any(reason in text for text in run["drills"][0]["reasons"])
    assert evidence.problems(run) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"drill_opened": False}, "no drill was run"),
        ({"run_closed": None}, "never closed"),
        ({"run_closed": 2}, "exit code 2"),
    ],
)
def test_a_run_that_proved_nothing_or_did_not_end_is_an_error(assessed, given, reason):
    run = assessed(**given)
    assert (run["verdict"], any(reason in text for text in run["reasons"])) == ("error", True)
    assert evidence.problems(run) == []


def test_a_failed_test_fails_the_run_whose_drills_passed(assessed):
    assert assessed(run_closed=1)["verdict"] == "failed"


def test_a_check_that_looked_at_nothing_is_not_tested(assessed, builder, monkeypatch):
    monkeypatch.setitem(builder.looked_at, "objects", {})
    drill = assessed()["drills"][0]
    verdicts = {row["check"]: row["verdict"] for row in drill["checks"]}
    assert (verdicts["objects"], drill["verdict"]) == ("not tested", "not tested")


def test_a_control_that_is_not_caught_fails_the_run(assessed):
    drill = assessed(uncaught=["index lost", "row lost"])["drills"][0]
    assert (codes(drill), drill["controls"]["score"]) == (["CONTROL-NOT-CAUGHT"] * 2, "9/11")
    assert drill["verdict"] == "failed"


def test_a_healthy_twin_that_is_accused_fails_the_run(assessed):
    drill = assessed(twin_saw=["ROWS-LOST"])["drills"][0]
    assert (codes(drill), drill["controls"]["score"]) == (["HEALTHY-TWIN-ACCUSED"], "11/11")


def test_recovery_that_no_probe_saw_fails(assessed):
    drill = assessed(probes=False)["drills"][0]
    assert (codes(drill), drill["objectives"][0]["verdict"]) == (["RECOVERY-UNSEEN"], "failed")


def altered_journal(run, builder, change):
    run.journal.events = [event for event in run.journal.events if change(event) is not False]
    builder.rechain(run)
    return assess_run(run.directory)["drills"][0]


def test_a_restore_that_failed_before_the_start_says_nothing_of_transactions(made, builder):
    run = made(probes=False, drill_closed="failed")
    late = ("start", "ready", "first transaction")
    drill = altered_journal(run, builder, lambda event: event.get("phase") not in late)
    assert (codes(drill), drill["objectives"][0]["verdict"]) == ([], "error")


def test_an_interrupted_drill_says_so_and_accuses_nobody(made, builder):
    def interrupt(event):
        if event["kind"] == "phase.closed" and event["phase"] == "ready":
            event |= {"outcome": "failed", "error": "interrupted"}
        if event["kind"] == "drill.closed":
            event["error"] = "ready: "

    drill = altered_journal(made(probes=False, drill_closed="error"), builder, interrupt)
    assert (codes(drill), drill["verdict"]) == ([], "error")
    assert "the drill ended as error: ready: interrupted" in drill["reasons"]


def test_clients_let_in_long_before_the_first_whole_transaction_are_noticed(assessed, builder):
    strike = 12_000 * MS
    early = builder.whole_ledger(strike=strike, lost=2, back=strike + 3_800 * MS)
    assert codes(assessed(ledger=early)["drills"][0]) == ["OUTAGE-DISAGREES"]


def test_a_disagreement_within_the_intervals_is_none(assessed, builder):
    strike = 12_000 * MS
    near = builder.whole_ledger(strike=strike, lost=2, back=strike + 4_210 * MS + 300 * MS)  # 50 + 50 + 210 allowed
    assert codes(assessed(ledger=near)["drills"][0]) == []


def test_one_long_timeout_of_a_client_beside_a_fast_probe_accuses_nobody(assessed, builder):
    strike, slow = 12_000 * MS, 2_000 * MS
    ledger = builder.whole_ledger(strike=strike, lost=2, back=strike + 4_210 * MS + 1_700 * MS)
    for line in ledger.events:
        if line["event"] == "failed":
            line["t"] += slow
    assert codes(assessed(ledger=ledger)["drills"][0]) == []


def test_a_ledger_that_cannot_be_read_makes_an_error_and_keeps_the_rest(made):
    run = made()
    ledger = next(run.directory.glob("*/ledger.jsonl"))
    ledger.write_text("not json\n" + ledger.read_text())
    drill = assess_run(run.directory)["drills"][0]
    assert (drill["verdict"], len(drill["checks"])) == ("error", 8)
    assert "the ledger cannot be used" in drill["reasons"][0]


def test_a_journal_whose_events_lack_a_field_is_refused_in_one_line(made, builder):
    run = made()
    event = next(event for event in run.journal.events if event["kind"] == "drill.opened")
    del event["objectives"]
    builder.rechain(run)
    with pytest.raises(UsageProblem, match="objectives"):
        assess_run(run.directory)


def test_a_run_is_measured_from_the_strike_and_recovers_after_the_shut(assessed):
    drill = assessed(shut=900 * MS, early_success=100 * MS)["drills"][0]
    took = drill["recovery_time"]
    assert (took["shut_ns"], took["achieved_ns"]) == (12_900 * MS, 4_210 * MS)
    assert (codes(drill), drill["verdict"]) == ([], "passed")


def test_a_probe_that_went_well_before_the_shut_is_no_recovery(assessed):
    drill = assessed(shut=900 * MS, early_success=100 * MS, probes=False)["drills"][0]
    assert (codes(drill), drill["recovery_time"]["achieved_ns"]) == (["RECOVERY-UNSEEN"], None)


def test_what_was_written_between_strike_and_shut_is_counted_apart(assessed, builder):
    strike = 12_000 * MS
    ledger = builder.whole_ledger(strike=strike, lost=0, back=strike + 4_230 * MS)
    ledger.write("row", 900, strike + 500 * MS, found=0)
    ledger.events.sort(key=lambda line: (line["t"], line["n"]))
    drill = assessed(ledger=ledger, shut=900 * MS)["drills"][0]
    row = next(each for each in drill["recovery_point"]["channels"] if each["channel"] == "row")
    assert (codes(drill), row["lost"], row["lost_before_shut"], row["rpo_achieved_ns"]) == ([], 1, 1, 0)
    assert codes(assessed(ledger=ledger, shut=100 * MS)["drills"][0]) == ["WRITE-LOST-AFTER-RECOVERY"]


def test_the_channels_are_those_that_the_writer_found_something_to_do_in(assessed):
    whole = assessed(deletions=20, lost=0)
    point = whole["drills"][0]["recovery_point"]
    assert [row["channel"] for row in point["channels"]] == ["api", "row", "object", "delete"]
    assert (point["achieved_ns"], point["resolution_ns"], point["worst_channel"]) == (0, 250 * MS, "delete")
    nothing_to_delete = assessed(deletions=0, lost=0)["drills"][0]
    assert (nothing_to_delete["verdict"], len(nothing_to_delete["recovery_point"]["channels"])) == ("passed", 3)
    assert evidence.problems(whole) == []


def test_a_channel_that_was_to_be_written_to_and_was_not_leaves_the_recovery_point_unknown(made, builder):
    def forget(event):
        if event["kind"] == "ledger.opened":
            event["channels"].append("mail")

    assert altered_journal(made(deletions=20), builder, forget)["objectives"][1]["achieved_ns"] is None


def test_without_the_api_recovery_has_another_basis_and_no_client_to_disagree_with(made, builder):
    def unspoken(event):
        if event["kind"] == "ledger.opened":
            event |= {"channels": ["row", "object"], "recovery_basis": "row and object"}

    def nobody(line):
        return line["channel"] != "api"

    strike = 12_000 * MS
    ledger = builder.whole_ledger(strike=strike, lost=2, back=strike + 4_230 * MS)
    ledger.events, ledger.observed = ([*filter(nobody, lines)] for lines in (ledger.events, ledger.observed))
    drill = altered_journal(made(ledger=ledger), builder, unspoken)
    assert (drill["verdict"], codes(drill), drill["recovery_time"]["basis"]) == ("passed", [], "row and object")
    assert drill["recovery_time"]["felt"]["outage_ns"] is None
    assert [row["channel"] for row in drill["recovery_point"]["channels"]] == ["row", "object"]


def test_a_target_finer_than_the_slowest_channel_is_not_met_by_an_achieved_zero(assessed):
    drill = assessed(deletions=20, lost=0, rpo=100 * MS)["drills"][0]
    assert drill["objectives"][1]["verdict"] == "error"
    assert "one write every 250 ms in channel delete" in drill["reasons"][0]


def test_damage_planted_on_purpose_must_be_seen_and_fails_nothing(assessed):
    stale = {"code": "BACKUP-ARTEFACT-ALTERED", "seen": "database/toc.dat", "where": "newest"}
    run = assessed(planted=[stale])
    drill = run["drills"][0]
    row = next(row for row in drill["checks"] if row["expected"])
    assert (row["check"], row["verdict"], drill["verdict"]) == ("newest backup", "passed", "passed")
    (finding,) = drill["findings"]
    assert (finding["severity"], finding["seen"]) == ("notice", "planted by the disaster: database/toc.dat")
    assert evidence.problems(run) == []


@pytest.mark.parametrize("planted", [[], [{"code": "SEQUENCE-AHEAD", "seen": "only a notice"}]])
def test_damage_planted_on_purpose_that_nobody_sees_fails(assessed, planted):
    drill = assessed(planted=planted)["drills"][0]
    assert (codes(drill)[-1], drill["verdict"]) == ("DISASTER-UNSEEN", "failed")
    assert [row["verdict"] for row in drill["checks"] if row["expected"]] == ["failed"]


def test_a_broken_expected_check_is_an_error_and_not_the_damage_seen(made, builder):
    def crash(event):
        if event["kind"] == "check" and event.get("expected"):
            event |= {"error": "no such file", "findings": []}

    drill = altered_journal(made(planted=[]), builder, crash)
    assert (codes(drill), drill["verdict"]) == ([], "error")


def test_the_backup_shown_is_the_one_restored(assessed):
    newest = assessed(backups=["second"])["drills"][0]["backup"]
    fallen_back = assessed(backups=["second"], chosen="manifest")["drills"][0]["backup"]
    assert (newest["bytes"], newest["fallback"], newest["age_ns"]) == (48_210_335, False, None)
    assert (fallen_back["bytes"], fallen_back["fallback"], fallen_back["age_ns"]) == (48_210_334, True, 9_000 * MS)


def test_a_backup_that_the_drill_did_not_make_is_an_error(assessed):
    run = assessed(chosen="somebody else's")
    assert (run["drills"][0]["backup"], run["verdict"]) == (None, "error")
    assert evidence.problems(run) == []


def test_the_plan_is_passed_on(assessed):
    plan = {"database": "restored", "objects": "survived", "configuration": "survived", "target": "strike"}
    run = assessed(plan=plan)
    assert (run["drills"][0]["plan"], assessed()["drills"][0]["plan"]) == (plan, None)
    assert evidence.problems(run) == []


def test_what_could_not_run_here_is_told_and_changes_no_verdict(assessed):
    left_out = [{"what": "method pgbackrest", "reason": "it refuses server 17"}]
    run = assessed(left_out=left_out)
    assert (run["not_tested"], run["verdict"]) == (left_out, "passed")
    assert assessed(left_out=left_out, drill_opened=False)["verdict"] == "error"
    assert run["drills"][0]["not_tested"][0]["what"] == "object tags"


def test_many_drills_come_to_one_summary_and_one_for_each_disaster(assessed, builder):
    run = assessed(more=builder.many(13))
    total, of = run["summary"], {row["disaster"]: row for row in run["summary"]["disasters"]}
    assert (total["drills"], total["verdicts"]) == (13, {"failed": 2, "passed": 11})
    assert (total["recovery_time"]["median_ns"], total["recovery_time"]["worst_ns"]) == (8_500 * MS, 12_700 * MS)
    assert total["recovery_point"]["worst_drill"] == "single-node-pg_basebackup-rclone_crypt-bad_deploy-4"
    assert (len(of), of["bucket_emptied"]["recovery_time"]["median_ns"]) == (5, 7_800 * MS)
    assert (run["controls"], run["verdict"]) == ({"planted": 143, "caught": 142, "score": "142/143"}, "failed")
    assert evidence.problems(run) == []


def test_a_drill_that_measured_nothing_stands_in_no_median(assessed):
    took = assessed(more=[{"name": "second", "probes": False}])["summary"]["recovery_time"]
    assert (took["measured"], took["median_ns"]) == (1, 4_210 * MS)
    assert assessed(drill_opened=False)["summary"]["recovery_time"]["worst_ns"] is None


def test_evidence_holds_no_floats(assessed):
    def floats(value):
        if isinstance(value, dict):
            return any(map(floats, value.values()))
        return isinstance(value, float) or (isinstance(value, list) and any(map(floats, value)))

    assert not floats(json.loads(json.dumps(assessed(rto=1, rpo=1))))


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("opened_utc",), "yesterday", "$.opened_utc"),
        (("verdict",), "fine", "$.verdict"),
        (("drills", 0, "recovery_time", "achieved_ns"), 4.21, "$.drills[0].recovery_time.achieved_ns"),
        (("drills", 0, "stand_in"), "yes", "$.drills[0].stand_in"),
        (("drills", 0, "surprise"), 1, "$.drills[0]"),
        (("host", "processors"), 0, "$.host.processors"),
    ],
)
def test_the_schema_refuses_what_is_wrong_and_says_where(assessed, path, value, where):
    run = json.loads(json.dumps(assessed()))
    place = run
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert evidence.problems(run)[0].startswith(where)

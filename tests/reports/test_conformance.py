"""What was checked of a deployment itself, apart from any drill: its verdict, its evidence, its page and its lines."""

import pytest

from reports import closing, evidence, page
from reports.assessment import assess_run
from reports.records import Clock, Finding, Journal, Redactor

HIDDEN = Finding(code="HEALTH-NOT-READY", seen="status 503 <script>", where="web ready").as_record()


@pytest.fixture
def checked(tmp_path):
    """Writes a run of conformance checks only; hands back its evidence."""

    def write(*checks, controls=()):
        journal = Journal(tmp_path / "journal.jsonl", clock=Clock.start(), redactor=Redactor())
        suite = {"name": "", "version": "", "commit": "", "source_sha256": ""}
        host = {"system": "Linux", "python": "3.11", "processors": 2}
        journal.write("run.opened", run_id="20261122T210403Z-4f9a", suite=suite, command=["pytest"], host=host,
                      interval_note="", profile={"name": "", "sha256": ""})  # fmt: skip
        journal.write("conformance.opened", deployment="embedded", architecture="single-node", provider="embedded",
                      stand_in=True, tools={})  # fmt: skip
        for number, given in enumerate(checks):
            journal.write("check", **{
                "check": f"health-check_{number}", "title": "What must be so", "guide": "line 29: Health Checks",
                "supports": ["NIST 800-53r5 SI-6"], "started_ns": 0, "ended_ns": 5, "looked_at": {"answers": 3},
                "findings": [], "error": "", "not_tested": [], **given,
            })  # fmt: skip
        for given in controls:
            journal.write("control", **{
                "control": "health-never_ready", "breaks": "it never says yes", "expects": ["HEALTH-NOT-READY"],
                "saw": ["HEALTH-NOT-READY"], "caught": True, "error": "", "started_ns": 0, "ended_ns": 1, **given,
            })  # fmt: skip
        journal.write("run.closed", exit=0)
        journal.close()
        assessed = assess_run(tmp_path)
        assert evidence.problems(assessed) == []
        return assessed

    write.directory = tmp_path
    return write


def test_checks_without_a_drill_are_a_run_of_their_own(checked):
    run = checked({}, controls=[{}])
    assert (run["verdict"], run["reasons"], run["drills"]) == ("passed", [], [])
    assert run["controls"] == {"planted": 1, "caught": 1, "score": "1/1"}
    assert run["conformance"]["checks"][0]["supports"] == ["NIST 800-53r5 SI-6"]


def test_a_finding_fails_check_and_run(checked):
    run = checked({"findings": [HIDDEN]}, {})
    assert [row["verdict"] for row in run["conformance"]["checks"]] == ["failed", "passed"]
    assert (run["conformance"]["verdict"], run["verdict"]) == ("failed", "failed")


def test_a_check_that_broke_is_an_error_however_many_passed(checked):
    assert checked({}, {"error": "OSError: gone"})["verdict"] == "error"


def test_a_fault_that_is_not_seen_fails_the_run(checked):
    run = checked({}, controls=[{"saw": [], "caught": False}])
    assert [each["code"] for each in run["conformance"]["findings"]] == ["CONTROL-NOT-CAUGHT"]
    assert run["verdict"] == "failed"


def test_what_was_not_looked_at_is_listed_and_alone_never_reads_as_passed(checked):
    left_out = {"looked_at": {}, "not_tested": [{"what": "forwarding", "reason": "rsyslog is absent"}]}
    run = checked({}, left_out)
    assert [row["verdict"] for row in run["conformance"]["checks"]] == ["passed", "not tested"]
    assert run["conformance"]["not_tested"][0]["what"] == "forwarding"
    assert (run["verdict"], "1 passed" in told(run), "1 not tested" in told(run)) == ("passed", True, True)


def test_nothing_but_what_was_not_looked_at_is_not_tested(checked):
    assert checked({"looked_at": {}})["verdict"] == "not tested"


def test_a_run_of_faults_alone_is_an_error_for_nothing_was_checked(checked):
    assert checked(controls=[{}])["verdict"] == "error"


def test_the_page_shows_checks_findings_and_faults_and_escapes_them(checked):
    shown = page.render(checked({"findings": [HIDDEN]}, controls=[{}]), checked.directory)
    for text in ("What must be so", "line 29: Health Checks", "NIST 800-53r5 SI-6", "HEALTH-NOT-READY", "1/1"):
        assert text in shown
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown


def told(run):
    return "\n".join(line for line, _ in closing.lines(run))


def test_the_terminal_counts_each_suite_and_names_the_remedy(checked):
    lines = told(checked({"findings": [HIDDEN]}, {}, controls=[{}]))
    for text in ("health:", "1 failed, 1 passed", "planted faults seen:", "1/1", "HEALTH-NOT-READY", "remedy:"):
        assert text in lines


def test_a_deployment_that_was_opened_and_never_checked_is_an_error(checked):
    assert checked()["verdict"] == "error"


def test_page_and_terminal_say_that_it_was_a_stand_in(checked):
    run = checked({})
    assert "a stand-in" in told(run)
    assert "a stand-in" in page.render(run, checked.directory)

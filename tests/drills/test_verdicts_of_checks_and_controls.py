"""A check or control that breaks is an error in the evidence, never a pass."""

import types

import pytest

from checks.checked import checked
from drills.controls.bench import Control, Seen
from drills.controls.prove import NOTHING_THERE, _run
from fixtures.deployment import NotGiven
from reports.records import Clock, Failure, Finding, HarnessError, Journal, Redactor, read_lines

LOST = Finding(code="ROWS-LOST", seen="1 of 2 rows")
GAVE_UP = Finding(code="RESTORE-FAILED", seen="the tool gave up")


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", clock=Clock.start(), redactor=Redactor())
    yield journal
    journal.close()


def last(journal):
    return list(read_lines(journal.path))[-1]


def raising(problem):
    raise problem


def test_a_check_that_breaks_is_journalled_as_an_error_and_the_next_goes_on(journal):
    with checked(journal, "drill", "objects") as check:
        raise PermissionError("files.jsonl")
    assert last(journal)["error"] == "PermissionError: files.jsonl"
    with pytest.raises(HarnessError, match=r"files\.jsonl"):
        check.require()


def test_what_rests_on_a_check_does_not_begin_where_it_found_something(journal):
    with checked(journal, "drill", "backup artefacts") as check:
        check.findings = [LOST]
    with pytest.raises(Failure, match="ROWS-LOST"):
        check.require()


@pytest.mark.parametrize(
    ("stand_in", "always", "look", "caught", "error"),
    [
        (True, True, lambda: Seen(victim="t", findings=[LOST]), True, ""),
        (True, True, lambda: Seen(victim="t", findings=[GAVE_UP]), False, ""),
        (True, True, lambda: Seen(victim="t"), False, ""),
        (True, True, Seen, False, "found nothing to break"),
        (True, True, lambda: raising(ValueError("statement")), False, "ValueError: statement"),
        (True, False, lambda: raising(NotGiven("jobs", remedy="queries.jobs")), False, "found nothing to break"),
    ],
    ids=["caught", "another code", "nothing seen", "no victim", "broken", "not told of the reference application"],
)
def test_a_control_is_caught_only_by_a_code_that_it_expects(journal, stand_in, always, look, caught, error):
    bench = types.SimpleNamespace(journal=journal, drill="drill", deployment=types.SimpleNamespace(stand_in=stand_in))
    control = Control(name="row lost", breaks="a row", expects=("ROWS-LOST",), always=always, look=look)
    assert _run(bench.journal, bench.drill, bench.deployment, control) == ""
    event = last(journal)
    assert event["caught"] is caught
    assert error in event["error"]


@pytest.mark.parametrize(("stand_in", "always"), [(False, True), (True, False)])
def test_a_control_that_cannot_apply_is_left_to_be_reported_as_not_tested(journal, stand_in, always):
    bench = types.SimpleNamespace(journal=journal, drill="drill", deployment=types.SimpleNamespace(stand_in=stand_in))
    control = Control(name="n", breaks="b", expects=("ROWS-LOST",), always=always, look=Seen)
    assert _run(bench.journal, bench.drill, bench.deployment, control) == NOTHING_THERE


def test_a_control_that_lacks_what_nobody_told_says_which_key_would_tell(journal):
    bench = types.SimpleNamespace(journal=journal, drill="drill", deployment=types.SimpleNamespace(stand_in=False))
    absent = NotGiven("jobs that run again", remedy="name it in the profile, as queries.jobs")
    control = Control(name="n", breaks="b", expects=("JOB-RAN-AGAIN",), look=lambda: raising(absent))
    assert (
        _run(bench.journal, bench.drill, bench.deployment, control)
        == "jobs that run again: not given. name it in the profile, as queries.jobs"
    )


def test_a_healthy_twin_is_accused_by_any_failure(journal):
    bench = types.SimpleNamespace(journal=journal, drill="drill", deployment=types.SimpleNamespace(stand_in=True))
    _run(
        bench.journal,
        bench.drill,
        bench.deployment,
        Control(name="healthy twin", breaks="nothing", look=lambda: Seen(victim="t", findings=[LOST])),
    )
    assert last(journal)["caught"] is False

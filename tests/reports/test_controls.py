"""Which results support which controls, and the matrix of a period."""

import json
from datetime import date

import pytest

from checks.conformance.registry import every_check
from reports import control_matrix, controls, document, evidence
from reports.__main__ import main
from reports.controls import Status
from reports.records import UsageProblem

RUN = "20261122T210403Z-4f9a"
CAUGHT = {"control": "health-never_ready", "verdict": "passed", "expects": ["HEALTH-NOT-READY"]}
HOSTILE = "<script>x</script> | **b** \x1b[31m \u202e [a](http://b)"


def of(assessed, name):
    return next(support for support in controls.supported_by(assessed) if support.control.name == name)


def conformance(*checks, controls=()):
    rows = [{"supports": [], "verdict": "passed", **check} for check in checks]
    return {"checks": rows, "stand_in": False, "controls": {"rows": list(controls)}}


@pytest.fixture
def run(assessed):
    """A passed drill, with its backup set checked."""
    made = assessed(disaster="total_loss")
    return made | {"drills": [drill | {"disaster": "total_loss"} for drill in made["drills"]]}


@pytest.fixture
def population(made):
    """Builds a directory of runs under their ids: what is changed in the evidence of each; None leaves it out."""

    def make(**changes):
        built = made(disaster="total_loss").directory
        runs = built.parent / "runs"
        for run_id, change in changes.items():
            directory = runs / run_id.replace("_", "-")
            directory.mkdir(parents=True)
            for name in ("journal.jsonl", *(path.relative_to(built) for path in built.rglob("*/*.jsonl"))):
                (directory / name).parent.mkdir(exist_ok=True)
                (directory / name).write_bytes((built / name).read_bytes())
            if change is not None:
                kept = control_matrix.assess_run(built) | {"run_id": directory.name} | change
                evidence.write(kept, directory / "evidence.json")
        return runs

    return make


@pytest.mark.parametrize("check", every_check().values(), ids=lambda check: check.id)
def test_every_control_that_a_check_names_is_in_the_table_with_its_kind(check):
    table = {control.name: control for control in controls.every_control()}
    for name in check.supports:
        assert any(check.suite in controls.every_kind()[kind].suites for kind in table[name].kinds), name


def test_every_condition_names_a_kind_and_checks_that_there_are():
    conditions = [condition for control in controls.every_control() for condition in control.conditions]
    kinds = controls.every_kind()
    named = [check for each in conditions if kinds[each.kind].suites for check in each.checks]
    assert {each.kind for each in conditions} == set(kinds)
    assert set(named) <= set(every_check())


def test_each_kind_of_a_conformance_check_is_one_that_some_check_claims():
    claimed = {(name, check.suite) for check in every_check().values() for name in check.supports}
    for control in controls.every_control():
        for condition in control.conditions:
            suites = controls.every_kind()[condition.kind].suites
            assert not suites or condition.checks or any((control.name, suite) in claimed for suite in suites)


def test_every_suite_of_checks_is_of_one_kind():
    suites = [suite for kind in controls.every_kind().values() for suite in kind.suites]
    assert sorted(suites) == sorted({check.suite for check in every_check().values()})


def test_nothing_restored_is_claimed_for_pci_dss():
    kinds = {kind for control in controls.every_control() if control.standard == "PCI DSS" for kind in control.kinds}
    assert kinds == {"audit_log"}


def test_nothing_in_the_table_is_said_to_be_satisfied():
    assert "satisf" not in controls.TABLE.read_text("utf-8").lower()


def test_a_drill_that_passed_supports_what_a_restore_shows(run):
    support = of(run, "NIST 800-53r5 CP-4(4)")
    assert [(each.run_id, each.name) for each in support.supporting] == [(RUN, run["drills"][0]["drill"])]
    assert support.status is Status.STAND_IN


def test_a_drill_of_something_else_is_no_full_reconstitution(assessed):
    assert of(assessed(disaster="table_dropped"), "NIST 800-53r5 CP-4(4)").status is Status.NO_RESULT


@pytest.mark.parametrize("broken", [{"uncaught": ["row lost"]}, {"check_error": "OSError"}, {"run_closed": None}])
def test_a_drill_that_did_not_pass_is_listed_and_supports_nothing(assessed, broken):
    supports = controls.supported_by(assessed(**broken))
    assert not any(support.supporting for support in supports)
    assert next(support for support in supports if support.control.id == "CP-4").others[0].why


def test_a_time_that_was_held_to_no_target_supports_no_control_that_asks_for_one(assessed):
    assert of(assessed(), "NIST 800-53r5 CP-10(4)").others[0].why == "recovery time: no target was set"
    assert of(assessed(rto=60_000_000_000), "NIST 800-53r5 CP-10(4)").supporting


def test_no_control_without_a_target_of_its_own_is_said_to_be_of_time():
    words = (" in time", "good time", "objectives that", "set time")
    for control in controls.every_control():
        if not any(condition.targets for condition in control.conditions):
            assert not any(word in control.about for word in words), control.name


def test_a_time_that_is_not_stock_supports_no_control_that_asks_for_one(assessed):
    made = assessed(rto=60_000_000_000)
    rebuilt = {"rebuilt": {"timing": {"stock": False, "label": "NOT STOCK: ttl 5 s"}}}
    found = made | {"drills": [made["drills"][0] | rebuilt]}
    assert of(found, "NIST 800-53r5 CP-10(4)").others[0].why == "its timing is not stock"
    assert of(found, "NIST 800-53r5 CP-4").supporting


def test_a_restore_without_a_look_at_the_backup_set_does_not_support_what_asks_for_one(run):
    drill = run["drills"][0]
    without = drill | {"checks": [check for check in drill["checks"] if check["check"] != "backup set"]}
    assert of(run, "CSF 2.0 RC.RP-03").supporting
    assert not of(run | {"drills": [without]}, "CSF 2.0 RC.RP-03").supporting


def test_a_negative_control_of_a_cluster_bears_on_nothing(run):
    drill = run["drills"][0] | {"level": "failover", "failover": {"expects": ["SPLIT-BRAIN"]}}
    assert not any(support.results for support in controls.supported_by(run | {"drills": [drill]}))


def test_a_check_supports_the_controls_that_it_names_and_no_other(run):
    check = {"check": "health-x", "supports": ["NIST 800-53r5 SI-6", "NIST 800-53r5 CP-4", "no control of ours"]}
    found = controls.supported_by(run | {"drills": [], "conformance": conformance(check, controls=[CAUGHT])})
    assert [support.control.id for support in found if support.results] == ["SI-6"]
    assert next(support for support in found if support.results).status is Status.SUPPORTED


def test_a_check_whose_planted_fault_was_not_caught_or_not_planted_supports_nothing(run):
    check = {"check": "health-x", "supports": ["NIST 800-53r5 SI-6"]}
    for others, told in (
        ([CAUGHT, CAUGHT | {"verdict": "failed"}], "a fault planted to prove the checks of its kind was not caught"),
        ([], "no fault was planted to prove the checks of its kind"),
        ([CAUGHT | {"control": "backups-too_old"}], "no fault was planted to prove the checks of its kind"),
        ([CAUGHT | {"expects": []}], "no fault was planted to prove the checks of its kind"),  # a healthy twin alone
    ):
        found = of(run | {"conformance": conformance(check, controls=others)}, "NIST 800-53r5 SI-6")
        assert (found.supporting, found.others[0].why) == ((), told)


def test_a_matrix_counts_every_run_of_its_period_and_no_other(population):
    days = {f"202611{day}T100000Z_00{day}": {"opened_utc": f"2026-11-{day}T10:00:00Z"} for day in (20, 21)}
    runs = population(**days, **{"20261122T210403Z_4f9a": None})
    found = control_matrix.matrix(runs, date(2026, 11, 21), None)
    assert [(run.run_id[:8], run.state.value) for run in found.runs] == [
        ("20261121", "closed"), ("20261122", "broken")]  # fmt: skip
    tally = next(tally for tally in found.tallies if tally.control.id == "CP-4(5)")
    assert (tally.supporting, tally.on_stand_in, tally.runs) == (1, 1, ("20261121T100000Z-0021",))
    assert found.unread[0][0] == RUN


def test_an_aborted_run_is_counted_and_supports_nothing(population):
    runs = population(**{"20261122T210403Z_4f9a": None})
    journal = runs / RUN / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    tally = next(tally for tally in control_matrix.matrix(runs, None, None).tallies if tally.control.id == "CP-4")
    assert (tally.supporting, tally.others.total(), tally.status) == (0, 1, Status.NOT_SUPPORTED)


def test_a_control_without_a_result_is_a_gap(population):
    found = control_matrix.as_document(control_matrix.matrix(population(**{"20261122T210403Z_4f9a": {}}), None, None))
    gaps = found.parts[-1].lines
    assert any(line.startswith("PCI DSS 4.0.1 10.2.1: no result") for line in gaps)
    assert not any("CP-4(5)" in line for line in gaps)


def test_foreign_text_is_shown_as_text(population):
    runs = population(**{"20261122T210403Z_4f9a": {}})
    other = json.loads((runs / RUN / "evidence.json").read_text()) | {"run_id": HOSTILE * 1000}
    (runs / RUN / "evidence.json").write_text(json.dumps(other))
    matrix = control_matrix.matrix(runs, None, None)
    (told,) = json.loads(control_matrix.as_json(matrix))["unread"]
    assert len(told["why"]) < 2000
    assert "\x1b" not in told["why"]
    found = control_matrix.as_document(matrix)
    hostile = document.Document(title=HOSTILE, parts=[*found.parts, document.Items(lines=[HOSTILE * 1000])])
    page, text = document.as_html(hostile), document.as_markdown(hostile)
    assert "<script" not in page
    assert not any(mark in page + text for mark in ("\x1b", "\u202e"))
    assert "\\<script\\>" in text
    assert "\\| \\*\\*b\\*\\*" in text
    assert "\\[a\\](http\N{WORD JOINER}:" in text
    assert max(map(len, text.splitlines())) < 3000


def test_the_page_asks_for_nothing_outside_of_itself(population):
    found = control_matrix.matrix(population(**{"20261122T210403Z_4f9a": {}}), None, None)
    page = document.as_html(control_matrix.as_document(found))
    assert not any(word in page for word in ("http", "src=", "@import", "url("))


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_the_command_prints_each_form(population, capsys, form):
    runs = population(**{"20261122T210403Z_4f9a": {}})
    assert main(["controls", "--runs-directory", str(runs), "--format", form]) == 0
    printed = capsys.readouterr().out
    assert RUN in printed
    if form == "json":
        assert json.loads(printed)["controls"][0]["control"] == "SOC 2 A1.2"


def test_a_period_without_a_run_is_not_good(population, capsys):
    runs = population(**{"20261122T210403Z_4f9a": {}})
    assert main(["controls", "--runs-directory", str(runs), "--from", "2027-01-01"]) == 1


@pytest.mark.parametrize("given", [["--from", "2026-13-01"], ["--from", "2026-02-02", "--to", "2026-02-01"]])
def test_bad_days_end_with_one_message(tmp_path, capsys, given):
    assert main(["controls", "--runs-directory", str(tmp_path), *given]) == 4
    assert "Remedy" in capsys.readouterr().err


def test_a_directory_that_is_not_there_is_a_problem_of_its_user(tmp_path):
    with pytest.raises(UsageProblem):
        control_matrix.matrix(tmp_path / "absent", None, None)

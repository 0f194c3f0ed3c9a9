"""The Operations Guide's tables with measured values: which figure, of which run, and what is said to be unset."""

import json

import pytest

from reports import document, evidence, guide
from reports.__main__ import main
from reports.assessment import assess_run

S = 1_000_000_000
FIRST, SECOND, THIRD = (f"2026112{day}T210403Z-000{day}" for day in (1, 2, 3))
NOT_STOCK = {"timing": {"stock": False, "label": "NOT STOCK: ttl 5 s", "ttl_ns": 1, "loop_wait_ns": 1,
                        "retry_timeout_ns": 1}, "redundant": None}  # fmt: skip


@pytest.fixture
def population(made):
    """Builds a directory of runs, one for each id: how it is built, and what is changed in its drill afterwards."""

    def make(runs):
        top = None
        for run_id, (built, change) in runs.items():
            directory = made(**{"disaster": "total_loss", **built}).directory
            top = directory.parent / "runs"
            kept = assess_run(directory)
            day = f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}"
            kept |= {"run_id": run_id, "opened_utc": f"{day}T21:04:03Z"}
            kept["drills"] = [drill | change for drill in kept["drills"]]
            top.mkdir(exist_ok=True)
            directory.rename(top / run_id)
            evidence.write(kept, top / run_id / "evidence.json")
        return top

    return make


@pytest.fixture
def tables(population):
    """The tables of the guide by caption, each a list of rows by their head."""

    def make(runs):
        parts = guide.guide(population(runs)).parts
        found = [part for part in parts if isinstance(part, document.Table)]
        return {part.caption: [dict(zip(part.head, row, strict=True)) for row in part.rows] for part in found}

    return make


RUNS = {FIRST: ({"recovery": 5 * S}, {}), SECOND: ({"recovery": 7 * S}, {}), THIRD: ({"recovery": 6 * S}, {})}


def test_rto_is_the_median_and_the_worst_of_the_drills_with_the_runs_behind_them(tables):
    rto, rpo = tables(RUNS)["Achieved against objective"]
    assert (rto["Median"], rto["Worst"]) == (f"6 s, run {THIRD}", f"7 s, run {SECOND}")
    assert rto["From, to"] == "2026-11-21, 2026-11-23"
    assert rto["Drills"] == "3 of 3 measured it; 0 failed"
    assert rto["Architecture"] == "single-node, destroyed and restored (stand-in)"
    assert rpo["What"] == "RPO"


def test_a_target_that_is_not_set_is_said_to_be_unset_and_one_that_is_tells_its_source(tables):
    todo = [{"objective": name, "target_ns": None, "source": "Operations Guide: TODO", "achieved_ns": None,
             "lower_bound": False, "margin_ns": None, "verdict": "no target"} for name in ("rto", "rpo")]  # fmt: skip
    unset = tables({FIRST: ({}, {"objectives": todo})})["Achieved against objective"][0]
    chosen = tables({SECOND: ({"rto": 60 * S}, {})})["Achieved against objective"][-2]
    assert unset["Objective, from the newest drill"] == guide.UNSET
    assert chosen["Objective, from the newest drill"] == "1 min, by option --rto"


def test_a_drill_that_failed_counts_in_the_figures(tables):
    failed = {**RUNS, SECOND: ({"recovery": 7 * S, "findings": [{"code": "ROWS-LOST", "seen": "x"}]}, {})}
    assert SECOND in tables(failed)["Achieved against objective"][0]["Worst"]


def test_a_drill_that_broke_has_no_figure(tables):
    broke = {**RUNS, SECOND: ({"recovery": 7 * S, "check_error": "OSError"}, {})}
    assert THIRD in tables(broke)["Achieved against objective"][0]["Worst"]


def test_a_figure_of_a_timing_that_is_not_stock_is_named_and_not_quoted(population):
    found = guide.guide(population({**RUNS, SECOND: ({"recovery": 7 * S}, {"rebuilt": NOT_STOCK})}))
    rto = next(part for part in found.parts if getattr(part, "caption", "") == "Achieved against objective").rows[0]
    assert not any(SECOND in cell for cell in rto)
    assert found.parts[-1].lines[0].endswith(f"1 drill, NOT STOCK: ttl 5 s; the newest in run {SECOND}")


def test_an_aborted_run_has_no_figure_and_is_counted(population):
    found = guide.guide(population({FIRST: ({}, {}), SECOND: ({"run_closed": None, "drill_closed": None}, {})}))
    assert found.parts[0].text.startswith("1 drill of 2 runs; without a figure here, for aborted, at work or")


def test_sizes_are_those_of_the_backup_with_the_run(tables):
    rows = tables(RUNS)["Components, with the size of a backup"]
    assert (rows[0]["Backed up by"], rows[0]["Size of the backup"], rows[0]["Run"]) == (
        "pg_dump", "3.1 MB, files: 24", f"{THIRD} (stand-in)")  # fmt: skip


def test_the_frequency_is_the_rpo_in_force_less_the_time_of_a_backup(tables):
    rows = tables({FIRST: ({"rpo": 60 * S}, {})})["The longest interval between two backups"]
    assert rows[0]["Back up at least every"] == "54.7 s, for a backup set took 5.3 s"


def test_an_rpo_shorter_than_a_backup_cannot_be_held(tables):
    rows = tables({FIRST: ({"rpo": 4 * S, "lost": 0}, {})})["The longest interval between two backups"]
    assert rows[0]["Back up at least every"].startswith("cannot be held")


def test_without_an_rpo_no_frequency_is_made_up(tables):
    rows = tables(RUNS)["The longest interval between two backups"]
    assert {row["Back up at least every"][:17] for row in rows} == {"not to be derived"}


def test_the_steps_are_those_of_the_newest_drill_that_passed_in_their_order(population):
    found = guide.guide(population({**RUNS, THIRD: ({"check_error": "OSError"}, {})}))
    at, steps = next((n, part) for n, part in enumerate(found.parts) if getattr(part, "numbered", False))
    assert SECOND in found.parts[at - 1].text
    assert [line.partition(":")[0] for line in steps.lines] == [
        "detect", "provision", "restore configuration", "restore database", "restore objects", "start", "ready",
        "first transaction", "verify"]  # fmt: skip
    assert "restore database: 1.41 s" in steps.lines


def test_a_total_loss_is_shown_before_a_newer_drill_of_less(population):
    found = guide.guide(population({FIRST: ({}, {}), SECOND: ({"disaster": "table_dropped"}, {})}))
    assert any("disaster total_loss, run " + FIRST in getattr(part, "text", "") for part in found.parts)


def test_hostile_text_is_escaped_in_both_forms(population):
    found = guide.guide(population({FIRST: ({"text": "<script>x</script>|\x1b[31m\u202e" + "y" * 100_000}, {})}))
    page, text = document.as_html(found), document.as_markdown(found)
    assert "<script" not in page
    assert "<script" not in text.replace("\\<", "")
    assert not any(mark in page + text for mark in ("\x1b", "\u202e"))
    assert len(page) + len(text) < 60_000


@pytest.mark.parametrize("form", ["md", "html"])
def test_the_command_prints_it(population, capsys, form):
    assert main(["guide", "--runs-directory", str(population(RUNS)), "--format", form]) == 0
    assert THIRD in capsys.readouterr().out


def test_the_runs_can_be_named_as_an_argument_and_what_holds_none_is_refused(population, tmp_path, capsys):
    runs = population(RUNS)
    assert main(["guide", str(runs)]) == 0
    assert main(["guide", str(runs), "--runs-directory", str(runs)]) == 4
    assert main(["guide", str(runs / FIRST)]) == 4
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("x")
    capsys.readouterr()
    assert main(["guide", "--runs-directory", str(tmp_path / "docs")]) == 4
    said = capsys.readouterr()
    assert (said.out, "no runs directory. Remedy: name" in said.err) == ("", True)


def test_without_any_run_nothing_is_measured(tmp_path, capsys):
    assert main(["guide", "--runs-directory", str(tmp_path)]) == 1  # empty: before its first run
    assert "Not measured yet" in capsys.readouterr().out


def test_an_evidence_that_lacks_its_parts_is_one_message(population, capsys):
    runs = population({FIRST: ({}, {})})
    file = runs / FIRST / "evidence.json"
    kept = json.loads(file.read_text("utf-8"))
    del kept["drills"][0]["phases"]
    file.write_text(json.dumps(kept), "utf-8")
    assert main(["guide", "--runs-directory", str(runs)]) == 4
    assert "Remedy" in capsys.readouterr().err

"""Whole pytest sessions with the plugin, in a directory of their own."""

import json
import textwrap
import tomllib
from pathlib import Path

import pytest

from reports import signing
from reports.__main__ import main
from reports.run import describe_suite

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def session(pytester, monkeypatch):
    """Run pytest on a small suite whose drill replays the synthetic journal, and hand back the result."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BUILD_URL", "https://ci.example/job/7")
    for name in ("PYTEST_ADDOPTS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(
        """
        import os, pytest
        pytest_plugins = ["reports.plugin"]
        def pytest_configure():
            if os.environ.get("REFUSE"):
                raise pytest.UsageError("the profile is refused")
        """
    )
    pytester.makefile(".toml", pyproject='[tool.pytest]\ntestpaths = ["drills"]\nfilterwarnings = ["error"]\n')
    pytester.mkdir("tests").joinpath("test_own.py").write_text("def test_own(): pass\n")
    pytester.mkdir("drills").joinpath("test_drill.py").write_text(
        textwrap.dedent(f"""
        import importlib.util, json, os, pathlib, shutil, pytest
        spec = importlib.util.spec_from_file_location("builder", {str(ROOT / "tests/reports/conftest.py")!r})
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)

        @pytest.fixture(scope="session")
        def drilled(run, tmp_path_factory):
            made = builder.build(tmp_path_factory.mktemp("made"), **json.loads(os.environ.get("GIVEN", "{{}}")))
            shutil.copytree(made.directory / builder.DRILL, run.drill_directory(builder.DRILL), dirs_exist_ok=True)
            events = [event for event in made.journal.events if "drill" in event]
            own = ("n", "t", "utc", "kind", "prev", "hash")
            replay = lambda event: run.journal.write(
                event["kind"], **{{key: value for key, value in event.items() if key not in own}})
            for event in events[:-1]:
                replay(event)
            yield run
            replay(events[-1])

        def test_drill(drilled):
            print("the secret is", drilled.redactor.learn("correct horse battery"))
            if os.environ.get("FAIL"):
                raise AssertionError("correct horse battery")

        def test_after(drilled):
            if os.environ.get("KILL"):
                os.kill(os.getpid(), 9)
            if os.environ.get("EXIT"):
                pytest.exit("told to", returncode=int(os.environ["EXIT"]))

        def test_no_drill():
            pass
        """)
    )
    return lambda *arguments: pytester.runpytest_subprocess(*arguments)


@pytest.fixture
def runs(pytester):
    """The run directories there are."""
    return lambda: sorted(path for path in (pytester.path / "reports/runs").glob("*") if path.is_dir())


def evidence_of(run):
    return json.loads((run / "evidence.json").read_text())


def test_a_session_that_drills_leaves_every_artefact_and_names_them_last(session, runs, pytester):
    result = session()
    (run,) = runs()
    assert result.ret == 0
    assert {path.name for path in run.iterdir() if path.is_file()} == {
        "journal.jsonl", "evidence.json", "report.html", "junit.xml", "evidence.html", "metrics.prom",
        "oscal-assessment-results.json", "SHA256SUMS"}  # fmt: skip
    relative = run.relative_to(pytester.path)
    assert result.outlines[-5:-1] == [
        f"report:   {relative}/report.html",
        f"audit:    {relative}/evidence.html",
        f"evidence: {relative}/evidence.json",
        "sealed:   line 0 of the register; not signed (no key)",
    ]
    assert "passed in" in result.outlines[-1]


def test_evidence_is_written_after_the_last_fixture_and_before_the_page(session, runs):
    session("-x")
    (run,) = runs()
    assert evidence_of(run)["drills"][0]["closed"]
    page = (run / "report.html").read_text()
    assert "Verdict: passed" in page
    assert "test_no_drill" in page


def test_a_page_that_finds_no_room_is_told_of_and_the_run_is_closed_and_sealed(session, runs):
    result = session("--junit-xml=/dev/full")
    (run,) = runs()
    assert result.ret == 3
    result.stdout.fnmatch_lines(["a report was not written: *No space left on device*"])
    assert main(["verify", str(run)]) == 0


def test_evidence_that_cannot_be_written_is_told_of_in_one_line(session, runs, pytester):
    (pytester.path / "drills/test_in_the_way.py").write_text(
        'def test_in_the_way(run):\n    (run.directory / "evidence.json.half").mkdir()\n'
    )
    result = session("--html=/dev/full")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*evidence.json: Is a directory*make room*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_no_secret_reaches_a_report_and_no_ci_variable_the_page(session, runs, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    result = session("-rA")
    (run,) = runs()
    for name in ("report.html", "junit.xml", "evidence.json", "journal.jsonl"):
        assert "correct horse battery" not in (run / name).read_text()
    assert "AssertionError: [redacted]" in (run / "report.html").read_text()
    assert "ci.example" not in (run / "report.html").read_text()
    assert "AssertionError: correct horse battery" not in result.stdout.str()
    assert result.ret == 1


def test_a_verdict_worse_than_pytests_own_decides_the_exit_status(session, runs, monkeypatch):
    monkeypatch.setenv("GIVEN", '{"rto": 1000000}')
    result = session()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["RTO-EXCEEDED*", "verdict:  failed"])


def test_tests_without_any_drill_prove_nothing(session, runs):
    result = session("drills/test_drill.py::test_no_drill")
    assert result.ret == 1
    assert evidence_of(runs()[0])["reasons"] == ["no drill was run, and no deployment checked"]


def test_an_interrupted_drill_is_kept_as_an_error(session, runs, monkeypatch):
    monkeypatch.setenv("EXIT", "3")
    result = session()
    (run,) = runs()
    assert result.ret == 3
    assert evidence_of(run)["verdict"] == "error"


def test_a_refused_input_leaves_no_run_behind(session, runs, monkeypatch):
    assert session("drills/absent.py").ret == 4
    monkeypatch.setenv("REFUSE", "1")
    assert session().ret == 4
    assert runs() == []


def test_a_refused_run_announces_no_file_that_is_removed(session, runs, pytester):
    own = pytester.path / "own.xml"
    assert "generated xml file" not in session("drills/absent.py").stdout.str()
    assert "generated xml file" not in session("-k", "nothing").stdout.str()
    assert f"generated xml file: {own}" in session("drills/absent.py", "--junitxml=own.xml").stdout.str()
    assert own.exists()
    assert runs() == []


def test_warnings_fail_tests_of_ours_and_no_drill(pytestconfig):
    assert "error" in pytestconfig.getini("filterwarnings")
    assert "filterwarnings" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]


def test_a_changed_source_shows_and_what_a_run_leaves_does_not(tmp_path):
    def source():
        return describe_suite(tmp_path)["source_sha256"]

    assert source() == ""
    for name in ("reports/a.py", "checks/deep/b.sql"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1")
    before = source()
    (tmp_path / "reports/runs/one").mkdir(parents=True)
    (tmp_path / "reports/runs/one/evidence.json").write_text("{}")
    (tmp_path / "checks/notes.txt").write_text("no source")
    assert len(before) == 64
    assert source() == before
    (tmp_path / "checks/deep/b.sql").write_text("2")
    assert source() not in (before, "")


def test_a_refusal_after_a_drill_was_opened_keeps_the_run(session, runs, monkeypatch):
    monkeypatch.setenv("EXIT", "4")
    assert session("drills/test_drill.py::test_after").ret == 4
    assert evidence_of(runs()[0])["verdict"] == "error"


@pytest.mark.parametrize("arguments", [["tests"], ["--collect-only"], ["--markers"], ["-k", "nothing"], ["--fixtures"]])
def test_a_session_that_judges_no_deployment_leaves_nothing(session, runs, arguments):
    session(*arguments)
    assert runs() == []


def test_the_users_own_places_are_respected(session, pytester):
    session("--html=own.html", "--junitxml=own.xml", "--runs-directory=elsewhere")
    assert "Verdict: passed" in (pytester.path / "own.html").read_text()
    (run,) = (path for path in (pytester.path / "elsewhere").iterdir() if path.is_dir())
    assert not {"report.html", "junit.xml"} & {path.name for path in run.iterdir()}
    assert (pytester.path / "own.xml").exists()


def test_a_runs_directory_that_cannot_be_made_is_one_clear_message(session, pytester):
    (pytester.path / "file").write_text("")
    result = session("--runs-directory=file")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *file/*: *Remedy: *--runs-directory"])
    assert "Traceback" not in result.stderr.str()


def test_a_key_that_cannot_be_used_ends_before_anything_is_drilled(session, runs, monkeypatch):
    assert session("--evidence-key=absent").ret == 4
    monkeypatch.setenv("ENPRIVACY_EVIDENCE_KEY", "pyproject.toml")
    result = session()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *pyproject.toml: not a private key in PEM. Remedy: *keygen*"])
    assert runs() == []


def test_a_run_with_a_key_is_signed_and_the_next_one_knows_it(session, runs, pytester):
    key_id = signing.make_key(pytester.path / "key")
    session("--evidence-key=key").stdout.fnmatch_lines(
        [f"sealed:   line 0 of the register; signed by the key {key_id}"]
    )
    session("--evidence-key=key")
    first, second = runs()
    assert evidence_of(second)["previous"]["run_id"] == first.name
    assert main(["verify", str(first.parent), "--key", str(pytester.path / "key.pub")]) == 0


def test_a_run_that_was_killed_is_told_of_by_the_next(session, runs, pytester, monkeypatch):
    monkeypatch.setenv("KILL", "1")
    session()
    (killed,) = runs()
    monkeypatch.delenv("KILL")
    session().stdout.fnmatch_lines([f"register: run {killed.name} added as aborted"])

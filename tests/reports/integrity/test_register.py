"""The register of runs: nothing that was opened is left out, whoever runs beside whom and whatever is killed."""

import concurrent.futures
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reports import register, sealing
from reports.records import UsageProblem
from reports.run import Run

ROOT = Path(__file__).parents[3]
LIVES = """
import sys, pathlib
from reports.run import Run
run = Run(pathlib.Path(sys.argv[1]))
run.journal.write("conformance.opened")
print(run.run_id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def opened():
    """Open a run; what is still open at the end is let go, as the end of its process would."""
    runs = []

    def open_one(runs_directory):
        runs.append(Run(runs_directory))
        return runs[-1]

    yield open_one
    for run in runs:
        run.journal.close()
        run.let_go()


def test_runs_beside_each_other_are_all_registered_in_one_chain(opened, tmp_path):
    def one(number):
        run = opened(tmp_path)
        sealing.seal(run.directory, run.close(0))
        return run

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(one, range(24)))
    lines = register.read(tmp_path)
    assert {line["run_id"] for line in lines} == {run.run_id for run in runs}
    assert [line["state"] for line in lines] == ["sealed"] * 24
    assert all(run.found == [] for run in runs)


def test_a_run_is_left_alone_while_it_lives_and_registered_by_the_next_when_it_was_killed(opened, tmp_path):
    command = [sys.executable, "-c", LIVES, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        run_id = process.stdout.readline().strip()
        assert opened(tmp_path).found == []
        process.send_signal(signal.SIGKILL)
    (line,) = opened(tmp_path).found
    assert (line["run_id"], line["state"], line["verdict"]) == (run_id, "aborted", "error")
    assert line["sha256"] == register.digest_of(tmp_path / run_id / "journal.jsonl")


def test_a_run_made_before_there_was_a_register_is_added_as_unsealed(opened, made, tmp_path):
    run = made()
    (run.directory / "evidence.json").write_text('{"verdict": "passed"}')
    later = opened(tmp_path)
    assert [(line["run_id"], line["state"], line["verdict"]) for line in later.found] == [
        (run.directory.name, "unsealed", "passed")]  # fmt: skip


def test_a_run_knows_the_line_before_it_from_its_journal_alone(opened, tmp_path):
    first, second = opened(tmp_path), opened(tmp_path)
    assert first.close(0)["previous"] is None
    seal = sealing.seal(first.directory, first.evidence)
    assert second.close(0)["previous"] == {"n": 0, "run_id": first.run_id, "state": "sealed", "sha256": seal.sha256,
                                           "hash": seal.hash}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"}\n", b"}"), (b"}\n", b"}\n{}\n"), (b"{", b"\n{"), (b"error", b"passed"), (b",", b", "), (b"{", b"[" * 9_000)],
)
def test_a_broken_register_stops_a_run_before_it_begins(opened, tmp_path, old, new):
    run = opened(tmp_path)
    sealing.seal(run.directory, run.close(0))
    path = tmp_path / "register.jsonl"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageProblem, match=r"register\.jsonl, line \d: the chain of digests is broken here"):
        opened(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_retired_run_may_be_gone_and_its_figures_stay(population, verify):
    register.retire(population.runs, [(population.first.name, {"drills": []})])
    assert "is retired by line 4 of the register, and its directory is here" in verify(population.runs).told
    for path in sorted(population.first.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    population.first.rmdir()
    assert verify(population.runs).status == 0
    assert json.loads((population.runs / "register.jsonl").read_text().splitlines()[-1])["summary"] == {"drills": []}


@pytest.mark.parametrize("name", ["20990101T000000Z-ffff", "../first"])
def test_what_was_never_registered_is_not_retired(population, name):
    before = register.read(population.runs)
    with pytest.raises(UsageProblem, match="in no line"):
        register.retire(population.runs, [(population.first.name, {}), (name, {})])
    assert register.read(population.runs) == before


def test_a_run_that_is_at_work_is_not_looked_at(opened, population, verify):
    run = opened(population.runs)
    assert f"{run.run_id} is running and not looked at" in verify(population.runs).told


def test_an_unsealed_run_that_nothing_signed_speaks_of_differs_where_a_key_is_given(add_run, made, verify, tmp_path):
    made().directory.rename(tmp_path / "runs" / "20261122T210403Z-4f9a")
    with register.locked(tmp_path / "runs") as book:
        book.catch_up()
    assert "nothing that is signed speaks of it" in verify(tmp_path / "runs").told


@pytest.mark.parametrize("head", ["x", "0" * 63, "F" * 64])
def test_a_head_that_is_none_is_unusable_input(population, verify, head):
    assert verify(population.runs, "--register-head", head).status == 4

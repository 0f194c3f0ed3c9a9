"""What a forger does who knows the formats and has no key, and what only looks like it: a run that was killed."""

import errno
import fcntl
import hashlib
import json
import os
import shutil

import pytest

from reports import evidence, register, sealing, sign_offs
from reports.__main__ import main
from reports.assessment import assess_run
from reports.records import HarnessError, UsageProblem
from reports.run import Run, describe_suite

REPEATED = ("opened_utc", "sha256", "verdict", "key_id")
UNSEALED = "20261122T220500Z-0bad"


def differing(result):
    return [line for line in result.told.splitlines() if line.startswith("DIFFERS")]


def append(runs, run_id, state, **fields):
    with register.locked(runs) as book:
        return book.append(run_id, state, **fields)


def line_of(runs, directory):
    return register.latest(register.read(runs))[directory.name]


def unseal(directory):
    """Leave a run as it is when it is killed between its evidence and its seal."""
    for name in ("SHA256SUMS", "attestation.dsse.json"):
        (directory / name).unlink(missing_ok=True)


@pytest.fixture
def verify_without_key(capsys):
    """Verify as somebody does who has no key."""

    def verified(directory):
        status = main(["verify", str(directory)])
        told = capsys.readouterr()
        return status, told.out + told.err

    return verified


def test_a_retired_line_of_a_run_that_never_was_differs(population, verify):
    append(population.runs, "20261123T120000Z-beef", "retired", opened_utc="2026-11-23T12:00:00Z", sha256="0" * 64,
           verdict="passed", key_id="", summary={"drills": []})  # fmt: skip
    assert "no line before it says so" in differing(verify(population.runs))[0]


def test_a_failed_run_removed_under_a_retired_line_that_says_passed_differs(population, verify):
    fields = {key: line_of(population.runs, population.second)[key] for key in REPEATED}
    shutil.rmtree(population.second)
    append(population.runs, population.second.name, "retired", **fields | {"verdict": "passed"}, summary={"drills": []})
    result = verify(population.runs)
    assert result.status == 1
    assert f"run {population.second.name}: passed, retired by line 4" in differing(result)[0]


def test_a_run_retired_as_it_was_is_told_of(population, verify):
    register.retire(population.runs, [(population.second.name, {"drills": []})])
    shutil.rmtree(population.second)
    result = verify(population.runs)
    assert result.status == 0, result.told
    assert f"run {population.second.name}: failed, retired by line 4; nothing that is signed speaks" in result.told


def test_a_run_and_its_retirement_both_made_up_at_the_end_differ_where_a_key_is_given(population, key, verify):
    fields = {"opened_utc": "2026-11-23T12:00:00Z", "sha256": "0" * 64, "verdict": "passed",
              "key_id": key.signer.public_key.keyid}  # fmt: skip
    append(population.runs, "20261123T120000Z-beef", "sealed", **fields)
    append(population.runs, "20261123T120000Z-beef", "retired", **fields, summary={"drills": []})
    assert "it may never have been" in differing(verify(population.runs))[0]


def test_retention_does_not_launder_a_run_whose_figures_were_altered(population, capsys):
    path = population.second / "evidence.json"
    path.write_text(path.read_text().replace('"verdict": "failed"', '"verdict": "passed"'))
    main(["retain", str(population.runs), "--keep-days", "0", "--delete"])
    assert f"stays  {population.second.name}  its files differ, see verify" in capsys.readouterr().out
    assert population.second.exists()


def test_a_finished_run_that_is_registered_as_aborted_differs(population, made, verify_without_key):
    made_up = made(rto=10**12, rpo=10**12)
    evidence.write(assess_run(made_up.directory), made_up.directory / "evidence.json")
    place = population.runs / made_up.journal.events[0]["run_id"]
    made_up.directory.rename(place)
    append(population.runs, place.name, "aborted", opened_utc=made_up.journal.events[0]["utc"],
           sha256=register.digest_of(place / "journal.jsonl"), verdict="passed", key_id="")  # fmt: skip
    status, told = verify_without_key(population.runs)
    assert status == 1
    assert "of the register says aborted, and the journal of" in told


def test_the_next_signed_run_does_not_vouch_for_an_unsealed_one(population, add_run, key, verify):
    directory = add_run(UNSEALED, seal=False, rto=10**12, rpo=10**12)
    evidence.write(assess_run(directory), directory / "evidence.json")
    with register.locked(population.runs) as book:
        book.catch_up()
    add_run("20261122T233000Z-0004", key.signer)
    result = verify(population.runs)
    assert result.status == 1
    assert "is unsealed, after the first signed run: its sealing was interrupted, or it was made up" in result.told


def test_an_aborted_run_is_told_of_as_unsigned_though_a_later_run_is_signed(population, verify):
    result = verify(population.runs)
    assert result.status == 0
    assert f"run {population.killed.name} is aborted, and bears no signature" in result.told


def test_a_sealed_run_is_looked_at_whoever_holds_its_journal(population, verify):
    (population.first / "report.html").write_text("better\n")
    with (population.first / "journal.jsonl").open() as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert "report.html was altered" in differing(verify(population.runs))[0]


def test_a_broken_register_is_named_though_a_run_was_aborted(population, verify_without_key):
    (population.runs / "register.jsonl").write_text("{}\n")
    status, told = verify_without_key(population.runs)
    assert status == 1
    assert "register.jsonl, line 1: the chain of digests is broken here" in told
    assert f"{population.newest.name} holds" in told


def test_runs_of_before_there_was_a_register_hold_though_one_was_aborted(made, tmp_path, verify_without_key):
    (tmp_path / "old").mkdir()
    made(run_closed=None, drill_closed=None).directory.rename(tmp_path / "old" / "20261122T210403Z-4f9a")
    assert verify_without_key(tmp_path / "old")[0] == 0


def test_evidence_computed_for_an_aborted_run_differs(population, verify_without_key):
    evidence.write(assess_run(population.killed), population.killed / "evidence.json")
    status, told = verify_without_key(population.killed)
    assert status == 1
    assert "evidence.json is there, and its run was never closed" in told


def test_a_signed_run_brought_from_another_register_is_told_of(population, add_run, key, verify, tmp_path):
    line = population.runs / "register.jsonl"
    kept = line.read_bytes()
    line.unlink()  # signed as the first of a register of its own, as in a job that begins with an empty directory
    brought = add_run("20261122T235000Z-0009", key.signer)
    line.write_bytes(kept)
    with register.locked(population.runs) as book:
        book.catch_up()
    result = verify(population.runs)
    (told,) = [text for text in result.told.splitlines() if brought.name in text]
    assert "no line before line 4 is known to it: begun beside the first run, or of another register" in told


def test_a_time_in_the_register_that_the_journal_does_not_know_differs(population, verify):
    path = population.runs / "register.jsonl"
    *before, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(before))
    fields = {key: json.loads(last)[key] for key in REPEATED} | {"opened_utc": "2099-01-01T00:00:00.000000Z"}
    append(population.runs, population.newest.name, "sealed", **fields)
    assert "was opened at another time" in differing(verify(population.runs))[0]


def test_a_sign_off_made_elsewhere_with_the_key_of_the_run_itself_is_told(population, key, verify):
    sign_offs.add(population.second, reviewer="Bo", note="fine", signer=key.signer)
    assert "the key of the run itself" in verify(population.second, "--reviewer-key", str(key.public)).told


@pytest.mark.parametrize("written", [True, False], ids=["with evidence", "without"])
def test_a_run_killed_before_its_seal_is_named_so_and_not_accused_without_a_key(
    add_run, key, verify, verify_without_key, tmp_path, written
):
    run, runs = add_run("20261122T210000Z-0001"), tmp_path / "runs"
    unseal(run)
    (runs / "register.jsonl").unlink()
    if not written:
        (run / "evidence.json").unlink()
    with register.locked(runs) as book:
        book.catch_up()
    status, told = verify_without_key(run)
    assert "sealing    its sealing was interrupted: not sealed, not signed" in told
    assert status == (0 if written else 1)
    assert verify_without_key(runs)[0] == 0
    assert verify(runs).status == 1


def test_a_run_killed_between_seal_and_signature_is_named_so(add_run, key, verify, verify_without_key, tmp_path):
    run, runs = add_run("20261122T210000Z-0001", key.signer), tmp_path / "runs"
    (run / "attestation.dsse.json").rename(run / "attestation.dsse.json.half")
    (runs / "register.jsonl").unlink()
    with register.locked(runs) as book:
        book.catch_up()
    status, told = verify_without_key(run)
    assert status == 0, told
    assert "its sealing was interrupted: sealed, not signed" in told
    assert verify(runs).status == 1


def test_half_an_attestation_beside_a_whole_one_differs(population, verify):
    (population.first / "attestation.dsse.json.half").write_text("{}")
    assert "attestation.dsse.json.half was added" in differing(verify(population.first))[0]


def test_a_run_killed_before_its_first_event_is_no_difference(population, verify_without_key):
    for name in ("20261122T231000Z-0000", "20261122T231001Z-0000"):
        (population.runs / name).mkdir()
    (population.runs / "20261122T231000Z-0000" / "journal.jsonl").touch()
    with register.locked(population.runs) as book:
        book.catch_up()
    status, told = verify_without_key(population.runs)
    assert status == 0, told
    assert "20261122T231000Z-0000 holds: error: aborted" in told.replace("before its first", "")
    assert "20261122T231001Z-0000 is empty" in told


@pytest.mark.parametrize("name", ["attestation.dsse.json", "sign-off-1.dsse.json", "SHA256SUMS"])
def test_a_directory_in_the_place_of_a_signed_file_differs(population, verify, name):
    (population.first / name).unlink()
    (population.first / name).mkdir()
    assert f"{name} is no plain file" in differing(verify(population.first))[0]


def test_a_name_that_is_no_utf_8_is_refused_in_one_line(made):
    run = made()
    (run.directory / os.fsdecode(b"\xff.txt")).touch()
    with pytest.raises(HarnessError, match="no plain file with a plain name"):
        sealing.sums_of(run.directory)


@pytest.mark.parametrize("name", ["journal.jsonl", "evidence.json"])
def test_a_pipe_in_the_place_of_a_file_ends_nothing_in_a_wait(population, verify, name):
    place = population.runs / "20261122T231000Z-0000"
    place.mkdir()
    (place / "journal.jsonl").touch()
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name)
    with register.locked(population.runs) as book:
        book.catch_up()
    assert f"{name} is no plain file" in "".join(differing(verify(population.runs)))


def test_a_run_whose_first_event_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    def full(*given, **fields):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("reports.records.Journal.write", full)
    with pytest.raises(UsageProblem, match="No space left on device"):
        Run(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "commit"),
    [("ref: refs/heads/main", "c0ffee" * 6 + "abcd"), ("ref: ../secret", ""), ("ref: refs/../../secret", ""),
     ("a secret of somebody", ""), ("ref: refs/heads/odd", "")],
)  # fmt: skip
def test_the_commit_is_a_digest_and_never_the_words_of_another_file(tmp_path, head, commit):
    (tmp_path / ".git/refs/heads").mkdir(parents=True)
    (tmp_path / ".git/refs/heads/main").write_text("c0ffee" * 6 + "abcd\n")
    (tmp_path / ".git/refs/heads/odd").write_text("a secret of somebody\n")
    (tmp_path / "secret").write_text(hashlib.sha1(b"").hexdigest())
    (tmp_path / ".git/HEAD").write_text(head)
    assert describe_suite(tmp_path)["commit"] == commit

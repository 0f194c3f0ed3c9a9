"""``python -m reports verify``, as an auditor runs it."""

import hashlib
import json

import pytest

from reports import evidence
from reports.__main__ import main
from reports.assessment import assess_run
from reports.records import GENESIS, canonical


@pytest.fixture
def archived(made):
    """A finished run: files as they lie in an archive."""
    run = made()
    evidence.write(assess_run(run.directory), run.directory / "evidence.json")
    return run.directory


def test_an_untouched_run_holds(archived, capsys):
    assert main(["verify", str(archived)]) == 0
    assert "every figure computed again" in capsys.readouterr().out


def test_a_run_of_many_drills_with_all_there_can_be_holds(made, builder, capsys):
    run = made(more=builder.many(4), deletions=20, shut=900_000_000, backups=["second"], chosen="manifest",
               plan={"database": "restored"}, left_out=[{"what": "x", "reason": "y"}],
               planted=[{"code": "BACKUP-ARTEFACT-ALTERED", "seen": "toc.dat"}])  # fmt: skip
    evidence.write(assess_run(run.directory), run.directory / "evidence.json")
    assert main(["verify", str(run.directory)]) == 0
    assert capsys.readouterr().out.count("ledger     ") == 8


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"achieved_ns": 4210000000', '"achieved_ns": 4209999999', "$.drills[0].objectives[0].achieved_ns"),
        ('"verdict": "passed"', '"verdict": "failed"', "$.verdict"),
        ('"median_ns": 4210000000', '"median_ns": 1', "$.summary.recovery_time.median_ns"),
        ('"lost": 2', '"lost": 0', "$.drills[0].recovery_point.channels[0].lost"),
        ('"score": "11/11"', '"score": "12/12"', "$.controls.score"),
    ],
)
def test_one_tampered_figure_is_named(archived, capsys, old, new, named):
    kept = (archived / "evidence.json").read_text()
    assert old in kept
    (archived / "evidence.json").write_text(kept.replace(old, new, 1))
    assert main(["verify", str(archived)]) == 1
    assert f"{named}: it says" in capsys.readouterr().out


def test_an_aborted_run_is_assessed_from_what_it_wrote(made, capsys):
    assert main(["verify", str(made(run_closed=None, drill_closed=None).directory)]) == 1
    told = capsys.readouterr().out
    assert "verdict    error: aborted" in told
    assert "reason     run: the run was opened and never closed" in told
    assert "the drill was opened and never closed" in told


@pytest.mark.parametrize("garbage", ["x", '{"n": 99', "x\n", "\n", "{}\n"])
def test_anything_after_the_line_that_closed_the_run_is_noticed(archived, capsys, garbage):
    with (archived / "journal.jsonl").open("a") as file:
        file.write(garbage)
    assert main(["verify", str(archived)]) in (1, 4)
    assert "figures" not in capsys.readouterr().out


def test_events_after_the_end_of_the_run_are_noticed_though_their_chain_holds(made, capsys):
    run = made()
    run.journal.write("health", 99)
    run.journal.save(run.directory)
    assert main(["verify", str(run.directory)]) == 1
    assert "something follows the line that closed the run" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["run.opened", "drill.opened", "ledger.closed", "strike", "probe", "control"])
@pytest.mark.parametrize("key", ["kind", "drill", "sha256", "path", "at_ns", "outcome", "expects", "suite"])
def test_a_chained_journal_that_lacks_a_key_ends_in_one_line(made, builder, capsys, kind, key):
    run = made()
    evidence.write(assess_run(run.directory), run.directory / "evidence.json")
    events, run.journal.events = run.journal.events, []
    for event in events:
        fields = {name: value for name, value in event.items() if name not in ("n", "prev", "hash")}
        if event["kind"] == kind:
            fields.pop(key, None)
        whole = {"n": len(run.journal.events)} | fields
        whole["prev"] = run.journal.events[-1]["hash"] if run.journal.events else GENESIS
        run.journal.events.append(whole | {"hash": hashlib.sha256(canonical(whole)).hexdigest()})
    run.journal.save(run.directory)
    lacks = any(event["kind"] == kind and key in event for event in events)
    status, told = main(["verify", str(run.directory)]), capsys.readouterr()
    assert status in (1, 4) or not lacks or "NOT covered" in told.out
    assert told.err.count("\n") == (status == 4)


@pytest.mark.parametrize("depth", [200, 900, 5_000, 100_000])
def test_a_deeply_nested_line_ends_in_one_line(archived, capsys, depth):
    nested = b"[" * depth + b"]" * depth
    for name in ("journal.jsonl", "evidence.json"):
        kept = (archived / name).read_bytes()
        (archived / name).write_bytes(b'{"n": 0, "kind": "run.opened", "suite": ' + nested + b"}\n")
        assert main(["verify", str(archived)]) in (1, 4)
        assert capsys.readouterr().err.count("\n") <= 1
        (archived / name).write_bytes(kept)


def test_success_says_what_is_covered_and_what_is_not(archived, capsys):
    main(["verify", str(archived)])
    (covered,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("covered")]
    assert "the ledgers, what was witnessed and read, evidence.json; not report.html and junit.xml," in covered


def test_what_differs_ends_with_what_to_do_about_it(archived, capsys):
    with next(archived.glob("*/ledger.jsonl")).open("a") as file:
        file.write("{}\n")
    assert main(["verify", str(archived)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("remedy     take nothing that differs as evidence")


def test_a_tampered_ledger_is_named(archived, capsys):
    ledger = next(archived.glob("*/observed.jsonl"))
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:-1]))
    assert main(["verify", str(archived)]) == 1
    assert "observed.jsonl is not the file" in capsys.readouterr().out


def test_a_tampered_journal_is_named_by_its_line(archived, capsys):
    journal = archived / "journal.jsonl"
    journal.write_text(journal.read_text().replace("9 of 9 gone", "8 of 9 gone"))
    assert main(["verify", str(archived)]) == 1
    assert "journal.jsonl, line " in capsys.readouterr().out


def test_a_journal_without_its_end_gives_other_figures(archived, capsys):
    journal = archived / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    assert main(["verify", str(archived)]) == 1
    assert "$.verdict: it says 'passed', computed 'error'" in capsys.readouterr().out


def test_an_evidence_that_breaks_its_schema_differs(archived, capsys):
    kept = json.loads((archived / "evidence.json").read_text())
    (archived / "evidence.json").write_text(json.dumps(kept | {"note": "trust me"}))
    assert main(["verify", str(archived)]) == 1
    assert "schema" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["journal.jsonl", "evidence.json", "*/ledger.jsonl"])
def test_a_missing_file_is_unusable_input_in_one_line(archived, capsys, missing):
    next(archived.glob(missing)).unlink()
    assert main(["verify", str(archived)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", ["", "{", "[]\n", '{"kind": "run.opened"}\n', "\x00\xff\n"])
def test_a_journal_of_nonsense_never_ends_in_a_traceback(archived, capsys, content):
    (archived / "journal.jsonl").write_text(content)
    assert main(["verify", str(archived)]) in (1, 4)
    assert "Traceback" not in capsys.readouterr().err


def test_an_evidence_of_nonsense_is_unusable_input(archived, capsys):
    (archived / "evidence.json").write_text("{")
    assert main(["verify", str(archived)]) == 4
    assert "not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["verify"], ["verify", "--nope", "x"], ["swallow"]])
def test_usage_errors_exit_with_four(arguments, capsys):
    assert main(arguments) == 4


def test_a_ledger_outside_the_run_is_refused(made, builder, capsys):
    run = made()
    for event in run.journal.events:
        if event["kind"] == "ledger.closed":
            event["path"] = "../../etc/passwd"
    builder.rechain(run)
    assert main(["verify", str(run.directory)]) == 4
    assert "outside the run's directory" in capsys.readouterr().err

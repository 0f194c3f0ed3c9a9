"""Shadow restores from outside: of a deployment of the suite's own, with its backups taken or kept in a directory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = "test_shadow_restore"


def codes(evidence):
    return {finding["code"] for finding in evidence["drills"][0]["findings"] if finding["severity"] == "failure"}


@pytest.mark.slow
def test_a_shadow_restore_passes_verifies_and_leaves_nothing_but_its_evidence(suite):
    exit_code, output = suite.run("--level=shadow", "-k", TEST)
    assert exit_code == 0, output
    (drill,) = suite.evidence()["drills"]
    assert (drill["level"], drill["verdict"]) == ("shadow", "passed")
    assert drill["recovery_time"]["basis"].startswith("the first business transaction")
    assert [backup["taken"] for backup in drill["shadow"]["backups"]] == [True, True]
    assert drill["recovery_point"]["basis"].startswith("the backup's own position")
    checks = {row["check"]: row["verdict"] for row in drill["checks"]}
    assert {"database", "objects", "objects of the deployment", "references"} <= checks.keys()
    assert set(checks.values()) == {"passed"}
    assert drill["controls"]["caught"] == drill["controls"]["planted"] >= 30
    (run,) = suite.left()
    verified = subprocess.run([sys.executable, "-m", "reports", "verify", run], cwd=ROOT, capture_output=True)
    assert verified.returncode == 0, verified.stderr
    page = Path(run, "report.html").read_text("utf-8")
    assert "restored into a sandbox" in page and "Made for this drill" in page


@pytest.mark.slow
def test_a_place_without_a_backup_is_told_and_nothing_reads_as_passed(suite, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    profile = tmp_path / "profile.toml"
    profile.write_text(
        '[deployment]\nname = "shadowed"\n[postgresql]\nport = "free"\n[objects]\nport = "free"\n'
        + "".join(f'[services.{name}]\nport = "free"\n' for name in ("web", "job", "llm", "ocr"))
        + f'[shadow]\ndatabase = {{source = "directory", path = "{empty}"}}\n'
    )
    exit_code, output = suite.run(f"--profile={profile}", "--level=shadow", "-k", TEST)
    assert exit_code == 1
    assert f"directory {empty}" in output and "no backup of a database in it" in output
    assert "Remedy" in output and "Traceback" not in output
    assert suite.evidence()["verdict"] in ("error", "failed")


def test_a_level_that_allows_for_no_drill_says_which_would(suite, tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text(
        '[deployment]\nname = "theirs"\nprovider = "attached"\n[postgresql]\ndsn = "postgresql://reader@127.0.0.1:1/x"\n'
        '[objects]\nendpoint = "http://127.0.0.1:1"\naccess_key = "reader-key"\nsecret_key = "reader-secret"\n'
        '[services.web]\nurl = "http://127.0.0.1:1"\n'
    )
    exit_code, output = suite.run(f"--profile={profile}", "-k", "total_loss or shadow")
    assert exit_code == 4
    assert "--level shadow" in output and "--destroy theirs" in output
    assert not list(suite.runs.glob("*")) if suite.runs.exists() else True

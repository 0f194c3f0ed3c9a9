"""The gate as it is run: no-go, then go; an upgrade that dies half-way, one that loses a row, a missing tool."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LITTLE = "--scale=documents=4,database=64KiB"
PORTS = "".join(f'[{name}]\nport = "free"\n' for name in ("postgresql", "objects", *(
    f"services.{service}" for service in ("web", "job", "llm", "ocr"))))  # fmt: skip


@pytest.fixture
def decide(suite):
    """Run the gate, and hand back its exit code, its decision, its rehearsal, and what it printed."""

    def run(*arguments):
        # Whatever paths are given, the gate selects its own; nor is one of the drills' names selected here.
        popen = subprocess.run(
            [suite.python, "-m", "pytest", "drills/test_restore_drill.py", "--gate", LITTLE, *arguments,
             f"--work-directory={suite.work}", f"--runs-directory={suite.runs}", "-p", "no:cacheprovider"],
            cwd=ROOT, env=suite.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        newest = max(suite.runs.glob("*/gate.json"))
        evidence = json.loads(newest.with_name("evidence.json").read_text("utf-8"))
        gate = json.loads(newest.read_text("utf-8"))
        assert gate == evidence["gate"] and popen.returncode == gate["exit"], popen.stdout
        return gate, evidence, popen.stdout

    return run


@pytest.fixture
def upgrades_to(tmp_path):
    """A profile of a deployment that the suite makes, with another upgrade than the one that works."""

    def profile(target):
        path = tmp_path / "profile.toml"
        command = json.dumps([sys.executable, "-m", "fixtures.refapp", "upgrade", "--to", target])
        path.write_text(
            f'[deployment]\nname = "acme"\n{PORTS}[upgrade]\nfrom = "3.0"\nto = "3.1"\ncommands = [{command}]\n'
        )
        return f"--profile={path}"

    return profile


def because(gate, verdict="failed"):
    return {reason["code"]: reason for reason in gate["reasons"] if reason["verdict"] == verdict}


def cells(evidence):
    return {(row["data"], row["services"]): row["works"] for row in evidence["rehearsal"]["matrix"]}


@pytest.mark.slow
def test_a_deployment_never_drilled_is_a_no_go_then_a_go_and_without_room_undecided(decide, suite):
    gate, evidence, output = decide()
    assert gate["decision"] == "no-go"
    assert because(gate).keys() == {"TARGET-UNSET", "EVIDENCE-STALE"}
    assert "NO-GO (exit code 1) for the upgrade of embedded from 3.0 to 3.1" in output
    assert "remedy: choose a tier with --targets" in output

    gate, evidence, output = decide("--targets=baseline")
    assert gate["decision"] == "go", gate["reasons"]
    assert {"CONFORMANCE", "SHADOW-RESTORE", "REHEARSAL", "BACKUP", "PREREQUISITES"} <= because(gate, "passed").keys()
    assert cells(evidence) == {
        ("backup of 3.0", "3.0"): True,
        ("backup of 3.0", "3.1"): False,
        ("3.0 upgraded to 3.1", "3.1"): True,
        ("3.0 upgraded to 3.1", "3.0"): False,
        ("backup of 3.0, restored after the upgrade", "3.0"): True,
    }
    rehearsal = evidence["rehearsal"]
    assert rehearsal["rollback_time"]["achieved_ns"] > 0 < rehearsal["upgrade_time"]["achieved_ns"]
    assert rehearsal["controls"]["caught"] == rehearsal["controls"]["planted"] >= 6
    assert "an upgrade that ends well and loses a row" in {row["control"] for row in rehearsal["controls"]["rows"]}
    run = suite.runs / gate["run_id"]
    verify = [sys.executable, "-m", "reports", "verify", run]
    assert subprocess.run(verify, cwd=ROOT, capture_output=True).returncode == 0

    gate, _, output = decide("--targets=baseline", "--scale=database=16000GiB")
    assert gate["decision"] == "undecided", gate["reasons"]  # nothing is known to be wrong with the deployment
    assert "free" in because(gate, "error")["PREREQUISITE-MISSING"]["seen"] and "UNDECIDED (exit code 2)" in output


@pytest.mark.slow
def test_an_upgrade_that_dies_half_way_is_a_no_go_and_the_backup_brings_the_old_version_back(decide, upgrades_to):
    gate, evidence, _ = decide(upgrades_to("3.1-broken"), "--targets=baseline")
    assert gate["decision"] == "no-go"
    assert "UPGRADE-FAILED" in because(gate)["REHEARSAL"]["seen"]
    assert "Do not upgrade in earnest" in because(gate)["REHEARSAL"]["remedy"]
    assert cells(evidence) == {
        ("backup of 3.0", "3.0"): True,
        ("backup of 3.0", "3.1"): False,
        ("3.0, its upgrade to 3.1 failed", "3.0"): False,
        ("backup of 3.0, restored after the upgrade", "3.0"): True,
    }


@pytest.mark.slow
def test_an_upgrade_that_ends_well_and_has_lost_a_row_is_a_no_go(decide, upgrades_to):
    gate, evidence, _ = decide(upgrades_to("3.1-lossy"), "--targets=baseline")
    assert gate["decision"] == "no-go"
    assert "UPGRADE-LOSES-ROWS table: app.detections" in because(gate)["REHEARSAL"]["seen"]
    assert cells(evidence)["3.0 upgraded to 3.1", "3.1"]  # it looks well


def test_a_program_that_a_restore_needs_and_that_is_missing_is_told_as_a_reason(decide, tmp_path):
    profile = tmp_path / "profile.toml"
    ports = PORTS.replace("[postgresql]\n", '[postgresql]\nbin_directory = "/nonexistent"\n')
    profile.write_text(f'[deployment]\nname = "acme"\n{ports}')
    gate, _, output = decide(f"--profile={profile}", "--targets=baseline", "--rto=4h")
    assert gate["decision"] == "no-go"  # for it was never drilled
    assert "/nonexistent" in because(gate, "error")["PREREQUISITE-MISSING"]["seen"]
    assert "Traceback" not in output


@pytest.mark.parametrize("option", ["--destroy=acme", "--level=observe"])
def test_a_gate_destroys_nothing_and_restores_at_least(suite, option):
    exit_code, output = suite.run("--gate", option)
    assert exit_code == 4 and "option --gate" in output and not suite.left()

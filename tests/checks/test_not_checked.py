"""A provider whose deployments conformance does not look at: the run says so, says why, and is no pass."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_cluster_of_the_suites_own_reads_not_tested_with_the_reason(tmp_path):
    argv = [sys.executable, "-m", "pytest", "checks", "--provider=high-availability", "-q", "-p", "no:cacheprovider"]
    argv += [f"--work-directory={tmp_path / 'work'}", f"--runs-directory={tmp_path / 'runs'}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    (file,) = tmp_path.glob("runs/*/evidence.json")
    evidence = json.loads(file.read_text("utf-8"))
    rows = {row["what"]: row["reason"] for row in evidence["not_tested"]}
    assert "break and replace each service" in rows["conformance with the provider high-availability"]
    assert (evidence["verdict"], done.returncode != 0) == ("error", True), done.stdout

"""A shadow restore at two sizes: what the suite's own process needs of memory, and how long each phase takes.

    python -m benchmarks.shadow --scale documents=33400,database=5GiB

A document is one object or two. Memory is the most that pytest's process ever had resident; servers and tools beside
it have their own. The ratio of the two sizes' memory says whether it is flat.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

SMALL: Final = "small"
LARGE: Final = "documents=33400,database=5GiB"
ROOT: Final = Path(__file__).parents[1]
EVERY_SECONDS: Final = 0.2


def main() -> None:
    """Run both sizes and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadow", description=__doc__)
    parser.add_argument("--scale", default=LARGE, help="the larger size (default: %(default)s)")
    parser.add_argument("--work-directory", help="where both are made (default: the temporary directory)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shadow-", dir=given.work_directory) as place:
        rows = {scale: _measured(scale, Path(place)) for scale in (SMALL, given.scale)}
    for scale, (peak, evidence) in rows.items():
        _show(scale, peak, evidence)
    small, large = (peak for peak, _ in rows.values())
    print(f"\nmemory, the larger size to the smaller: {large / small:.2f}")


def _measured(scale: str, place: Path) -> tuple[int, dict[str, Any]]:
    """The most memory in bytes, and the drill's part of the evidence."""
    runs = place / f"runs-{len(list(place.iterdir()))}"
    argv = [sys.executable, "-m", "pytest", "drills", "--level", "shadow", f"--scale={scale}", "-q"]
    argv += [f"--work-directory={place / 'work'}", f"--runs-directory={runs}", "-p", "no:cacheprovider"]
    popen = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak, status = 0, Path(f"/proc/{popen.pid}/status")
    while popen.poll() is None:
        peak = max(peak, _high_water(status))
        time.sleep(EVERY_SECONDS)
    said = popen.stdout.read() if popen.stdout else ""
    if popen.returncode:
        sys.exit(f"pytest ended with exit code {popen.returncode}:\n{said[-4000:]}")
    (evidence,) = runs.glob("*/evidence.json")
    drill: dict[str, Any] = json.loads(evidence.read_text("utf-8"))["drills"][0]
    return peak, drill


def _high_water(status: Path) -> int:
    """The most that a process had resident so far, in bytes; 0 once it is gone."""
    try:
        lines = status.read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


def _show(scale: str, peak: int, drill: dict[str, Any]) -> None:
    looked = {f"{row['check']}, {what}": count for row in drill["checks"] for what, count in row["looked_at"].items()}
    print(f"\n{scale}: verdict {drill['verdict']}, controls {drill['controls']['score']}, peak {peak >> 20} MiB")
    for name in ("database, rows", "objects, objects", "objects, bytes"):
        print(f"  {name:<24}{looked.get(name, 0):>16,}")
    for row in drill["phases"]:
        if row["duration_ns"] is not None:
            print(f"  {row['phase']:<24}{row['duration_ns'] / 1e9:>14.1f} s")
    print(f"  {'recovery time':<24}{drill['recovery_time']['achieved_ns'] / 1e9:>14.1f} s")


if __name__ == "__main__":
    main()

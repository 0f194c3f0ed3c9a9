"""Many kills of mixed kind: what is lost, and how long clients' writes were out, by the settings on paper and measured.

    python -m benchmarks.failover --kills 50 --timing stock

Each round is a run of the failover drills of these kinds on a cluster of its own; the figures are those of their
evidence. The outage of a kill is the longest that any channel's writes felt; the floor is what the settings let expect.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
KINDS: Final = ("postmaster_killed", "primary_killed", "primary_lost", "primary_frozen", "receivers_frozen")
Drill = dict[str, Any]


def main() -> int:
    """Run the rounds, print two tables; exit code 1 where a drill did not pass or a write was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="at least so many (default: %(default)s)")
    parser.add_argument("--timing", choices=("stock", "fast"), default="stock", help="(default: %(default)s)")
    parser.add_argument(
        "--at-once", type=int, default=1, help="clusters at one time; each waits most of it (default: %(default)s)"
    )
    parser.add_argument("--work-directory", help="where all is made (default: the temporary directory)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs' evidence there")
    given = parser.parse_args()
    drills: list[Drill] = []
    rounds = math.ceil(given.kills / len(KINDS))
    with tempfile.TemporaryDirectory(prefix="failover-", dir=given.work_directory) as place:
        with concurrent.futures.ThreadPoolExecutor(given.at_once) as pool:
            for found in pool.map(functools.partial(_round, Path(place), given.timing), range(rounds)):
                drills += found
                print(_told(drills), flush=True)
        if given.keep:
            shutil.copytree(Path(place) / "runs", given.keep, dirs_exist_ok=True)
    _show(drills)
    return 0 if all(each["verdict"] == "passed" for each in drills) and not _sum(drills, "lost") else 1


def _round(place: Path, timing: str, number: int) -> list[Drill]:
    """One run of every kind; its drills' parts of the evidence."""
    runs = place / "runs" / str(number)
    chosen = " or ".join(f"(high-availability-{kind} and not asynchronous)" for kind in KINDS)
    argv = [
        sys.executable, "-m", "pytest", "drills/test_failover_drill.py", "-q", "-k", chosen,
        "--provider", "high-availability", "--cluster-timing", timing,
        f"--work-directory={place / 'work'}", f"--runs-directory={runs}", "-p", "no:cacheprovider",
    ]  # fmt: skip
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    files = list(runs.glob("*/evidence.json"))
    if not files:
        sys.exit(f"pytest ended with exit code {done.returncode} and left no evidence:\n{done.stdout[-4000:]}")
    found: list[Drill] = json.loads(files[0].read_text("utf-8"))["drills"]
    if done.returncode:
        print(done.stdout[-3000:])
    return found


def _told(drills: Sequence[Drill]) -> str:
    return f"{len(drills)} kills, {_sum(drills, 'lost')} acknowledged writes lost"


def _sum(drills: Iterable[Drill], count: str) -> int:
    return sum(each["failover"]["counts"][count] for each in drills)


def _show(drills: Sequence[Drill]) -> None:
    acknowledged = sum(channel["acknowledged"] for each in drills for channel in each["recovery_point"]["channels"])
    print(f"\n{drills[0]['failover']['timing']['label']}")
    print(f"{len(drills)} kills, {sum(each['verdict'] == 'passed' for each in drills)} drills passed;"
          f" {acknowledged:,} writes acknowledged, {_sum(drills, 'lost')} of them lost;"
          f" {_sum(drills, 'committed_unacknowledged')} committed and never acknowledged,"
          f" {_sum(drills, 'zombie_acknowledged')} acknowledged by a zombie;"
          f" {sum(bool(each['failover']['splits']) for each in drills)} split\n")  # fmt: skip
    head = ("kill", "n", "writes out: median", "p95", "max", "on paper", "reads out: median", "max",
            "whole again after mending: median", "max")  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in _rows(drills):
        print("| " + " | ".join(row) + " |")


def _rows(drills: Sequence[Drill]) -> Iterator[list[str]]:
    for kind in [*KINDS, ""]:
        ours = [each for each in drills if each["disaster"] == kind or not kind]
        if not ours:
            continue
        writes = [each["failover"]["longest_write_outage_ns"] for each in ours]
        reads = [each["failover"]["longest_read_outage_ns"] for each in ours]
        redundant = [each["failover"]["redundant"] for each in ours if each["failover"]["redundant"]]
        again = [each["after_mended_ns"] or each["after_strike_ns"] for each in redundant]
        floor = ours[0]["failover"]["floor"] if kind else None
        paper = f"{_seconds(floor['low_ns'])} to {_seconds(floor['high_ns'])}" if floor else ""
        yield [
            kind or "all", str(len(ours)), _seconds(statistics.median(writes)), _seconds(_p95(writes)),
            _seconds(max(writes)), paper, _seconds(statistics.median(reads)), _seconds(max(reads)),
            _seconds(statistics.median(again)), _seconds(max(again)),
        ]  # fmt: skip


def _p95(values: Sequence[int]) -> int:
    """The smallest value that at least 95 of 100 do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _seconds(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e9:.1f} s"


if __name__ == "__main__":
    sys.exit(main())

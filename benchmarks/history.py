"""A thousand past runs: how long ``history --format html`` takes, and how much memory, on this machine.

``python -m benchmarks.history [RUN]`` copies the evidence of a real run, with other figures in each copy, into a
temporary directory; without RUN, that of the newest run in ``reports/runs``. The budget of DESIGN is 5 s.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from reports.population import read
from reports.records import NANOSECONDS, UsageProblem, monotonic_ns, utc_now

BUDGET_SECONDS: Final = 5
_ROUNDS: Final = 3


def populate(runs_directory: Path, kept: dict[str, Any], count: int) -> None:
    """Write so many runs, one a day, every tenth aborted and every seventh failed, with figures that move."""
    now = utc_now()
    for number in range(count):
        opened = now - datetime.timedelta(days=count - number)
        run_id = f"{opened:%Y%m%dT%H%M%SZ}-{number:04x}"
        directory = runs_directory / run_id
        directory.mkdir()
        stamp = f"{opened:%Y-%m-%dT%H:%M:%SZ}"
        first = {"kind": "run.opened", "utc": stamp, "run_id": run_id, "profile": kept["profile"], "host": kept["host"]}
        (directory / "journal.jsonl").write_text(json.dumps(first) + "\n", "utf-8")
        if number % 10 == 0:
            continue
        kept |= {"run_id": run_id, "opened_utc": stamp, "verdict": "failed" if number % 7 == 0 else "passed"}
        for drill in kept["drills"]:
            took = (3 + number % 11 / 5 + number / 400) * NANOSECONDS
            drill["recovery_time"]["achieved_ns"] = round(took)
            drill["verdict"] = kept["verdict"]
        (directory / "evidence.json").write_text(json.dumps(kept, indent=2), "utf-8")


def main() -> int:
    """Measure, print, and hand back 1 where the budget is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="the run whose evidence is copied")
    parser.add_argument("--count", type=int, default=1000, help="how many runs (default: 1000)")
    given = parser.parse_args()
    source = given.run
    if source is None:
        closed = [run.directory for run in read(Path("reports/runs")) if run.drills and run.closed_utc]
        if not closed:
            raise UsageProblem("reports/runs", seen="no run to copy", remedy="name a run's directory, or drill first")
        source = closed[-1]
    kept = json.loads((source / "evidence.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place, "runs")
        runs.mkdir()
        populate(runs, kept, given.count)
        size = sum(path.stat().st_size for path in runs.rglob("*.json*"))
        print(
            f"{given.count:,} runs of {len(kept['drills'])} drills each, {size / 1e6:,.0f} MB of evidence and journals"
        )
        took, worked, page = [], [], 0
        for _ in range(_ROUNDS):
            begin, before = monotonic_ns(), _cpu_seconds()
            done = subprocess.run([sys.executable, "-m", "reports", "history", str(runs), "--format", "html"],
                                  check=True, capture_output=True, timeout=120)  # fmt: skip
            took.append((monotonic_ns() - begin) / NANOSECONDS)
            worked.append(_cpu_seconds() - before)
            page = len(done.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"history --format html, a process of its own: {', '.join(f'{each:.2f} s' for each in took)}; of it on a"
          f" processor {', '.join(f'{each:.2f} s' for each in worked)}; budget {BUDGET_SECONDS} s")  # fmt: skip
    print(f"peak resident memory {peak:,.0f} MiB; page {page / 1e6:.2f} MB")
    return 0 if max(took) < BUDGET_SECONDS else 1


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())

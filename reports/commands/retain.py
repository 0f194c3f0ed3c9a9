"""``python -m reports retain``: delete old runs, openly."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from reports import commands, population, retention, wording
from reports.history import cells, whole
from reports.records import utc_now

NAME: Final = "retain"
HELP: Final = "say which runs are older than is wanted, and with --delete remove them"
_HELP: Final = """\
Lists the runs that are older than --keep-days, and deletes them only with --delete. Of each deleted run the register
(register.jsonl) keeps a line: that it was retired, its digest, its verdict and its figures, so that the history goes on
telling of it. What is never deleted: a run at work, the last success of each kind, what cannot be read, and
what does not verify (a run of an older version: with the version that wrote it).
Exit status 1: something could not be removed.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``retain``."""
    parser.description = _HELP
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path, default=Path("reports/runs"),
                        help="the directory of the runs; default: reports/runs")  # fmt: skip
    parser.add_argument(
        "--keep-days", metavar="N", type=whole, required=True, help="keep what was opened within N days"
    )
    parser.add_argument("--keep-last", metavar="N", type=whole, default=0, help="and the last N runs, however old")
    parser.add_argument("--delete", action="store_true", help="delete them; without it nothing is changed")


def run(given: argparse.Namespace) -> int:
    """Print what goes and what stays; delete where that was asked for."""
    runs = population.read(commands.of_runs(given.directory))
    plan = retention.plan(runs, utc_now(), keep_days=given.keep_days, keep_last=given.keep_last)
    total = sum(retention.size(each) for each in plan.go)
    problems = retention.delete(given.directory, plan.go) if given.delete and plan.go else []
    done = "deleted" if given.delete else "would go"
    lines = [f"{done}  {told['run']}  {told['verdict']}; {told['drills']}" for told in map(cells, plan.go)]
    lines += [f"stays  {wording.one_line(each.run_id, 60)}  {wording.one_line(why, 200)}" for each, why in plan.stay]
    lines += [f"NOT REMOVED  {wording.one_line(problem, 300)}" for problem in problems]
    hint = "" if given.delete or not plan.go else "; nothing was changed: --delete removes them"
    lines.append(f"{len(plan.go):,} of {wording.counted(len(runs), 'run')}, {wording.size(total)}{hint}")
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return commands.NOT_SO if problems else commands.GOOD

"""``python -m reports history``: every run there was, what became of it, and how its figures moved."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
from pathlib import Path
from typing import Final

from reports import commands, population, wording
from reports import history as telling
from reports.records import UsageProblem, utc_now

NAME: Final = "history"
HELP: Final = "list every run, its figures, and the days since the last success"
_HELP: Final = """\
Lists the runs of a directory, newest first: failed, aborted, broken, running, retired and missing ones among them, with
their figures, what became slower than before, and for each architecture the days since its restore last passed. The
page (--format html) adds what was drilled against what, and the trends of every scenario.
Ages are counted over all runs, whatever --drill and --since leave in the list. Exit status 1: with --fail-stale, where
a restore is stale or none has ever passed.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``history``."""
    parser.description = _HELP
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path, default=Path("reports/runs"),
                        help="the directory of the runs; default: reports/runs")  # fmt: skip
    parser.add_argument("--drill", metavar="NAME", default="", help="only runs that hold this drill, and only it")
    parser.add_argument("--since", metavar="DAY", default="", help="only runs from this day on, YYYY-MM-DD, UTC")
    parser.add_argument("--format", choices=("text", "json", "html"), default="text", help="default: text")
    parser.add_argument("--stale-days", metavar="N", type=telling.whole, default=population.STALE_DAYS,
                        help=f"a restore is stale so many days after it last passed; default: {population.STALE_DAYS}",
                        )  # fmt: skip
    parser.add_argument("--fail-stale", action="store_true", help="exit with 1 where a restore is stale")


def run(given: argparse.Namespace) -> int:
    """Print it; 1 where a restore is stale and that was asked for."""
    everything = population.read(commands.of_runs(given.directory))
    shown = population.since(everything, _day(given.since))
    if given.drill:
        shown = _only(shown, given.drill)
    told = telling.history(everything, shown, utc_now(), given.stale_days)
    if given.format == "json":
        sys.stdout.write(telling.as_json(told))
    elif given.format == "html":
        sys.stdout.write(telling.as_html(told))
    else:
        sys.stdout.writelines(f"{line}\n" for line in telling.as_text(told))
    return commands.NOT_SO if given.fail_stale and told.stale else commands.GOOD


def _day(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageProblem(
            f"the day {wording.one_line(text, 60)}", seen="it is none", remedy="write it as 2026-01-31"
        ) from None


def _only(runs: list[population.PastRun], drill: str) -> list[population.PastRun]:
    """The runs with this one drill; those of which nothing can be known stay in the list."""
    kept = [
        dataclasses.replace(run, drills=ours)
        for run in runs
        if (ours := tuple(each for each in run.drills if each.drill == drill))
        or (not run.drills and run.state is not population.State.CLOSED)
    ]
    if any(run.drills for run in kept):
        return kept
    names = sorted({each.drill for run in runs for each in run.drills})
    shown = ", ".join(wording.one_line(name, 80) for name in names[:10]) or "no drill at all"
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    raise UsageProblem(f"the drill {wording.one_line(drill, 80)}", seen="no run holds it", remedy=f"name one of"
                       f" {shown}{more}")  # fmt: skip

"""The command line of this room: ``python -m drills runbook``, offline, and ``heartbeat``, into a deployment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from drills import heartbeat
from drills.last_run import NothingToShow, find_run, read_profile
from drills.runbook import write_runbook
from reports.records import HarnessError, UsageProblem

PRINTED, NOTHING, UNUSABLE = 0, 1, 4
RUNS: Final = Path("reports/runs")
_HELP: Final = """\
Prints, as Markdown, how the deployment of a profile is restored: the steps of its newest finished run in their order,
the commands that really ran, with the run's own directories replaced by placeholders such as <backup set>, and how long
each took. Whatever did not pass in that run is named and not shown as a procedure.
"""
_EXITS: Final = (
    "exit status: 0 printed; 1 no finished run of this profile, or nothing of it passed; 4 the input cannot be used"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and hand back its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m drills",
        description="What a run of the drills is good for. The drills themselves: pytest drills",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    command = commands.add_parser(
        "runbook",
        help="print the restore steps of a deployment, each with its measured time",
        description=_HELP,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--profile", metavar="FILE", type=Path, help="the deployment's profile (default: built-in)")
    command.add_argument("--runs-directory", metavar="DIR", type=Path, default=RUNS, help=f"default: {RUNS}")
    heartbeat.register(commands)
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:  # argparse says 2 for usage errors; this suite, like pytest, says 4
        return UNUSABLE if end.code else PRINTED
    if given.command is None:
        parser.print_help()
        return PRINTED
    if given.command == "heartbeat":
        return _beat(given)
    try:
        run = find_run(given.runs_directory, read_profile(given.profile))
        print(write_runbook(run), end="")
        if run.newer and given.profile is None:
            print(f"a newer run is of profile {run.newer}: for its runbook, give --profile FILE", file=sys.stderr)
    except NothingToShow as problem:
        print(problem, file=sys.stderr)
        return NOTHING
    except UsageProblem as problem:
        print(f"cannot write a runbook: {problem}", file=sys.stderr)
        return UNUSABLE
    return PRINTED


def _beat(given: argparse.Namespace) -> int:
    try:
        return heartbeat.main(given)
    except UsageProblem as problem:
        print(problem, file=sys.stderr)
        return heartbeat.UNUSABLE
    except HarnessError as problem:
        print(problem, file=sys.stderr)
        return heartbeat.MISSED


if __name__ == "__main__":
    sys.exit(main())

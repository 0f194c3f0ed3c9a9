"""The command line of this room: what can be proved about a run, offline; each of ``reports.commands`` is a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from reports import commands, wording
from reports.records import HarnessError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and hand back its exit status: 0 good, 1 not so, 4 unusable input."""
    parser = argparse.ArgumentParser(prog="python -m reports", description="What can be proved about a run.")
    offered = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs = {}
    for command in commands.found():
        described = offered.add_parser(
            command.NAME,
            help=command.HELP,
            epilog=commands.EXITS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.describe(described)
        runs[command.NAME] = command.run
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:  # argparse says 2 for usage errors; this suite, like pytest, says 4
        return commands.UNUSABLE if end.code else commands.GOOD
    try:
        return runs[given.command](given)
    except HarnessError as problem:
        print(f"cannot {given.command}: {wording.one_line(problem)}", file=sys.stderr)
        return commands.UNUSABLE
    except BrokenPipeError:  # the reader has seen enough; what is left is not shown, and must not raise on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return commands.NOT_SO


if __name__ == "__main__":
    sys.exit(main())

"""``python -m reports guide``: the Operations Guide's tables with measured values."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from reports import commands, document, guide

NAME: Final = "guide"
HELP: Final = "the Operations Guide's tables, filled in with what was measured"
_HELP: Final = """\
Prints what to back up and how large it is, how often, the steps of a restore with their times, and RTO and RPO of each
architecture: achieved against objective, with the run behind each figure. What the guide leaves TODO stays said to be
unset. Exit status 1: nothing has been measured yet.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``guide``."""
    parser.description = _HELP
    parser.add_argument("--format", choices=("md", "html"), default="md", help="default: md")
    commands.add_directory(parser)


def run(given: argparse.Namespace) -> int:
    """Print the tables; 1 where there is no figure to print."""
    found = guide.guide(commands.directory_given(given))
    write = document.as_html if given.format == "html" else document.as_markdown
    sys.stdout.write(write(found))
    return commands.GOOD if guide.measured(found) else commands.NOT_SO

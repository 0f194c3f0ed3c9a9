"""``python -m reports controls``: what the results of a period support of which standards."""

from __future__ import annotations

import argparse
import datetime
import sys
from typing import Final

from reports import commands, control_matrix, document
from reports.records import UsageProblem

NAME: Final = "controls"
HELP: Final = "controls of standards against the results of a period"
_HELP: Final = """\
Lists, for each control of controls.toml, the results of the period's runs that support it, those that do not and why,
and the controls without any. Failed and aborted runs are counted. A result supports a control; that a control is met,
no program says. Exit status 1: there is no run in the period.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``controls``."""
    parser.description = _HELP
    parser.add_argument("--from", dest="begin", metavar="DAY", default="", help="first day, YYYY-MM-DD, UTC; default:"
                        " that of the oldest run")  # fmt: skip
    parser.add_argument("--to", dest="end", metavar="DAY", default="", help="last day, itself included; default: that"
                        " of the newest run")  # fmt: skip
    parser.add_argument("--format", choices=("html", "md", "json"), default="md", help="default: md")
    commands.add_directory(parser)


def run(given: argparse.Namespace) -> int:
    """Print the matrix; 1 where the period holds no run."""
    found = control_matrix.matrix(commands.directory_given(given), _day(given.begin), _day(given.end))
    if given.format == "json":
        sys.stdout.write(control_matrix.as_json(found))
    else:
        write = document.as_html if given.format == "html" else document.as_markdown
        sys.stdout.write(write(control_matrix.as_document(found)))
    return commands.GOOD if found.runs else commands.NOT_SO


def _day(text: str) -> datetime.date | None:
    if not text:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageProblem(f"the day {text!r}", seen="it is none", remedy="write it as 2026-01-31") from None

"""``python -m reports notify DIR``: tell a chat of a run that did not pass. The only command that uses a network."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
from pathlib import Path
from typing import Final

from reports import notice, webhook, wording
from reports.commands import GOOD, NOT_SO
from reports.records import UsageProblem
from reports.register import is_live

NAME: Final = "notify"
HELP: Final = "tell a chat, by its webhook, of a run that did not pass"
_HELP: Final = f"""\
Sends a message in Slack's JSON to an incoming webhook where a run is failed, error, not tested or aborted, where a gate
says no-go or could not decide, and, with --since, where no run was recorded at all. It says what failed, what was
achieved against which target, the remedies, and where the report is. A run that passed is not told, unless --always.
The webhook's URL is a secret: it is read from {webhook.VARIABLE}, or from the file that
{webhook.FILE_VARIABLE} names, and written nowhere. It is sent once; what was not taken is said, with exit code 1.
"""
_RUN_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``notify``."""
    parser.description = _HELP
    parser.epilog = (
        "exit status: 0 told, or nothing to tell; 1 a message was not taken; 4 the input cannot be used, as a webhook"
        " that is not set"
    )
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="a run's directory; with --since, the one that runs are made in"
    )
    parser.add_argument(
        "--since",
        metavar="UTC",
        help="every run begun at that instant or later, such as 20261123T052040Z or 2026-11-23T05:20:40Z; there being"
        " none is told, too",
    )
    parser.add_argument(
        "--link", metavar="URL", default="", help="where the report is read; {run} in it is the run's id"
    )
    parser.add_argument("--always", action="store_true", help="tell of runs that passed, too")


def run(given: argparse.Namespace) -> int:
    """Tell of the runs that are asked about; 0 where each message was taken."""
    url = webhook.address(os.environ)  # first: a webhook that is not set must not wait for the first failure
    if given.link and not notice.is_link(given.link):
        seen = wording.one_line(given.link, 100)
        raise UsageProblem("--link", seen=seen, remedy="give a URL of https:// or http://, of at most 500 characters")
    status = GOOD
    for name, told in _notices(given):
        if told is None:
            print(f"not told   {name}: still at work")
            continue
        if not (told.bad or given.always):
            print(f"not told   {name}: {told.title}")
        elif why := webhook.deliver(webhook.payload(told), url):
            print(f"NOT TAKEN  {name}: {told.title}; the webhook: {why}", file=sys.stderr)
            status = NOT_SO
        else:
            print(f"told       {name}: {told.title}")
    return status


def _notices(given: argparse.Namespace) -> list[tuple[str, notice.Notice | None]]:
    """The runs asked about with what is told of each; of one that is still at work, nothing."""
    if given.since is None:
        if not (given.directory / "journal.jsonl").is_file():
            raise UsageProblem(str(given.directory), seen="no run: it holds no journal.jsonl", remedy="name a run's"
                               " directory, or the one that runs are made in with --since")  # fmt: skip
        return [(wording.one_line(given.directory.resolve().name, 60), notice.of_run(given.directory, given.link))]
    since = _instant(given.since)
    places = sorted(given.directory.iterdir()) if given.directory.is_dir() else []
    found = [place for place in places if _RUN_ID.fullmatch(place.name) and place.name[:16] >= since]
    if not found:
        return [("no run", notice.of_nothing(given.directory, given.since))]
    return [(each.name, None if is_live(each) else notice.of_run(each, given.link)) for each in found]


def _instant(text: str) -> str:
    """An instant as the names of runs begin with it: UTC, to the second."""
    try:
        instant = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageProblem(
            "--since", seen=wording.one_line(repr(text), 80), remedy="write an instant such as 2026-11-23T05:20:40Z"
        ) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=datetime.UTC)
    return f"{instant.astimezone(datetime.UTC):%Y%m%dT%H%M%SZ}"

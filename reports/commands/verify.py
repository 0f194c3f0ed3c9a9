"""``python -m reports verify DIR``: hold a run, or all runs and their register, against themselves, offline."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from reports import commands, signing, whole_register, wording
from reports.assessment import shaped
from reports.records import UsageProblem
from reports.sealed import DIFFERS, Step, Trust
from reports.verification import run_steps

NAME: Final = "verify"
HELP: Final = "hold the files of a run, or all runs and their register, against each other, offline"
_HELP: Final = """\
Holds a run's files against each other: every file against SHA256SUMS, the attestation and the sign-offs, the run's line
in the register beside it, the journal's chain of digests, the ledgers and what was witnessed and read of a cluster
against the digests in the journal, evidence.json against its schema, and every figure of evidence.json computed again
from the journal and those files. Given the directory of all runs it does so for each, and holds them against the
register: runs that were dropped, added or swapped are named.
It needs no network, no clock and nothing but the files. Without --key it says that the files agree, not who wrote them;
with --key a run that this key has not signed differs. docs/integrity.md says what is covered, and what is not.
A run that was aborted, without evidence.json, is assessed from what it wrote, and reads as error.
"""
REMEDY: Final = "take nothing that differs as evidence, say which run it is, and drill again: docs/integrity.md"
_EXITS: Final = (
    "exit status: 0 all of it holds; 1 something differs, and is named, or the run was aborted; 4 the input"
    " cannot be used"
)


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``verify``."""
    parser.description, parser.epilog = _HELP, _EXITS
    parser.add_argument("directory", metavar="DIR", type=Path, help="a run's directory, or that of all runs")
    parser.add_argument(
        "--key", metavar="FILE.pub", type=Path, action="append", default=[],
        help="a public key, one of which must have signed each run; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--reviewer-key", metavar="FILE.pub", type=Path, action="append", default=[],
        help="a public key, one of which must have signed each sign-off; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--register-head", metavar="HASH", default="",
        help="a line's hash that was kept elsewhere: the register must still hold that line",
    )  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Verify, printing a line per step; 0 where everything holds."""
    if given.register_head and not re.fullmatch("[0-9a-f]{64}", given.register_head):
        raise UsageProblem(
            "--register-head", seen="not 64 hexadecimal digits", remedy="give the head that verify printed"
        )
    trust = Trust(
        keys=tuple(map(signing.read_public, given.key)),
        reviewer_keys=tuple(map(signing.read_public, given.reviewer_key)),
    )
    directory: Path = given.directory
    if not whole_register.is_run(directory):
        remedy = f"name a run's directory, or the one that holds the directories of runs, such as {commands.RUNS}"
        if not any(commands.of_runs(directory, remedy).iterdir()):
            raise UsageProblem(wording.one_line(directory, 200), seen="empty", remedy=remedy)
        return _told(whole_register.all_steps(directory, trust, given.register_head))
    last, book = whole_register.register_steps(whole_register.beside(directory), given.register_head)
    with shaped(directory):
        return _told(itertools.chain(run_steps(directory, trust, book), last))


def _told(steps: Iterable[Step]) -> int:
    holds, differing = True, False
    for step in steps:
        print(step)
        holds, differing = holds and step.holds, differing or step.what == DIFFERS
    if differing:
        print(f"{'remedy':<11}{REMEDY}")
    return commands.GOOD if holds else commands.NOT_SO

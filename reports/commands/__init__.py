"""One file per command of ``python -m reports``: each says its name and its options and is found by being here."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path
from typing import Final, Protocol, cast

from reports import register, whole_register, wording
from reports.records import UsageProblem

GOOD, NOT_SO, UNUSABLE = 0, 1, 4
RUNS: Final = Path("reports/runs")
REMEDY: Final = f"name the one that holds the directories of runs, such as {RUNS}"
EXITS: Final = "exit status: 0 good; 1 not so; 4 the input cannot be used"


class Command(Protocol):
    """What a module of this package offers; its docstring is the command's description."""

    NAME: str
    HELP: str

    def describe(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments, and what its help should say besides."""

    def run(self, given: argparse.Namespace) -> int:
        """Do it: 0 good, 1 not so. Unusable input is a ``HarnessError``, which ends as one line and exit code 4."""


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add the directory of the runs, as an argument or as an option; ``directory`` or ``runs_directory``."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("directory", metavar="DIR", nargs="?", type=Path,
                        help=f"the directory of the runs; default: {RUNS}")  # fmt: skip
    either.add_argument("--runs-directory", metavar="DIR", type=Path, help="the same, as an option")


def directory_given(given: argparse.Namespace) -> Path:
    """What was given by ``add_directory``.

    Raises:
        UsageProblem: it is no directory of runs.
    """
    return of_runs(given.directory or given.runs_directory or RUNS)


def of_runs(directory: Path, remedy: str = REMEDY) -> Path:
    """A directory of runs, as it is: with a run or a register in it, or empty, which is one before its first run.

    Raises:
        UsageProblem: it cannot be listed, is a run itself, or holds something else.
    """
    shown = wording.one_line(directory, 200)
    try:
        inside = [path for path in directory.iterdir() if not path.name.startswith(".")]
    except OSError as problem:
        raise UsageProblem(shown, seen=problem.strerror or str(problem), remedy=remedy) from None
    if whole_register.is_run(directory):
        raise UsageProblem(shown, seen="a run, and no runs directory", remedy=remedy)
    if inside and not any(map(_is_of_runs, inside)):
        raise UsageProblem(shown, seen="no runs directory", remedy=remedy)
    return directory


def _is_of_runs(path: Path) -> bool:
    if path.name == register.FILE_NAME:
        return True
    return path.is_dir() and (whole_register.RUN_ID.fullmatch(path.name) is not None or whole_register.is_run(path))


def found() -> list[Command]:
    """Every command there is, by the names of their files."""
    modules = (importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__))
    return [cast("Command", module) for module in modules]

"""One file per command of ``python -m reports``: each says its name and its options and is found by being here."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Final, Protocol, cast

GOOD, NOT_SO, UNUSABLE = 0, 1, 4
EXITS: Final = "exit status: 0 good; 1 not so; 4 the input cannot be used"


class Command(Protocol):
    """What a module of this package offers; its docstring is the command's description."""

    NAME: str
    HELP: str

    def describe(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments, and what its help should say besides."""

    def run(self, given: argparse.Namespace) -> int:
        """Do it: 0 good, 1 not so. Unusable input is a ``HarnessError``, which ends as one line and exit code 4."""


def found() -> list[Command]:
    """Every command there is, by the names of their files."""
    modules = (importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__))
    return [cast("Command", module) for module in modules]

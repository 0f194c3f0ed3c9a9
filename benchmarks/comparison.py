"""Both sides in turns, on one machine, as quiet as it gets."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from benchmarks.bare import Ground, run_bare
from benchmarks.drilled import run_drill
from benchmarks.sameness import differences
from benchmarks.stages import Bare, Drilled, Round
from fixtures.workspace import Workspace
from reports.records import HarnessError, format_duration

QUIET_PERCENT: Final = 15.0
QUIET_TRIES: Final = 30


@dataclasses.dataclass(kw_only=True)
class Comparison:
    """A comparison under way.

    ``busy_percent`` is how busy the machine was with other things before each run; ``differences`` are commands that in
    some round one side ran and the other did not.

    Args:
        work_root: where drills make their deployments.
        scale: as the drill's option of that name, in agreement with the ground's sizes.
        tell: told what goes on.
    """

    ground: Ground
    workspace: Workspace
    work_root: Path
    scale: str
    tell: Callable[[str], None]
    rounds: list[Round] = dataclasses.field(default_factory=list)
    busy_percent: list[float] = dataclasses.field(default_factory=list)
    broken: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)

    def warm_up(self) -> Drilled:
        """A drill on small data, not counted: it fills the file cache."""
        return self._drill("warming up", "small")

    def run(self, count: int) -> None:
        """Run so many rounds. One in which a side breaks is told of, counted as broken and left out.

        Raises:
            HarnessError: every round broke.
        """
        for number in range(1, count + 1):
            name = f"round {number} of {count}"
            try:
                done = self._round(name, drill_first=number % 2 == 1)
            except HarnessError as problem:
                self.broken += 1
                self.tell(f"{name} broke and is left out: {problem}")
                continue
            self.rounds.append(done)
            self._compare_commands(done)
            took, other = done.drilled.stages["measured path"], done.bare.stages["measured path"]
            self.tell(f"{name}: {format_duration(took)} and {format_duration(other)}, ratio {took / other:.3f}")
        if not self.rounds:
            raise HarnessError("the comparison", seen=f"all {count} rounds broke", remedy="see the first one's message")

    def _round(self, name: str, *, drill_first: bool) -> Round:
        # Whoever goes first takes turns, so that a machine that slows down slows both.
        if drill_first or not self.rounds:
            drilled = self._drill(name, self.scale)
            return Round(drilled=drilled, bare=self._bare(name, drilled))
        bare = self._bare(name, self.rounds[-1].drilled)
        return Round(drilled=self._drill(name, self.scale), bare=bare)

    def _compare_commands(self, done: Round) -> None:
        found = differences(done.drilled.commands, done.bare.commands)
        if new := [each for each in found if each not in self.differences]:
            self.tell(f"warning: the two sides did not run the same commands: {'; '.join(new)}")
            self.differences += new

    def _drill(self, name: str, scale: str) -> Drilled:
        self._await_quiet(f"{name}: the drill")
        return run_drill(
            self.ground.processes,
            scale=scale,
            profile=self.ground.profile.path,
            work_root=self.work_root,
            directory=self.workspace.directory / name,
        )

    def _bare(self, name: str, like: Drilled) -> Bare:
        self._await_quiet(f"{name}: the bare script")
        directory = self.workspace.directory / f"{name}, bare"
        directory.mkdir(mode=0o700)
        return run_bare(self.ground, directory=directory, like=like, progress=show_progress)

    def _await_quiet(self, name: str) -> None:
        """Wait for a second in which the machine does little else, half a minute at most."""
        for _ in range(QUIET_TRIES):
            if (busy := psutil.cpu_percent(interval=1.0)) <= QUIET_PERCENT:
                break
        self.busy_percent.append(busy)
        self.tell(f"{name} …" + (f" (the machine is {busy:.0f} % busy with other things)" * (busy > QUIET_PERCENT)))


def show_progress(what: str, done: int, of: int) -> None:
    """Says on a terminal how far seeding is."""
    if sys.stderr.isatty():
        print(f"\r  {what} {done:,} of {of:,}\033[K", end="\r", file=sys.stderr)

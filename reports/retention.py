"""Which runs may be deleted, and deleting them so that the register goes on telling of each."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from reports import register, whole_register
from reports.assessment import shaped
from reports.population import PastRun, State, last_successes, summary_of
from reports.records import HarnessError, canonical
from reports.register import Line
from reports.sealed import DIFFERS, Trust
from reports.verification import run_steps

MOST_KEPT_BYTES: Final = 1_000_000
_ON_DISK: Final = (State.CLOSED, State.ABORTED, State.BROKEN, State.RUNNING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """``go``: what may be deleted, oldest first; ``stay``: what is as old and is kept all the same, and why."""

    go: tuple[PastRun, ...]
    stay: tuple[tuple[PastRun, str], ...]


def plan(runs: Sequence[PastRun], now: datetime.datetime, *, keep_days: int, keep_last: int = 0) -> Plan:
    """What goes of a population.

    Args:
        runs: all of it, oldest first.
        now: aware.
        keep_days: what was opened within so many days stays.
        keep_last: and so many of the newest runs, however old.
    """
    here = [run for run in runs if run.state in _ON_DISK and run.directory.name == run.run_id]
    newest = {run.run_id for run in (here[-keep_last:] if keep_last else [])}
    successes = last_successes(runs, now)
    needed = {each.run.run_id: f"the last success of {each.architecture}" for each in successes if each.run}
    _, book = whole_register.register_steps(whole_register.beside(here[0].directory) if here else None, "")
    go, stay = [], []
    for run in here:
        opened = run.opened
        if opened is not None and (now - opened) <= datetime.timedelta(days=keep_days):
            continue
        if reason := _stays(run, book, needed.get(run.run_id, ""), run.run_id in newest):
            stay.append((run, reason))
        else:
            go.append(run)
    return Plan(go=tuple(go), stay=tuple(stay))


def _stays(run: PastRun, book: Sequence[Line] | None, needed: str, newest: bool) -> str:
    if run.state is State.RUNNING or register.is_live(run.directory):
        return "it is running"
    if needed:
        return needed
    if newest:
        return "one of the last runs"
    if run.registered == register.RETIRED:
        return ""  # its removal was begun and is to be finished
    if run.state is State.BROKEN:
        return f"it cannot be read, so nothing of it could be kept: {run.problem}"
    try:
        kept = len(canonical(summary_of(run)))
    except (TypeError, ValueError) as problem:
        return f"its figures cannot be kept in the register: {problem}"
    if kept > MOST_KEPT_BYTES:
        return f"its figures take {kept:,} bytes, too many for the register"
    # What is in no line yet is registered before it is retired.
    return _differs(run, book if run.registered else None)


def _differs(run: PastRun, book: Sequence[Line] | None) -> str:
    """What of a run's files is not as it must be: deleting them would leave the register to vouch for the figures."""
    try:
        with shaped(run.directory):
            steps = list(run_steps(run.directory, Trust(), book))
    except HarnessError as problem:
        return f"it cannot be verified: {problem}"
    wrong = next((step.text for step in steps if step.what == DIFFERS), "")
    return f"its files differ, see verify: {wrong}" if wrong else ""


def size(run: PastRun) -> int:
    """How many bytes a run's files hold, as far as they can be seen."""
    total = 0
    with contextlib.suppress(OSError):
        for path in run.directory.rglob("*"):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def delete(runs_directory: Path, runs: Iterable[PastRun]) -> list[str]:
    """Register runs as retired, with their figures, and then remove their directories.

    A removal that is interrupted is finished by the next one: its run is in the register as retired and still there.

    Returns:
        What could not be removed, and why.

    Raises:
        UsageProblem: the register does not hold, or one of the runs is in no line of it; nothing is removed then.
        HarnessError: the register cannot be written; nothing is removed then.
    """
    runs = list(runs)
    fresh = [run for run in runs if run.registered != register.RETIRED]
    register.retire(runs_directory, [(run.run_id, summary_of(run)) for run in fresh])
    problems = []
    for run in runs:
        try:
            shutil.rmtree(run.directory)
        except OSError as problem:
            problems.append(f"{run.run_id}: {problem.strerror or problem}")
    return problems

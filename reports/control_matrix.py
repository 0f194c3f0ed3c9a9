"""Controls against the results of a period: what supports each, what does not, and where there is nothing at all."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from reports import controls, evidence, population
from reports.assessment import assess_run, shaped
from reports.controls import Control, Result, Status, Support
from reports.document import Document, Heading, Items, Paragraph, Part, Table
from reports.population import PastRun, State
from reports.records import UsageProblem
from reports.wording import one_line

CAUTION: Final = (
    "A result supports a control; whether a control is met is for whoever assesses the whole of it. Each control is"
    " told in this project's own words: the standard's text is what counts."
)
STAND_IN: Final = (
    "“On a stand-in” are results on the suite's reference application, a stand-in. They show that procedure and suite"
    " work, and nothing about a deployment of the product."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally:
    """What the results of a period come to for one control.

    ``runs`` are the ids of the runs with a supporting result, oldest first; ``others`` counts the other results by why
    they do not support it.
    """

    control: Control
    supporting: int
    on_stand_in: int
    others: collections.Counter[str]
    runs: tuple[str, ...]
    newest: Result | None

    @property
    def status(self) -> Status:
        """As of one run's ``Support``."""
        if self.supporting:
            return Status.STAND_IN if self.on_stand_in == self.supporting else Status.SUPPORTED
        return Status.NOT_SUPPORTED if self.others else Status.NO_RESULT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """The controls over the runs of a period, both days included (UTC).

    ``unread`` are those of its runs of which no result could be read, with why; they count nowhere else.
    """

    begin: datetime.date | None
    end: datetime.date | None
    runs: tuple[PastRun, ...]
    unread: tuple[tuple[str, str], ...]
    tallies: tuple[Tally, ...]


def matrix(runs_directory: Path, begin: datetime.date | None, end: datetime.date | None) -> Matrix:
    """Read the population of a directory and sum the runs of a period up.

    Raises:
        UsageProblem: the directory cannot be listed, or the period ends before it begins.
    """
    if begin and end and end < begin:
        raise UsageProblem(f"the period {begin} to {end}", seen="it ends before it begins", remedy="exchange the two")
    runs = population.since(population.read(runs_directory), begin, end)
    summed = [_Sum(control) for control in controls.every_control()]
    unread = []
    for run in runs:
        if run.state not in (State.CLOSED, State.ABORTED):
            unread.append((run.run_id, ": ".join(text for text in (run.state.value, run.problem) if text)))
            continue
        try:
            supports = _supports(run)
        except UsageProblem as problem:
            unread.append((run.run_id, problem.seen))
            continue
        for total, support in zip(summed, supports, strict=True):
            total.add(support)
    return Matrix(begin=begin, end=end, runs=tuple(runs), unread=tuple(unread),
                  tallies=tuple(total.tally() for total in summed))  # fmt: skip


class _Sum:
    """Adds one control's results run by run, so that a thousand runs need not be held at once."""

    def __init__(self, control: Control) -> None:
        self._control, self._supporting, self._on_stand_in = control, 0, 0
        self._others: collections.Counter[str] = collections.Counter()
        self._runs: list[str] = []
        self._newest: Result | None = None

    def add(self, support: Support) -> None:
        """Add a run, not older than those before it."""
        self._supporting += len(support.supporting)
        self._on_stand_in += sum(result.stand_in for result in support.supporting)
        self._others.update(result.why for result in support.others)
        if support.supporting:
            self._newest = support.supporting[-1]
            self._runs.append(self._newest.run_id)

    def tally(self) -> Tally:
        """What it comes to."""
        return Tally(control=self._control, supporting=self._supporting, on_stand_in=self._on_stand_in,
                     others=self._others, runs=tuple(self._runs), newest=self._newest)  # fmt: skip


def _supports(run: PastRun) -> list[Support]:
    """One run's results; an aborted run without evidence is assessed from its journal, where all of it reads error.

    Raises:
        UsageProblem: there is nothing to read, or it is not what it must be.
    """
    file = run.directory / evidence.FILE_NAME
    with shaped(run.directory):
        return controls.supported_by(evidence.read(file) if file.exists() else assess_run(run.directory))


def as_document(found: Matrix) -> Document:
    """The matrix to read."""
    begin, end = found.begin or "the first run", found.end or "the last run"
    parts: list[Part] = [Paragraph(text=CAUTION), Paragraph(text=STAND_IN), Heading(text="Runs of the period")]
    parts.append(Paragraph(text=f"{len(found.runs)} runs, from {begin} to {end} (UTC): {_states(found.runs)}."))
    if found.unread:
        parts.append(Paragraph(text="No result could be read of these, and none counts:"))
        parts.append(Items(lines=[f"{run_id}: {why}" for run_id, why in found.unread]))
    parts.append(Heading(text="Controls and what supports them"))
    head = ("Control", "What it asks for", "Status", "Results that support it", "Newest",
            "Results that do not", "What no result here shows")  # fmt: skip
    for standard in dict.fromkeys(tally.control.standard for tally in found.tallies):
        rows = [_row(tally) for tally in found.tallies if tally.control.standard == standard]
        version = next(tally.control.version for tally in found.tallies if tally.control.standard == standard)
        parts += [Heading(text=standard, level=3), Table(caption=f"{standard}, {version}", head=head, rows=rows)]
    parts.append(Heading(text="Gaps"))
    gaps = _gaps(found)
    parts.append(Paragraph(text="Without a result that supports them in the period:" if gaps else "None."))
    if gaps:
        parts.append(Items(lines=gaps))
    return Document(title=f"Controls and results, {begin} to {end}", parts=parts)


def as_json(found: Matrix) -> str:
    """The matrix for programs: days as RFC 3339 full-date, instants as RFC 3339."""
    return json.dumps(
        {
            "from": found.begin.isoformat() if found.begin else None,
            "to": found.end.isoformat() if found.end else None,
            "note": CAUTION,
            "runs": [
                {"run_id": one_line(run.run_id), "opened_utc": run.opened_utc, "state": run.state.value,
                 "verdict": run.verdict.value if run.verdict else None, "stand_in": run.stand_in}
                for run in found.runs
            ],
            "unread": [{"run_id": one_line(run_id), "why": one_line(why)} for run_id, why in found.unread],
            "controls": [_record(tally) for tally in found.tallies],
        },
        indent=2,
    ) + "\n"  # fmt: skip


def _record(tally: Tally) -> dict[str, Any]:
    control, newest = tally.control, tally.newest
    return {
        "control": control.name,
        "standard": control.standard,
        "version": control.version,
        "id": control.id,
        "about": control.about,
        "limit": control.limit,
        "kinds": list(control.kinds),
        "status": tally.status.value,
        "supporting": tally.supporting,
        "on_stand_in": tally.on_stand_in,
        "others": dict(tally.others),
        "runs": list(tally.runs),
        "newest": {"run_id": newest.run_id, "utc": newest.utc, "result": one_line(newest.name)} if newest else None,
    }


def _states(runs: Iterable[PastRun]) -> str:
    """How many runs have each end: the verdict of those that were closed, the state of any other."""
    ends = (run.verdict.value if run.state is State.CLOSED and run.verdict else run.state.value for run in runs)
    return ", ".join(f"{count} {end}" for end, count in sorted(collections.Counter(ends).items())) or "none at all"


def _row(tally: Tally) -> list[str]:
    control, newest = tally.control, tally.newest
    stand_in = f", {tally.on_stand_in} of them on a stand-in" if tally.on_stand_in else ""
    runs = "run" if len(tally.runs) == 1 else "runs"
    return [
        control.name,
        control.about,
        tally.status.value,
        f"{tally.supporting} in {len(tally.runs)} {runs}{stand_in}" if tally.supporting else "0",
        f"{newest.utc[:10]}, {newest.run_id}" if newest else "",
        "; ".join(f"{count}: {why}" for why, count in tally.others.most_common()) or "0",
        control.limit,
    ]


def _gaps(found: Matrix) -> Sequence[str]:
    kinds = controls.every_kind()
    return [
        f"{tally.control.name}: {tally.status.value}; a result of this kind is wanted:"
        f" {' · '.join(kinds[kind].title for kind in tally.control.kinds)}"
        for tally in found.tallies
        if not tally.supporting
    ]

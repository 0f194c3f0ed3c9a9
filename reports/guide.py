"""The Operations Guide's tables with what was measured: what to back up, how often, how to restore, RTO and RPO.

Every figure names the run that it comes from. One of the reference application says that it is a stand-in's, one of a
cluster whose timing is not stock is not quoted, and what the guide leaves unset stays said to be unset.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import evidence, population, wording
from reports.assessment import shaped
from reports.document import Document, Heading, Items, Paragraph, Part, Table
from reports.population import PastDrill, PastRun, State
from reports.records import Verdict, format_duration

UNSET: Final = "unset: TODO in the guide, and no target was chosen"
CAUTION: Final = (
    "Measured by drills of this suite, on the machines that they ran on. A recovery time begins where the disaster"
    " strikes: noticing it, the decision and new hardware come on top. The interval between backups comes on top of a"
    " recovery point of a restore to the backup, for a drill strikes soon after it backed up. A recovery point of 0 is"
    " known to one interval of the drill's writes only."
)
KEPT_ELSEWHERE: Final = (
    "The size is that of the backup set. A method that keeps its data in a repository or a bucket of its own has only a"
    " note of it in the set: its row does not tell how large they are."
)
STAND_IN: Final = (
    "A figure marked (stand-in) is of the suite's reference application, a stand-in with the documented topology. It is"
    " no figure of the product."
)
_LEVELS: Final = {
    "destroy": "destroyed and restored",
    "shadow": "restored into a sandbox",
    "failover": "failover, nothing restored",
}
_COMPONENTS: Final = {
    "database": "Application database",
    "objects": "Object / blob storage",
    "configuration": "Application configuration",
}
_SHOULD: Final = {
    "database": "users' data, workspaces, audit events",
    "objects": "uploaded files, redacted output",
    "configuration": "environment and secrets, encrypted and kept apart",
}
# A drill looks at the archive of the log where its method keeps one.
_LOG_CHECK: Final = "write-ahead log archive"
_TAKEN_BY: Final = ("copy objects", "back up")
_STEPS: Final = (
    "detect", "shut out", "provision", "restore configuration", "restore database", "restore objects", "start", "ready",
    "first transaction", "redundant", "verify",
)  # fmt: skip
_PREFERRED: Final = "total_loss"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drilled:
    """One drill of the population with the run that it belongs to."""

    run: PastRun
    drill: PastDrill

    @property
    def source(self) -> str:
        """The run behind a figure, with the day and, where it is one, the stand-in."""
        return f"{self.run.run_id}{' (stand-in)' if self.drill.stand_in else ''}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A drill of which the evidence is read: ``row`` is its part of it."""

    of: Drilled
    row: Mapping[str, Any]


def guide(runs_directory: Path) -> Document:
    """The tables, from every run of a directory.

    Raises:
        UsageProblem: the directory cannot be listed, or an evidence is not what it must be.
    """
    runs = population.read(runs_directory)
    drilled = [
        Drilled(run=run, drill=drill)
        for run in runs
        if run.state in (State.CLOSED, State.RETIRED)
        for drill in run.drills
        if not drill.negative_control
    ]
    left_out = sum(run.state not in (State.CLOSED, State.RETIRED) for run in runs)
    said = f"{wording.counted(len(drilled), 'drill')} of {wording.counted(len(runs), 'run')}"
    if left_out:
        said += f"; without a figure here, for aborted, at work or not to be read: {wording.counted(left_out, 'run')}"
    parts: list[Part] = [Paragraph(text=f"{said}. {CAUTION}")]
    if any(each.drill.stand_in for each in drilled):
        parts.append(Paragraph(text=STAND_IN))
    with shaped(runs_directory):
        kept = _Evidences()
        shown = list(_one_for_each_methods(drilled, kept))
        parts += [*_what_to_back_up(shown), *_frequencies(shown), *_procedures(shown), *_objectives(drilled, kept)]
    return Document(title="Operations Guide: backup, restore, RTO and RPO, as measured", parts=parts)


def measured(document: Document) -> bool:
    """Whether the tables hold anything that was measured."""
    return any(isinstance(part, Table) for part in document.parts)


def _what_to_back_up(shown: Sequence[Shown]) -> Iterator[Part]:
    yield Heading(text="Backup")
    yield Heading(text="What to back up", level=3)
    yield Paragraph(text=KEPT_ELSEWHERE)
    rows = []
    for component, title in _COMPONENTS.items():
        newest = {(each.row["methods"].get(component, ""), each.of.drill.stand_in): each for each in shown}
        for (method, _), each in newest.items():
            held = (each.row["backup"] or {}).get("components", {}).get(component)
            if held is not None:
                size = f"{wording.size(held['bytes'])}, files: {held['files']:,}"
                rows.append([title, _SHOULD[component], method, size, _data(each.of.drill), each.of.source])
    yield from _table("Components, with the size of a backup", rows,
                      "Component", "What it holds", "Backed up by", "Size of the backup", "Of", "Run")  # fmt: skip


def _frequencies(shown: Sequence[Shown]) -> Iterator[Part]:
    yield Heading(text="Recommended backup frequency", level=3)
    yield Paragraph(
        text="The guide's own cells are TODO. What follows is demanded by the recovery point objective in force: the"
        " next backup must be complete before the one before it is older than that, so the interval is the objective"
        " less the time that a backup set takes."
    )
    rows = {}
    for each in shown:
        objective = next(row for row in each.row["objectives"] if row["objective"] == "rpo")
        for component in ("database", "objects"):
            name = f"{_COMPONENTS[component]}, by {each.row['methods'].get(component, '')}"
            rows[name, each.of.drill.architecture, each.of.drill.stand_in] = [
                name, each.of.drill.architecture, _target(objective),
                _interval(each.row, component, objective["target_ns"]), each.of.source,
            ]  # fmt: skip
    yield from _table("The longest interval between two backups", list(rows.values()),
                      "Component", "Architecture", "RPO in force", "Back up at least every", "Run")  # fmt: skip


def _interval(row: Mapping[str, Any], component: str, target_ns: int | None) -> str:
    """The longest interval from one backup to the next that an RPO allows, in words."""
    took = sum(phase["duration_ns"] or 0 for phase in row["phases"] if phase["phase"] in _TAKEN_BY)
    told = f"a backup set took {format_duration(took)}"
    if target_ns is None:
        every = f"not to be derived, for no RPO is set; {told}"
    elif took >= target_ns:
        every = f"cannot be held by this method, for {told}"
    else:
        every = f"{format_duration(target_ns - took)}, for {told}"
    if component == "database" and any(check["check"] == _LOG_CHECK for check in row["checks"]):
        every += ". So where both stores are lost; where the bucket survives, the log has no gap, and a longer interval"
        every += " only makes the restore longer"
    return every


def _procedures(shown: Sequence[Shown]) -> Iterator[Part]:
    yield Heading(text="Restore procedures")
    yield Paragraph(
        text="The steps in their order, each with the time that it took, from the newest drill of each choice of"
        " methods that passed; one of total loss where there is one, else the one that restored most. “python -m drills"
        " runbook” prints the commands of them."
    )
    for component, title in (("database", "Restoring the database"), ("objects", "Restoring object storage")):
        yield Heading(text=title, level=3)
        yield from _restoring(shown, component)
    for each in shown:
        drill = each.of.drill
        methods = (drill.methods[component] for component in _COMPONENTS if component in drill.methods)
        yield Heading(text=f"{drill.architecture}: {' + '.join(methods)}", level=3)
        not_stock = f" Timing of the cluster: {drill.not_stock}." if drill.not_stock else ""
        yield Paragraph(text=f"Drill {drill.drill}, disaster {drill.disaster}, run {each.of.source}.{not_stock}")
        taken = {phase["phase"]: phase["duration_ns"] for phase in each.row["phases"] if phase["outcome"] == "done"}
        yield Items(
            lines=[f"{step}: {wording.duration(taken[step])}" for step in _STEPS if step in taken], numbered=True
        )


def _restoring(shown: Sequence[Shown], component: str) -> Iterator[Part]:
    rows = {}
    for each in shown:
        took = next((phase["duration_ns"] for phase in each.row["phases"]
                     if phase["phase"] == f"restore {component}" and phase["outcome"] == "done"), None)  # fmt: skip
        if took is None:
            continue
        held = (each.row["backup"] or {}).get("components", {}).get(component)
        plan = (each.row["plan"] or {}).get(component, "restored")
        architecture, method = each.of.drill.architecture, each.of.drill.methods.get(component, "")
        size = wording.size(held["bytes"]) if held else "not known"
        rows[architecture, method, each.of.drill.stand_in] = [
            method, architecture, plan, format_duration(took), size, each.of.source,
        ]  # fmt: skip
    yield from _table(f"Restore of the {component}", list(rows.values()),
                      "Method", "Architecture", "What was done", "Took", "Size of the backup", "Run")  # fmt: skip


def _objectives(drilled: Sequence[Drilled], kept: _Evidences) -> Iterator[Part]:
    yield Heading(text="Reference RTO / RPO")
    groups: dict[tuple[str, str, bool], list[Drilled]] = {}
    for each in drilled:
        groups.setdefault((each.drill.architecture, each.drill.level, each.drill.stand_in), []).append(each)
    rows, named = [], []
    for (architecture, level, stand_in), members in sorted(groups.items()):
        stock = [each for each in members if not each.drill.not_stock]
        title = f"{architecture}, {_LEVELS.get(level, level)}{' (stand-in)' if stand_in else ''}"
        rows += [_figures(title, stock, what, kept) for what in ("recovery_time", "recovery_point") if stock]
        for label in dict.fromkeys(each.drill.not_stock for each in members if each.drill.not_stock):
            these = [each.run.run_id for each in members if each.drill.not_stock == label]
            named.append(f"{title}: {wording.counted(len(these), 'drill')}, {label}; the newest in run {these[-1]}")
    yield from _table(
        "Achieved against objective", rows, "Architecture", "What", "Median", "Worst", "Drills", "From, to",
        "Objective, from the newest drill", "Data of the worst",
    )  # fmt: skip
    if named:
        yield Paragraph(
            text="Not in these figures, for the timing of the cluster was NOT STOCK and is not to be quoted:"
        )
        yield Items(lines=named)


def _figures(title: str, drilled: Sequence[Drilled], what: str, kept: _Evidences) -> list[str]:
    """A row of the RTO/RPO table over drills of one kind, those that failed among them: what was measured counts."""
    measured = [each for each in drilled if _value(each, what) is not None and each.drill.verdict is not Verdict.ERROR]
    name = {"recovery_time": "RTO", "recovery_point": "RPO"}[what]
    objective = _objective(drilled[-1], name.lower(), kept)
    if not measured:
        return [title, name, "not measured", "not measured", f"0 of {len(drilled)}", "", objective, ""]
    worst = max(measured, key=lambda each: _value(each, what) or 0)
    median = statistics.median_low(_value(each, what) or 0 for each in measured)
    at = next(each for each in measured if _value(each, what) == median)
    least = "at least " if what == "recovery_point" and worst.drill.lower_bound else ""
    failed = sum(each.drill.verdict is Verdict.FAILED for each in drilled)
    days = sorted(each.run.opened_utc[:10] for each in measured)
    return [
        title,
        name,
        f"{format_duration(median)}, run {at.run.run_id}",
        f"{least}{format_duration(_value(worst, what) or 0)}, run {worst.run.run_id}",
        f"{len(measured)} of {len(drilled)} measured it; {failed} failed",
        f"{days[0]}, {days[-1]}",
        objective,
        _data(worst.drill),
    ]


def _value(each: Drilled, what: str) -> int | None:
    return each.drill.recovery_time_ns if what == "recovery_time" else each.drill.recovery_point_ns


def _objective(newest: Drilled, name: str, kept: _Evidences) -> str:
    """The target in force in the newest drill with its source, or that there is none."""
    shown = kept.shown(newest)
    if shown is not None:
        return _target(next(row for row in shown.row["objectives"] if row["objective"] == name))
    target = newest.drill.recovery_time_target_ns if name == "rto" else newest.drill.recovery_point_target_ns
    return UNSET if target is None else f"{format_duration(target)}, run {newest.run.run_id}, whose files are gone"


def _target(objective: Mapping[str, Any]) -> str:
    if objective["target_ns"] is None:
        return UNSET if "TODO" in objective["source"] else f"unset: {objective['source']}"
    return f"{format_duration(objective['target_ns'])}, by {objective['source']}"


def _one_for_each_methods(drilled: Iterable[Drilled], kept: _Evidences) -> Iterator[Shown]:
    """For each architecture and choice of methods the newest restore that passed: of total loss where there is one.

    Where there is none, of the newest run's the one that restored most.
    """
    candidates: dict[tuple[Any, ...], list[Drilled]] = {}
    for each in drilled:
        drill = each.drill
        if drill.verdict is Verdict.PASSED and drill.level == "destroy" and each.run.state is State.CLOSED:
            key = (drill.architecture, drill.stand_in, *sorted(drill.methods.items()))
            candidates.setdefault(key, []).append(each)
    for found in candidates.values():
        whole = [each for each in found if each.drill.disaster == _PREFERRED] or found
        newest = [shown for each in whole if each.run is whole[-1].run and (shown := kept.shown(each))]
        yield max(newest, key=lambda shown: len(_restored(shown.row)))


def _restored(row: Mapping[str, Any]) -> list[str]:
    return [phase["phase"] for phase in row["phases"] if phase["phase"] in _STEPS and phase["outcome"] == "done"
            and phase["phase"].startswith("restore ")]  # fmt: skip


class _Evidences:
    """Reads the evidence of a run when it is first asked for, once."""

    def __init__(self) -> None:
        self._read: dict[Path, Any] = {}

    def shown(self, chosen: Drilled) -> Shown | None:
        """The drill's part of its run's evidence; none where the run's files are gone.

        Raises:
            UsageProblem: the evidence cannot be read.
        """
        directory = chosen.run.directory
        if chosen.run.state is not State.CLOSED:
            return None
        if directory not in self._read:
            self._read[directory] = evidence.read(directory / evidence.FILE_NAME)
        row = next(row for row in self._read[directory]["drills"] if row["drill"] == chosen.drill.drill)
        return Shown(of=chosen, row={"backup": None, "plan": None, **row})


def _data(drill: PastDrill) -> str:
    """How much data was drilled on, as far as the run says."""
    words = (f"{key.removesuffix('_bytes').replace('_', ' ')} {wording.size(value)}" if key.endswith("_bytes") else
             f"{value:,} {key}" for key, value in drill.scale.items() if isinstance(value, int))  # fmt: skip
    return ", ".join(words) or "the deployment's own data"


def _table(caption: str, rows: Sequence[Sequence[str]], *head: str) -> Iterator[Part]:
    if rows:
        yield Table(caption=caption, head=head, rows=rows)
    else:
        yield Paragraph(text="Not measured yet.")

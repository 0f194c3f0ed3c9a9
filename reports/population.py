"""The population of runs: every run that a runs directory holds or once held, as a short summary each.

Nothing is skipped: an aborted run, a running one, one that cannot be read, one that is in the register and gone from
the disk. A summary is read from ``evidence.json``, of which only what is named here is decoded, so that a thousand runs
take less than a second; it is not verified here: ``python -m reports verify`` does that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from reports import population_files as files
from reports.records import UsageProblem, Verdict
from reports.register import is_live

JOURNAL: Final = "journal.jsonl"
EVIDENCE: Final = "evidence.json"
REGISTER: Final = "register.jsonl"
STALE_DAYS: Final = 90
_RUN_ID: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-[0-9a-f]{4}")
_UNREADABLE: Final = (OSError, msgspec.MsgspecError, ValueError, RecursionError, OverflowError)


class State(enum.StrEnum):
    """What became of a run."""

    CLOSED = "closed"
    RUNNING = "running"
    ABORTED = "aborted"
    BROKEN = "broken"  # its files cannot be read, or do not belong together
    RETIRED = "retired"  # deleted by ``python -m reports retain``; its figures stand in the register
    MISSING = "missing"  # in the register, not on the disk, and nobody retired it


@dataclasses.dataclass(frozen=True, kw_only=True)
class PastDrill:
    """One drill of a past run; all times in nanoseconds, ``None`` where not measured or without target."""

    drill: str
    architecture: str
    provider: str
    level: str  # destroy, shadow or failover
    disaster: str
    methods: Mapping[str, str]
    scale: Mapping[str, str | int | bool]
    stand_in: bool
    verdict: Verdict
    negative_control: bool  # a cluster set up wrong on purpose: its figures count nowhere
    not_stock: str  # the label of a cluster's timing where that is not stock; empty for any other drill
    recovery_time_ns: files.Nanoseconds | None = None
    uncertainty_ns: files.Nanoseconds | None = None
    recovery_time_target_ns: files.Nanoseconds | None = None
    recovery_point_ns: files.Nanoseconds | None = None
    lower_bound: bool = False  # of the recovery point: at least that
    recovery_point_target_ns: files.Nanoseconds | None = None
    slower: bool = False  # the finding RECOVERY-SLOWER


@dataclasses.dataclass(frozen=True, kw_only=True)
class PastRun:
    """One run. ``verdict`` is ``None`` while it runs; of one that was aborted or cannot be read it is ``error``."""

    run_id: str
    directory: Path
    state: State
    verdict: Verdict | None
    opened_utc: str = ""  # RFC 3339, empty where not known
    closed_utc: str | None = None
    problem: str = ""  # why it is broken or missing, or how far an aborted one came; foreign text
    stand_in: bool = False
    drills: tuple[PastDrill, ...] = ()
    conformance: Verdict | None = None
    planted: int = 0
    caught: int = 0
    not_tested: tuple[tuple[str, str], ...] = ()  # what could not be drilled there, and why
    profile: str = ""
    host: str = ""  # its system and how many processors it has
    sealed: bool = False
    signed: bool = False
    sign_offs: int = 0
    registered: str = ""  # the state of its last line in the register, empty where it has none

    @property
    def aborted(self) -> bool:
        """Whether it was opened and never closed, and runs no more."""
        return self.state is State.ABORTED

    @property
    def opened(self) -> datetime.datetime | None:
        """When it was opened, aware; ``None`` where not known."""
        return datetime.datetime.fromisoformat(self.opened_utc) if self.opened_utc else None

    def proves(self, now: datetime.datetime) -> bool:
        """Whether what passed in it is a success as of ``now`` (aware): it came to its end, and nothing in it broke.

        One that was opened after ``now`` is none: some clock was wrong, and nobody knows how old it is.
        """
        ended = self.state in (State.CLOSED, State.RETIRED) and self.verdict is not Verdict.ERROR
        return ended and self.opened is not None and self.opened <= now

    @property
    def score(self) -> str:
        """Negative controls caught out of those planted, such as ``74/74``."""
        return f"{self.caught}/{self.planted}"


@dataclasses.dataclass(frozen=True, order=True)
class Scenario:
    """What figures of several runs are drawn together for: one drill, on one kind of provider, with one profile."""

    drill: str
    provider: str
    profile: str
    stand_in: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastSuccess:
    """When drills of one kind last all passed in one run; ``run`` is ``None`` where they never did."""

    architecture: str
    level: str
    stand_in: bool
    run: PastRun | None

    def days(self, now: datetime.datetime) -> int | None:
        """Whole days since that run was opened; ``None`` where there was none."""
        opened = self.run.opened if self.run else None
        return (now - opened).days if opened else None


def read(runs_directory: Path) -> list[PastRun]:
    """Every run of a runs directory, oldest first; those of which no time is known come before all others.

    Raises:
        UsageProblem: the directory cannot be listed.
    """
    try:
        places = [place for place in runs_directory.iterdir() if place.is_dir()]
    except OSError as problem:
        remedy = "name the directory that holds the directories of runs, such as reports/runs"
        raise UsageProblem(str(runs_directory), seen=problem.strerror or str(problem), remedy=remedy) from None
    register, wrong = files.register(runs_directory / REGISTER)
    runs = [run for place in places if (run := _read_one(place, register)) is not None]
    here = {run.directory.name for run in runs}
    runs += [_gone(runs_directory, line) for run_id, line in register.items() if run_id not in here]
    if wrong:  # listed like a run, so that nobody who lists the runs can overlook it
        runs.append(PastRun(run_id=REGISTER, directory=runs_directory, state=State.BROKEN, verdict=Verdict.ERROR,
                            problem=wrong))  # fmt: skip
    return sorted(runs, key=lambda run: (run.opened_utc[:19], run.run_id))


def last_successes(runs: Iterable[PastRun], now: datetime.datetime) -> list[LastSuccess]:
    """For each architecture, each level of drill, and the stand-in apart from the product: the newest success.

    A run is a success of a kind where it came to its end without an error and held drills of that kind that all passed,
    at least one of which was no negative control. A retired run counts: its line in the register says what it was.

    Args:
        runs: oldest first.
        now: aware; what was opened after it is no success.
    """
    newest: dict[tuple[str, str, bool], PastRun | None] = {}
    for run in runs:
        kinds: dict[tuple[str, str, bool], list[PastDrill]] = {}
        for drill in run.drills:
            kinds.setdefault((drill.architecture, drill.level, drill.stand_in), []).append(drill)
        for kind, drills in kinds.items():
            good = all(drill.verdict is Verdict.PASSED for drill in drills)
            good = good and not all(drill.negative_control for drill in drills)
            if good and run.proves(now):
                newest[kind] = run
            newest.setdefault(kind, None)
    return [
        LastSuccess(architecture=architecture, level=level, stand_in=stand_in, run=run)
        for (architecture, level, stand_in), run in sorted(newest.items(), key=lambda item: item[0])
    ]


def scenarios(runs: Iterable[PastRun]) -> dict[Scenario, list[tuple[PastRun, PastDrill]]]:
    """Every scenario that was drilled, by name, with its drills, oldest first."""
    found: dict[Scenario, list[tuple[PastRun, PastDrill]]] = {}
    for run in runs:
        for drill in run.drills:
            scenario = Scenario(drill.drill, drill.provider, run.profile, drill.stand_in)
            found.setdefault(scenario, []).append((run, drill))
    return dict(sorted(found.items()))


def since(runs: Sequence[PastRun], begin: datetime.date | None, end: datetime.date | None = None) -> list[PastRun]:
    """The runs opened from one UTC day to another, both included; those of which no time is known are always among."""
    return [
        run
        for run in runs
        if (opened := run.opened) is None
        or ((begin is None or opened.date() >= begin) and (end is None or opened.date() <= end))
    ]


def _read_one(directory: Path, register: Mapping[str, files.RegisterLine]) -> PastRun | None:
    """One directory as a run; ``None`` where it is nothing of a run at all."""
    named = _RUN_ID.fullmatch(directory.name)
    opened = "{}-{}-{}T{}:{}:{}Z".format(*named.groups()) if named else ""
    found = PastRun(run_id=directory.name, directory=directory, state=State.BROKEN, verdict=Verdict.ERROR,
                    opened_utc=opened if files.is_time(opened) else "")  # fmt: skip
    try:
        inside = {entry.name for entry in directory.iterdir()}
    except OSError as problem:
        return dataclasses.replace(found, problem=problem.strerror or str(problem))
    if not named and JOURNAL not in inside and EVIDENCE not in inside:
        return None
    line = register.get(directory.name)
    found = dataclasses.replace(
        found,
        sealed="SHA256SUMS" in inside,
        signed="attestation.dsse.json" in inside,
        sign_offs=sum(name.startswith("sign-off-") and name.endswith(".dsse.json") for name in inside),
        registered=line.state if line else "",
    )
    if JOURNAL not in inside:
        return dataclasses.replace(found, problem=f"it has no {JOURNAL}")
    if odd := [name for name in (JOURNAL, EVIDENCE) if name in inside and not (directory / name).is_file()]:
        return dataclasses.replace(found, problem=f"{odd[0]} is no file")
    try:
        if EVIDENCE in inside:
            read_so = _closed(found, files.evidence(directory / EVIDENCE))
        else:
            read_so = _unfinished(found, directory)
    except _UNREADABLE as problem:
        name = EVIDENCE if EVIDENCE in inside else JOURNAL
        return dataclasses.replace(found, problem=f"{name} cannot be read: {problem}")
    if read_so.run_id != directory.name:
        told = f"the directory {directory.name} holds the files of run {read_so.run_id}"
        return dataclasses.replace(found, problem=told)
    return read_so


def _closed(found: PastRun, kept: files.Evidence) -> PastRun:
    drills = tuple(_drill(each) for each in kept.drills)
    conformance = kept.conformance
    scores = [each.controls for each in (*kept.drills, conformance, kept.rehearsal) if each]
    return dataclasses.replace(
        found,
        run_id=kept.run_id,
        state=State.ABORTED if kept.aborted else State.CLOSED,
        verdict=Verdict(kept.verdict),
        opened_utc=files.time_of(kept.opened_utc),
        closed_utc=files.time_of(kept.closed_utc) if kept.closed_utc else None,
        stand_in=any(each.stand_in for each in drills) or bool(conformance and conformance.stand_in),
        drills=drills,
        conformance=Verdict(conformance.verdict) if conformance else None,
        planted=sum(score.planted for score in scores),
        caught=sum(score.caught for score in scores),
        not_tested=tuple((each.what, each.reason) for each in kept.not_tested),
        profile=kept.profile.name,
        host=files.host_of(kept.host),
    )


def _drill(kept: files.Drill) -> PastDrill:
    targets = {each.objective: each.target_ns for each in kept.objectives}
    cluster = kept.failover or kept.rebuilt
    return PastDrill(
        drill=kept.drill,
        architecture=kept.architecture,
        provider=kept.provider,
        level=kept.level or "destroy",
        disaster=kept.disaster,
        methods=kept.methods,
        scale=kept.scale,
        stand_in=kept.stand_in,
        verdict=Verdict(kept.verdict),
        negative_control=bool(kept.failover and kept.failover.expects),
        not_stock="" if cluster is None or cluster.timing.stock else cluster.timing.label,
        recovery_time_ns=kept.recovery_time.achieved_ns,
        uncertainty_ns=kept.recovery_time.uncertainty_ns,
        recovery_time_target_ns=targets.get("rto"),
        recovery_point_ns=kept.recovery_point.achieved_ns,
        lower_bound=kept.recovery_point.lower_bound,
        recovery_point_target_ns=targets.get("rpo"),
        slower=any(each.code == "RECOVERY-SLOWER" for each in kept.findings),
    )


def _unfinished(found: PastRun, directory: Path) -> PastRun:
    """A run without evidence: it runs, it was aborted, or its evidence was lost. Its drills are not assessed here."""
    opened: files.Event | None = None
    drills: dict[str, files.Event] = {}
    closed: set[str] = set()
    last = files.Event(kind="")
    for event in files.journal(directory / JOURNAL):
        opened = event if event.kind == "run.opened" and opened is None else opened
        if event.kind == "drill.opened":
            drills[event.drill] = event
        elif event.kind == "drill.closed":
            closed.add(event.drill)
        last = event
    if opened is None:
        if is_live(directory):
            return dataclasses.replace(found, state=State.RUNNING, verdict=None)
        return dataclasses.replace(found, state=State.ABORTED, problem="it ended before its first event was written")
    state = State.ABORTED
    problem = f"drills opened: {len(drills)}, closed: {len(closed)}; last event {last.kind} at {last.utc}"
    if is_live(directory):
        state = State.RUNNING
    elif last.kind == "run.closed":
        state, problem = State.BROKEN, f"it was closed, and {EVIDENCE} is missing"
    return dataclasses.replace(
        found,
        run_id=opened.run_id,
        state=state,
        verdict=None if state is State.RUNNING else Verdict.ERROR,
        opened_utc=files.time_of(opened.utc),
        problem=problem,
        stand_in=any(event.stand_in for event in drills.values()),
        drills=() if state is State.RUNNING else tuple(unassessed(event) for event in drills.values()),
        profile=opened.profile.name,
        host=files.host_of(opened.host),
    )


def unassessed(event: files.Event) -> PastDrill:
    """A drill of a run without evidence: whatever it reached, nobody judged it."""
    objectives, cluster = event.objectives, event.cluster
    return PastDrill(
        drill=event.drill,
        architecture=event.architecture,
        provider=event.provider,
        level=event.level or "destroy",
        disaster=event.disaster,
        methods=event.methods,
        scale=event.scale,
        stand_in=event.stand_in,
        verdict=Verdict.ERROR,
        negative_control=bool(cluster and cluster.expects),
        not_stock="" if cluster is None or cluster.timing.stock else cluster.timing.label,
        recovery_time_target_ns=objectives["rto"].target_ns if "rto" in objectives else None,
        recovery_point_target_ns=objectives["rpo"].target_ns if "rpo" in objectives else None,
    )


def summary_of(run: PastRun) -> dict[str, Any]:
    """What the register keeps of a run that is retired: enough for the history to go on telling of it."""
    return {
        "closed_utc": run.closed_utc,
        "stand_in": run.stand_in,
        "planted": run.planted,
        "caught": run.caught,
        "profile": run.profile,
        "host": run.host,
        "conformance": run.conformance.value if run.conformance else None,
        "not_tested": [{"what": what, "reason": reason} for what, reason in run.not_tested],
        "sign_offs": run.sign_offs,
        "drills": [{**dataclasses.asdict(drill), "verdict": drill.verdict.value} for drill in run.drills],
    }


def _gone(runs_directory: Path, line: files.RegisterLine) -> PastRun:
    """A run of which the register tells and the disk does not."""
    retired = line.state == "retired"
    run = PastRun(
        run_id=line.run_id,
        directory=runs_directory / Path(line.run_id).name,
        state=State.RETIRED if retired else State.MISSING,
        verdict=Verdict.ERROR,
        opened_utc=line.opened_utc if files.is_time(line.opened_utc) else "",
        problem="" if retired else f"the register holds it as {line.state}, and its directory is gone",
        registered=line.state,
    )
    with contextlib.suppress(ValueError):
        run = dataclasses.replace(run, verdict=Verdict(line.verdict or ""))
    if not retired or line.summary is None:
        return run
    kept = line.summary
    try:
        return dataclasses.replace(
            run,
            closed_utc=kept.closed_utc,
            stand_in=kept.stand_in,
            planted=kept.planted,
            caught=kept.caught,
            profile=kept.profile,
            host=kept.host,
            conformance=Verdict(kept.conformance) if kept.conformance else None,
            not_tested=tuple((each.what, each.reason) for each in kept.not_tested),
            sign_offs=kept.sign_offs,
            drills=tuple(msgspec.convert(each, PastDrill) for each in kept.drills),
        )
    except _UNREADABLE as problem:
        return dataclasses.replace(run, problem=f"its line in the register cannot be read: {problem}")

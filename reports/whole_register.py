"""A whole runs directory held against its register: runs dropped, added, swapped, and each run that is there."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from reports import evidence, register, wording
from reports.assessment import shaped
from reports.records import HarnessError, UsageProblem
from reports.register import JOURNAL, SUMS, Line
from reports.sealed import DIFFERS, Step, Trust, differs
from reports.sealing import ATTESTATION
from reports.verification import run_steps

RUN_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
_REPEATED: Final = ("opened_utc", "sha256", "verdict", "key_id")
_OF_A_RUN: Final = (JOURNAL, SUMS, "evidence.json", ATTESTATION)


def is_run(directory: Path) -> bool:
    """Whether a directory holds a run, or what is left of one."""
    return any((directory / name).exists() for name in _OF_A_RUN)


def beside(directory: Path) -> Path | None:
    """The runs directory of a run, where a register lies in it."""
    above = directory.resolve().parent
    return above if (above / register.FILE_NAME).exists() else None


def register_steps(runs_directory: Path | None, head: str) -> tuple[list[Step], list[Line] | None]:
    """The register alone: its chain, and whether it still holds the line of a head kept elsewhere.

    Args:
        runs_directory: where it lies; ``None`` where there is none.
        head: the hash of a line that it must hold; empty where none was kept.
    """
    if runs_directory is None or not (runs_directory / register.FILE_NAME).exists():
        wanted = [differs("there is no register, and a head of it was given")] if head else []
        return wanted, None
    try:
        book = register.read(runs_directory)
    except UsageProblem as problem:
        return [differs(f"{problem.probed}: {problem.seen}")], None
    steps = []
    if head and all(line["hash"] != head for line in book):
        steps.append(differs(f"the register was cut short or replaced: no line of it has the hash {head}"))
    now = book[-1]["hash"] if book else "none"
    kept = f"{wording.counted(len(book), 'line')}, chain of digests holds; head {now}, to be kept elsewhere for"
    return [*steps, Step(what="register", text=f"{kept} --register-head")], book


def all_steps(runs_directory: Path, trust: Trust, head: str = "") -> Iterator[Step]:
    """Hold every run of a directory against itself and all of them against the register.

    Raises:
        UsageProblem: the directory cannot be listed.
    """
    try:
        here = sorted(path for path in runs_directory.iterdir() if path.name != register.FILE_NAME)
    except OSError as problem:
        raise UsageProblem(
            str(runs_directory), seen=problem.strerror or str(problem), remedy="name a run or the directory of the runs"
        ) from None
    runs = [path for path in here if not path.is_symlink() and path.is_dir() and is_run(path)]
    # Who lives is asked before the register is read: a run that has ended by then stands in it.
    live = {path for path in runs if register.is_live(path)}
    last, book = register_steps(runs_directory, head)
    known = register.latest(book or [])
    unsealed = {path.name: known[path.name]["n"] for path in runs if _without_seal(path, known)}
    spoken_of = -1  # the last line of the register that a signed run speaks of, and so vouches for
    for path in runs:
        if path in live and path.name not in known:
            yield Step(what="run", text=f"{path.name} is running and not looked at")
            continue
        # What was never sealed bears no signature of its own; a later run that is signed speaks of its line.
        steps = list(_one(path, Trust() if path.name in unsealed else trust, book))
        yield from steps
        if path.name not in unsealed and all(step.holds for step in steps):
            spoken_of = max(spoken_of, _previous(path))
    if trust.keys:
        yield from _without_signature(list(unsealed), book or [], spoken_of)
    for path in here:
        if path not in runs and _never_began(path):
            yield Step(what="run", text=f"{path.name} is empty: killed before its journal was made")
        elif path not in runs:
            yield differs(f"{path.name} is no run, and nothing is known of it")
    if book is None and not last and any((path / SUMS).exists() for path in runs):
        yield differs(f"{register.FILE_NAME} is not there, and sealed runs are")
    yield from _retired(book or [], spoken_of if trust.keys else None)
    yield from _missing(runs_directory, book or [])
    yield from last


def _without_seal(path: Path, known: Mapping[str, Line]) -> bool:
    line = known.get(path.name)
    return line is not None and line["state"] in (register.ABORTED, register.UNSEALED) and not (path / SUMS).exists()


def _previous(path: Path) -> int:
    """The number of the register's line that a run, which holds, knows to be before it; -1 where there is none."""
    if not (path / evidence.FILE_NAME).exists():
        return -1
    previous = evidence.read(path / evidence.FILE_NAME).get("previous")
    return previous["n"] if previous else -1


def _never_began(path: Path) -> bool:
    """Whether it is the directory of a run with nothing in it: nothing can be hidden in it either."""
    return (
        RUN_ID.fullmatch(path.name) is not None and not path.is_symlink() and path.is_dir() and not any(path.iterdir())
    )


def _without_signature(names: Sequence[str], book: Sequence[Line], spoken_of: int) -> Iterator[Step]:
    """Runs that bear no signature, where a key was given: their files can be made up.

    One that says of itself only that it broke is told of. One that says more must lie before the first signed run, and
    a later signed run must speak of it: from then on every run that came to its end was to be signed, and the next
    signed run would vouch for whatever it finds in the register.
    """
    first = next((line["n"] for line in book if line["key_id"]), len(book))
    known = register.latest(book)
    for name in names:
        line = known[name]
        unspoken, late = line["n"] > spoken_of, line["n"] > first
        text = f"run {name} is {line['state']}"
        if line["state"] == register.ABORTED:
            more = "no later run is signed: nothing that is signed speaks of it" if unspoken else "bears no signature"
            yield Step(what="unsigned", text=f"{text}, and {more}")
        elif late:
            yield differs(f"{text}, after the first signed run: its sealing was interrupted, or it was made up")
        elif unspoken:
            yield differs(f"{text}, and no later run is signed: nothing that is signed speaks of it")


def _retired(book: Sequence[Line], spoken_of: int | None) -> Iterator[Step]:
    """Each deleted run is told of: its line must repeat the one before it, and its files cannot be looked at any more.

    Args:
        book: the lines of the register.
        spoken_of: the last line that a signed run vouches for; ``None`` where no key was given.
    """
    before: dict[str, Line] = {}
    for line in book:
        was, before[line["run_id"]] = before.get(line["run_id"]), line
        if line["state"] != register.RETIRED:
            continue
        text = f"run {line['run_id']}: {line['verdict']}, retired by line {line['n']}"
        if was is None or any(line[key] != was[key] for key in _REPEATED):
            yield differs(f"{text}, and no line before it says so")
        elif spoken_of is not None and was["n"] > spoken_of:
            yield differs(f"{text}, and nothing that is signed speaks of it: it may never have been")
        else:
            later = "" if spoken_of is None or line["n"] <= spoken_of else "; nothing that is signed speaks of this yet"
            yield Step(what="retired", text=wording.one_line(f"{text}{later}"))


def _one(path: Path, trust: Trust, book: Sequence[Line] | None) -> Iterator[Step]:
    try:
        with shaped(path):
            steps = list(run_steps(path, trust, book))
    except HarnessError as problem:
        steps = [differs(problem)]
    wrong = [step for step in steps if step.what == DIFFERS]
    for step in wrong:
        yield differs(f"run {path.name}: {step.text}")
    if not wrong:
        verdict = next((step.text.partition(",")[0] for step in steps if step.what == "verdict"), "no verdict")
        told = [step.text for step in steps if step.what in ("signature", "sealing", "origin", "sign-off")]
        yield Step(what="run", text=wording.one_line(f"{path.name} holds: {'; '.join([verdict, *told])}"))


def _missing(runs_directory: Path, book: Sequence[Line]) -> Iterator[Step]:
    """Runs of the register that are gone from the disk and not retired, and runs that are in it twice."""
    times = collections.Counter(line["run_id"] for line in book if line["state"] != register.RETIRED)
    for run_id, line in register.latest(book).items():
        name = wording.one_line(run_id, 100)
        if line["state"] != register.RETIRED and not is_run(runs_directory / run_id):
            yield differs(f"run {name} was dropped: line {line['n']} of the register says {line['state']}")
        if times[run_id] > 1:
            yield differs(f"run {name} is registered more than once")

"""One run's files held against each other, offline: seal, signature, register, chain, schema, and every figure anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import evidence, gate, register, wording
from reports.assessment import assess_events, ledger_files, watched_files
from reports.measures import last_of
from reports.records import UsageProblem, read_journal, read_lines
from reports.register import SUMS, Line
from reports.sealed import Step, Trust, differs, key_id_of, seal_steps
from reports.sealing import ATTESTATION

_UNSEALED: Final = (
    "journal.jsonl, the ledgers, what was witnessed and read, evidence.json; not report.html and junit.xml,"
    " which are renderings and not covered: this run is not sealed"
)
_FACTS: Final = {
    "ledger.closed": "ledger",
    "ledger.observed": "ledger",
    "witness.closed": "witness",
    "reads.closed": "reads",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """What of a run is looked at again and again."""

    directory: Path
    events: Sequence[Mapping[str, Any]]
    ended: bool


def run_steps(directory: Path, trust: Trust, book: Sequence[Line] | None) -> Iterator[Step]:
    """Hold one run against itself, step by step, to the first group of steps of which one does not hold.

    Args:
        directory: the run's.
        trust: the keys whose signatures are to be there.
        book: the lines of the register of its runs directory, ``None`` where none lies beside it.

    Yields:
        A step for each thing that was looked at; ``Step.holds`` is false where it is not as it must be.

    Raises:
        UsageProblem: a file of a run that is not sealed is absent or is not what it must be to be compared at all.
    """
    for group in (seal_steps(directory, trust), _register_steps(directory, book), _record_steps(directory, book)):
        sound = True
        for step in group:
            yield step
            sound = sound and step.holds
        if not sound:
            return


def _register_steps(directory: Path, book: Sequence[Line] | None) -> Iterator[Step]:
    """The run's line in the register that lies beside it."""
    if book is None:
        yield Step(what="register", text="none that can be used lies beside this run: runs left out are not looked for")
        return
    name, sealed = directory.resolve().name, (directory / SUMS).is_file()
    line = register.latest(book).get(name)
    if line is None:
        seen = "is in no line of the register: added, or killed and not registered yet, which the next run does"
        yield differs(f"{name} {seen}")
        return
    where = f"line {line['n']} of the register"
    covered = SUMS if line["state"] == register.SEALED else register.JOURNAL
    if line["state"] == register.RETIRED:
        yield differs(f"{name} is retired by {where}, and its directory is here")
    elif sealed != (line["state"] == register.SEALED):
        yield differs(f"{name} is {'sealed' if sealed else 'not sealed'}; {where} says {line['state']}")
    elif register.digest_of(directory / covered) != line["sha256"]:
        yield differs(f"{covered} of {name} is not the file whose digest {where} holds")
    elif line["key_id"] and key_id_of(directory) != line["key_id"]:
        yield differs(f"{name} is not signed by the key {line['key_id']}, which {where} names")
    else:
        yield Step(what="register", text=f"{where} says {line['state']}, and holds the digest of {covered}")


def _record_steps(directory: Path, book: Sequence[Line] | None) -> Iterator[Step]:
    """Journal, files of facts, schema and figures: what follows from what."""
    path = directory / register.JOURNAL
    lines = sum(1 for _ in read_lines(path))
    try:
        events = read_journal(path)
    except UsageProblem as problem:
        yield differs(f"{problem.probed}: {problem.seen}")
        return
    run = _Run(directory=directory, events=events, ended=any(event["kind"] == "run.closed" for event in events))
    if run.ended and (events[-1]["kind"] != "run.closed" or not path.read_bytes().endswith(b"\n")):
        yield differs(f"{path}: something follows the line that closed the run")
        return
    yield Step(what="journal", text=f"{wording.counted(lines, 'event')}, their chain of digests holds")
    interrupted = _interrupted(run, book)
    if problem_seen := next(_promises(run, book, interrupted), ""):
        yield differs(problem_seen)
        return
    if interrupted:
        yield Step(what="sealing", text=interrupted)
    yield from _origin(run, book)
    written = (directory / evidence.FILE_NAME).exists()
    if not events and not written:
        yield Step(what="verdict", text="error: aborted, before its first event was written", holds=False)
        return
    for step in _fact_steps(run):
        yield step
        if not step.holds:
            return
    if not run.ended and not written:
        yield from _aborted(assess_events(events, directory))
    elif interrupted and not written:
        yield Step(what="verdict", text="error: closed, and killed before its evidence was written", holds=False)
    else:
        yield from _figure_steps(run)


def _interrupted(run: _Run, book: Sequence[Line] | None) -> str:
    """What a run that was killed while it was sealed lacks, as the register of the next run knows it; else empty.

    Only what a later run registered can be so: a run that sealed itself stands in its line as sealed, with its key.
    """
    line = register.latest(book or ()).get(run.directory.resolve().name)
    head = last_of(run.events, "register.head")
    if line is None or head is None or not run.ended or line["key_id"]:
        return ""
    if line["state"] == register.UNSEALED and not (run.directory / SUMS).exists():
        return "its sealing was interrupted: not sealed, not signed"
    if line["state"] == register.SEALED and head["key_id"] and not (run.directory / ATTESTATION).exists():
        return "its sealing was interrupted: sealed, not signed"
    return ""


def _origin(run: _Run, book: Sequence[Line] | None) -> Iterator[Step]:
    """A run that knows no line before its own is told of: it may be the first of another register, brought here."""
    line, head = register.latest(book or ()).get(run.directory.resolve().name), last_of(run.events, "register.head")
    if line is not None and head is not None and head["previous"] is None and line["n"] > 0:
        text = f"no line before line {line['n']} is known to it: begun beside the first run, or of another register"
        yield Step(what="origin", text=text)


def _promises(run: _Run, book: Sequence[Line] | None, interrupted: str) -> Iterator[str]:
    """What the journal says of itself among other runs that is not so."""
    head = last_of(run.events, "register.head")
    if head is not None and run.ended and not interrupted:
        if not (run.directory / SUMS).exists():
            yield f"{SUMS} is not there, and the journal says that the run was to be sealed"
        if head["key_id"] and key_id_of(run.directory) != head["key_id"]:
            yield f"the run is not signed by the key {head['key_id']}, as the journal says that it was to be"
    if book is None:
        return
    name = run.directory.resolve().name
    if (opened := last_of(run.events, "run.opened")) and opened["run_id"] != name:
        yield f"the directory {name} holds the run {opened['run_id']}: moved, renamed or swapped"
    line = register.latest(book)[name]
    if run.ended and line["verdict"] != register.verdict_of(run.directory):
        yield f"line {line['n']} of the register says {line['verdict']}, and the evidence of {name} does not"
    if line["opened_utc"] != (run.events[0]["utc"] if run.events else ""):
        yield f"line {line['n']} of the register says that {name} was opened at another time than its journal does"
    if line["state"] != register.SEALED and (line["state"] == register.ABORTED) == run.ended:
        yield f"line {line['n']} of the register says {line['state']}, and the journal of {name} does not"
    if head is None or head["previous"] is None:
        return
    before, own = head["previous"], line["n"]
    if before["n"] >= own:
        yield f"the register is cut short or reordered: {name} in line {own} knows line {before['n']} to be before it"
    elif book[before["n"]]["hash"] != before["hash"]:
        yield f"the register is another one than {name} was added to: line {before['n']} is not the one it knew"


def _fact_steps(run: _Run) -> Iterator[Step]:
    for what, path, digest in _facts(run.events, run.directory):
        name = wording.one_line(path.relative_to(run.directory.resolve()))
        if not digest:
            yield Step(what=what, text=f"{name} is NOT covered: the journal holds no digest of it")
        elif register.digest_of(path) != digest:
            yield differs(f"{name} is not the file whose digest the journal holds")
        else:
            yield Step(what=what, text=f"{name} is the file whose digest the journal holds")


def _figure_steps(run: _Run) -> Iterator[Step]:
    kept = evidence.read(run.directory / evidence.FILE_NAME)
    if wrong := evidence.problems(kept):
        yield differs(f"evidence.json is not what its schema says: {wrong[0]}")
        return
    yield Step(what="evidence", text="evidence.json is what its schema says")
    computed = assess_events(run.events, run.directory)
    if difference := first_difference(kept, computed):
        yield differs(f"evidence.json, {difference}")
        return
    if not run.ended:
        yield differs("evidence.json is there, and its run was never closed: it was added")
        return
    yield Step(what="figures", text="every figure computed again from the journal and its files is the same")
    if "gate" in computed:
        if difference := first_difference(evidence.read(run.directory / gate.FILE_NAME), computed["gate"]):
            yield differs(f"{gate.FILE_NAME}, {difference}")
            return
        yield Step(what="decision", text=f"{computed['gate']['decision']}, decided again from the journal")
    sealed = (run.directory / SUMS).is_file()
    yield Step(what="covered", text=f"every file of the run, by {SUMS}" if sealed else _UNSEALED)
    agree = f"{kept['verdict']}, of run {kept['run_id']}: the files agree with each other"
    yield Step(what="verdict", text=agree)


def _aborted(assessed: Mapping[str, Any]) -> Iterator[Step]:
    """What is left of a run that wrote no evidence, because it did not come to its end."""
    yield Step(what="verdict", text=f"{assessed['verdict']}: aborted", holds=False)
    for reason in assessed["reasons"]:
        yield Step(what="reason", text=f"run: {wording.one_line(reason)}")
    for drill in assessed["drills"]:
        for reason in drill["reasons"]:
            text = f"{wording.one_line(drill['drill'], 100)}: {wording.one_line(reason)}"
            yield Step(what="reason", text=text)


def _facts(events: Iterable[Mapping[str, Any]], directory: Path) -> Iterator[tuple[str, Path, str]]:
    """The files of facts beside the journal with the digests that it gives them; empty where it gives none."""
    events = list(events)
    for drill in dict.fromkeys(event["drill"] for event in events if event["kind"] == "drill.opened"):
        ours = [event for event in events if event.get("drill") == drill]
        paths = (*ledger_files(ours, directory), *watched_files(ours, directory))
        for path, (kind, what) in zip(paths, _FACTS.items(), strict=True):
            event = last_of(ours, kind)
            if path is not None:
                yield what, path, event["sha256"] if event else ""


def first_difference(kept: object, computed: object, path: str = "$") -> str:
    """Where two JSON values differ first, as ``$.path: kept …, computed …``; empty where they are the same."""
    if isinstance(kept, dict) and isinstance(computed, dict):
        for key in dict.fromkeys([*computed, *kept]):
            if key not in kept or key not in computed:
                return f"{path}.{key}: {'not in it' if key in computed else 'in it, and not computed'}"
            if found := first_difference(kept[key], computed[key], f"{path}.{key}"):
                return found
        return ""
    if isinstance(kept, list | tuple) and isinstance(computed, list | tuple):
        for at, (one, other) in enumerate(zip(kept, computed, strict=False)):
            if found := first_difference(one, other, f"{path}[{at}]"):
                return found
        return "" if len(kept) == len(computed) else f"{path}: {len(kept)} in it, {len(computed)} computed"
    if type(kept) is type(computed) and kept == computed:
        return ""
    return f"{path}: it says {wording.one_line(repr(kept), 100)}, computed {wording.one_line(repr(computed), 100)}"

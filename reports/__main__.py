"""The command line of this room: ``python -m reports verify DIR``, offline, for whoever doubts a run."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import evidence, wording
from reports.assessment import assess_events, ledger_files, shaped, watched_files
from reports.measures import last_of
from reports.records import HarnessError, UsageProblem, read_journal, read_lines

HOLDS, DIFFERS, UNUSABLE = 0, 1, 4
_HELP: Final = """\
Holds a run's files against each other: the journal's chain of digests, the ledgers and what was witnessed and read of a
cluster against the digests in the journal, evidence.json against its schema, and every figure of evidence.json computed
again from the journal and those files.
It needs no network, no clock and nothing but the files. It says that the files agree, not who wrote them.
report.html and junit.xml are renderings; they are not covered until runs are signed.
A run that was aborted, without evidence.json, is assessed from what it wrote, and reads as error.
"""
_COVERED: Final = (
    "covered    journal.jsonl, the ledgers, what was witnessed and read, evidence.json; not report.html and junit.xml,"
    " which are renderings and not covered until runs are signed"
)
_EXITS: Final = (
    "exit status: 0 all of it holds; 1 something differs, the first of it named, or the run was aborted; 4 the input"
    " cannot be used"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and hand back its exit status: 0 holds, 1 differs, 4 unusable input."""
    parser = argparse.ArgumentParser(prog="python -m reports", description="What can be proved about a run.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "verify",
        help="hold the files of a run against each other, offline",
        description=_HELP,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("directory", metavar="DIR", type=Path, help="a run's directory, such as reports/runs/<run-id>")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:  # argparse says 2 for usage errors; this suite, like pytest, says 4
        return UNUSABLE if end.code else HOLDS
    try:
        with shaped(given.directory):
            return verify(given.directory)
    except HarnessError as problem:
        print(f"cannot verify {wording.one_line(problem)}", file=sys.stderr)
        return UNUSABLE


def verify(directory: Path) -> int:
    """Verify one run, printing a line per step; 0 where everything holds, 1 at the first difference.

    Raises:
        UsageProblem: a file is absent or is not what it must be to be compared at all.
    """
    journal = directory / "journal.jsonl"
    lines = sum(1 for _ in read_lines(journal))
    try:
        events = read_journal(journal)
    except UsageProblem as problem:
        return _differs(f"{problem.probed}: {problem.seen}")
    ended = any(event["kind"] == "run.closed" for event in events)
    if ended and (events[-1]["kind"] != "run.closed" or not journal.read_bytes().endswith(b"\n")):
        return _differs(f"{journal}: something follows the line that closed the run")
    print(f"journal    {lines:,} events, their chain of digests holds")

    for what, path, digest in _facts(events, directory):
        name = wording.one_line(path.relative_to(directory.resolve()))
        if not digest:
            print(f"{what:<11}{name} is NOT covered: the journal holds no digest of it")
            continue
        if _digest(path) != digest:
            return _differs(f"{name} is not the file whose digest the journal holds")
        print(f"{what:<11}{name} is the file whose digest the journal holds")

    if not ended and not (directory / evidence.FILE_NAME).exists():
        return _aborted(assess_events(events, directory))

    kept = evidence.read(directory / evidence.FILE_NAME)
    if wrong := evidence.problems(kept):
        return _differs(f"evidence.json is not what its schema says: {wrong[0]}")
    print("evidence   evidence.json is what its schema says")

    difference = first_difference(kept, assess_events(events, directory))
    if difference:
        return _differs(f"evidence.json, {difference}")
    print("figures    every figure computed again from the journal and its files is the same")
    print(_COVERED)
    print(f"verdict    {kept['verdict']}, of run {kept['run_id']}: the files agree with each other")
    return HOLDS


def _aborted(assessed: Mapping[str, Any]) -> int:
    """What is left of a run that wrote no evidence, because it did not come to its end."""
    print(f"verdict    {assessed['verdict']}: aborted")
    for reason in assessed["reasons"]:
        print(f"reason     run: {wording.one_line(reason)}")
    for drill in assessed["drills"]:
        for reason in drill["reasons"]:
            print(f"reason     {wording.one_line(drill['drill'], 100)}: {wording.one_line(reason)}")
    return DIFFERS


def _differs(what: str) -> int:
    print(f"DIFFERS    {wording.one_line(what)}")
    return DIFFERS


def _facts(events: Sequence[Mapping[str, Any]], directory: Path) -> Iterator[tuple[str, Path, str]]:
    """The files of facts beside the journal with the digests that it gives them; empty where it gives none."""
    for drill in dict.fromkeys(event["drill"] for event in events if event["kind"] == "drill.opened"):
        ours = [event for event in events if event.get("drill") == drill]
        kinds = {"ledger.closed": "ledger", "ledger.observed": "ledger", "witness.closed": "witness",
                 "reads.closed": "reads"}  # fmt: skip
        paths = (*ledger_files(ours, directory), *watched_files(ours, directory))
        for path, (kind, what) in zip(paths, kinds.items(), strict=True):
            event = last_of(ours, kind)
            if path is not None:
                yield what, path, event["sha256"] if event else ""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise UsageProblem(
            str(path), seen=problem.strerror or str(problem), remedy="fetch the run's files from their archive"
        ) from None


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


if __name__ == "__main__":
    sys.exit(main())

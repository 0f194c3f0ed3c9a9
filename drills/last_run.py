"""The newest finished run of a profile, read for what a runbook shows: its drills, their steps, the commands in them.

All of it stands in the run's journal, but each drill's verdict and recovery point, which ``evidence.json`` holds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports.records import HarnessError, UsageProblem, format_duration, read_journal, read_lines

Event = Mapping[str, Any]
BUILT_IN: Final = "built-in"
COMPONENTS: Final = ("configuration", "database", "objects")
# A backup set's own directory, by the run's tag and the set's number: which of them it is is the operator's to say.
NUMBERED: Final = re.compile(r"(<(?:backup set|configuration backup)>)/[^/\s]+-\d+(?=/|$)")


SHADOW: Final = "shadow"


class NothingToShow(HarnessError):
    """There is no run to take a runbook from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileName:
    """A profile as the journal names it, and how a person gives it; ``sha256`` is empty for the built-in one."""

    name: str
    sha256: str
    option: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """The journal of a run that came to its end, and each drill's assessment by its id, as the evidence holds it.

    ``newer``: the profile of the newest finished run, where that is another's; else empty.
    """

    directory: Path
    events: Sequence[Event]
    assessed: Mapping[str, Mapping[str, Any]]
    newer: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command that ran, as a shell takes it; the time in nanoseconds."""

    line: str
    took_ns: int
    exit: int
    variables: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One phase between the strike and the first transaction; ``seen`` is what the health endpoints said in it."""

    name: str
    took_ns: int
    commands: Sequence[Command]
    seen: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drill:
    """One drill of the run: how it was opened, its verdict, its figures, its steps.

    ``recovery_ns`` counts from the strike to the end of the first transaction; none: there was no such transaction.
    ``recovery_point`` is how much the users lost at most, as text.
    """

    opened: Event
    verdict: str
    reasons: Sequence[str]
    recovery_ns: int | None
    recovery_point: str
    steps: Sequence[Step]
    not_tested: Sequence[tuple[str, str]]

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods for configuration, database and objects."""
        return tuple(self.opened["methods"][component] for component in COMPONENTS)


def read_profile(path: Path | None) -> ProfileName:
    """The profile's name and digest, without its values: its secrets need not be there to print a runbook.

    Raises:
        UsageProblem: it cannot be read, or is not TOML.
    """
    if path is None:
        return ProfileName(name=BUILT_IN, sha256="", option="")
    try:
        raw = path.read_bytes()
        tomllib.loads(raw.decode("utf-8"))
    except OSError as problem:
        raise UsageProblem(
            f"profile {path}", seen=problem.strerror or "unreadable", remedy="name a file that is there"
        ) from None
    except (ValueError, RecursionError) as problem:
        raise UsageProblem(f"profile {path}", seen=f"not TOML: {problem}", remedy="correct that line") from None
    return ProfileName(name=path.name, sha256=hashlib.sha256(raw).hexdigest(), option=f" --profile {path}")


def find_run(runs_directory: Path, profile: ProfileName) -> FinishedRun:
    """The newest run of just this profile that was closed and drilled something.

    Raises:
        NothingToShow: there is none, or only shadow restores.
        UsageProblem: its journal was altered.
    """
    other = newer = shadow = ""
    for directory in sorted((path.parent for path in runs_directory.glob("*/journal.jsonl")), reverse=True):
        opened = next(read_lines(directory / "journal.jsonl"), {})
        of = opened.get("profile", {})
        if opened.get("kind") != "run.opened" or of.get("sha256") != profile.sha256:
            if of.get("name") == profile.name:
                other = other or f"; run {directory.name} was of that name, and of another content"
            elif not newer and _finished(directory):
                newer = str(of.get("name", ""))
            continue
        if _finished(directory):
            return FinishedRun(
                directory=directory, events=read_journal(directory / "journal.jsonl"), assessed=_assessed(directory),
                newer=newer,
            )  # fmt: skip
        if not shadow and _finished(directory, shadow=True):
            shadow = f"; run {directory.name} is a shadow restore, which has no runbook"
    drill = f"drill it first: pytest drills{profile.option}"
    raise NothingToShow(
        f"a finished run of profile {profile.name} in {runs_directory}",
        seen=f"none{shadow}{other}",
        remedy=drill if profile.option or not newer else f"name the profile by --profile FILE ({newer}), or {drill}",
    )


def _finished(directory: Path, *, shadow: bool = False) -> bool:
    """Whether a run came to its end and drilled something, by shadow restores or by others."""
    events = list(read_lines(directory / "journal.jsonl"))
    opened = [event for event in events if event.get("kind") == "drill.opened"]
    drilled = any((event.get("level") == SHADOW) is shadow for event in opened)
    return drilled and any(event.get("kind") == "run.closed" for event in events)


def _assessed(directory: Path) -> dict[str, Mapping[str, Any]]:
    try:
        kept = json.loads((directory / "evidence.json").read_text("utf-8"))
        return {drill["drill"]: drill for drill in kept["drills"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def drills_of(run: FinishedRun) -> Iterator[Drill]:
    """Every drill of the run, in the order in which they were opened.

    Raises:
        UsageProblem: the journal lacks what docs/journal.md says.
    """
    for opened in (event for event in run.events if event["kind"] == "drill.opened"):
        ours = [event for event in run.events if event.get("drill") == opened["drill"]]
        evidence, shown = run.assessed.get(opened["drill"], {}), _Placeholders(opened, run.events[0]["run_id"])
        struck = next((event["at_ns"] for event in ours if event["kind"] == "strike"), None)
        probes = (event for event in ours if event["kind"] == "probe" and event["outcome"] == "succeeded")
        worked = next((event["ended_ns"] for event in probes), None)
        yield Drill(
            opened=opened,
            verdict=evidence.get("verdict", "not assessed"),
            reasons=[shown(str(reason)) for reason in evidence.get("reasons", [])],
            recovery_ns=None if struck is None or worked is None else worked - struck,
            recovery_point=_recovery_point(evidence.get("recovery_point") or {}),
            steps=list(_steps(ours, shown)),
            not_tested=[
                (each["what"], each["reason"])
                for event in ours
                if event["kind"] == "check"
                for each in event["not_tested"]
            ],
        )


def _recovery_point(measured: Event) -> str:
    if measured.get("achieved_ns") is None:
        return "unknown"
    return ("at least " if measured.get("lower_bound") else "") + format_duration(measured["achieved_ns"])


def _steps(events: Sequence[Event], shown: _Placeholders) -> Iterator[Step]:
    """The phases from the strike's end to the verification's beginning."""
    opened: dict[str, Event] = {}
    for event in _after_strike(events):
        if event["kind"] == "phase.opened":
            opened[event["phase"]] = event
        elif event["kind"] == "phase.closed" and event["phase"] in opened:
            began = opened[event["phase"]]
            within = [each for each in events if began["n"] < each["n"] < event["n"]]
            yield Step(
                name=event["phase"],
                took_ns=event["t"] - began["t"],
                commands=[shown.command(each) for each in within if each["kind"] == "command"],
                seen=_seen([each for each in within if each["kind"] == "health"]),
            )


def _seen(health: Sequence[Event]) -> list[str]:
    """What each endpoint said last, as ``200 from web ready, job ready``."""
    last = {f"{each['service']} {each['endpoint']}": each["status"] for each in health}
    return [
        f"{status or 'no answer'} from {', '.join(endpoint for endpoint, said in last.items() if said == status)}"
        for status in sorted(set(last.values()))
    ]


def _after_strike(events: Sequence[Event]) -> Iterator[Event]:
    struck = False
    for event in events:
        if struck and event.get("phase") == "verify":
            return
        if struck:
            yield event
        struck = struck or (event["kind"] == "phase.closed" and event["phase"] == "strike")


class _Placeholders:
    """Replaces the directories of one run by what they hold."""

    def __init__(self, drill: Event, run_id: str) -> None:
        places = drill.get("places", {})
        # The longest first: a directory may lie in another.
        self._places = sorted(((path, name) for name, path in places.items() if path), key=lambda each: -len(each[0]))
        self._run = re.compile(
            r"/[^\s=:,'\"]*?/" + re.escape(run_id) + r"(/" + re.escape(drill["drill"]) + r")?(?=/|$)"
        )

    def __call__(self, text: str) -> str:
        for path, name in self._places:
            text = re.sub(re.escape(path) + r"(?=/|$|[\s'\",:])", f"<{name}>", text)
        return NUMBERED.sub(r"\1", self._run.sub("<work directory>", text))

    def command(self, event: Event) -> Command:
        words = [self(_program(word, at, event["argv"])) for at, word in enumerate(event["argv"])]
        line = shlex.join(words)
        for sign, key in (("<", "stdin"), (">", "stdout")):
            if event.get(key):
                line += f" {sign} {shlex.quote(self(event[key]))}"
        return Command(
            line=line,
            took_ns=event["ended_ns"] - event["started_ns"],
            exit=event["exit"],
            variables=sorted(event.get("env", [])),
        )


def _program(word: str, at: int, argv: Sequence[str]) -> str:
    """A program's name without its directory, whether it stands first or after what takes root's rights away."""
    is_program = at == 0 or (argv[at - 1] == "--" and "--" not in argv[: at - 1])
    return Path(word).name if is_program and word.startswith("/") else word

"""The parts of a run's files that the population needs, and nothing else of them, decoded into types."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

Scale = Mapping[str, str | int | bool]
# What a journal can hold, so that a figure read here can be written into the next one.
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_SCHEMA_VERSION: Final = 1


class Named(msgspec.Struct):
    """A profile."""

    name: str = ""


class Host(msgspec.Struct):
    """What the run's machine is."""

    system: str = ""
    processors: int = 0


class Remark(msgspec.Struct):
    """Something that was not tested, and why."""

    what: str
    reason: str


class Code(msgspec.Struct):
    """A finding, by its code alone."""

    code: str


class Timing(msgspec.Struct):
    """How long a cluster waits."""

    stock: bool
    label: str


class Cluster(msgspec.Struct):
    """Of a drill on a cluster."""

    timing: Timing
    expects: tuple[str, ...] = ()


class Objective(msgspec.Struct):
    """A target."""

    target_ns: Nanoseconds | None = None
    objective: str = ""


class Took(msgspec.Struct):
    """A recovery time."""

    achieved_ns: Nanoseconds | None = None
    uncertainty_ns: Nanoseconds | None = None


class Point(msgspec.Struct):
    """A recovery point."""

    achieved_ns: Nanoseconds | None = None
    lower_bound: bool = False


class Controls(msgspec.Struct):
    """The score of the negative controls."""

    planted: int = 0
    caught: int = 0


class Drill(msgspec.Struct):
    """One drill of an ``evidence.json``."""

    drill: str
    architecture: str
    disaster: str
    methods: Mapping[str, str]
    stand_in: bool
    verdict: str
    objectives: tuple[Objective, ...]
    recovery_time: Took
    recovery_point: Point
    provider: str = ""
    level: Literal["", "destroy", "shadow", "failover"] = ""
    scale: Scale = {}
    failover: Cluster | None = None
    rebuilt: Cluster | None = None
    findings: tuple[Code, ...] = ()
    controls: Controls = msgspec.field(default_factory=Controls)


class Conformance(msgspec.Struct):
    """What was checked of the deployment itself."""

    verdict: str
    stand_in: bool = True  # evidence of before it said so was of nothing else
    controls: Controls = msgspec.field(default_factory=Controls)


class Rehearsal(msgspec.Struct):
    """The rehearsal of an upgrade."""

    controls: Controls = msgspec.field(default_factory=Controls)


class Evidence(msgspec.Struct):
    """An ``evidence.json``."""

    schema_version: int
    run_id: str
    verdict: str
    opened_utc: str
    closed_utc: str | None
    aborted: bool
    drills: tuple[Drill, ...]
    conformance: Conformance | None = None
    rehearsal: Rehearsal | None = None
    not_tested: tuple[Remark, ...] = ()
    profile: Named = msgspec.field(default_factory=Named)
    host: Host = msgspec.field(default_factory=Host)


class Event(msgspec.Struct):
    """A line of a journal."""

    kind: str
    utc: str = ""
    run_id: str = ""
    drill: str = ""
    architecture: str = ""
    provider: str = ""
    level: Literal["", "destroy", "shadow", "failover"] = ""
    disaster: str = ""
    methods: Mapping[str, str] = {}
    scale: Scale = {}
    stand_in: bool = False
    objectives: Mapping[str, Objective] = {}
    cluster: Cluster | None = None
    profile: Named = msgspec.field(default_factory=Named)
    host: Host = msgspec.field(default_factory=Host)


class Summary(msgspec.Struct):
    """What the register keeps of a retired run (``population.summary_of``)."""

    drills: tuple[dict[str, Any], ...]
    closed_utc: str | None = None
    stand_in: bool = False
    planted: int = 0
    caught: int = 0
    profile: str = ""
    host: str = ""
    conformance: str | None = None
    not_tested: tuple[Remark, ...] = ()
    sign_offs: Annotated[int, msgspec.Meta(ge=0)] = 0


class RegisterLine(msgspec.Struct):
    """A line of the register; whether its chain holds is for ``verify`` to say."""

    run_id: str
    state: str
    opened_utc: str = ""
    verdict: str | None = None
    summary: Summary | None = None


_EVIDENCE: Final = msgspec.json.Decoder(Evidence)
_EVENT: Final = msgspec.json.Decoder(Event)
_LINE: Final = msgspec.json.Decoder(RegisterLine)


def evidence(path: Path) -> Evidence:
    """The summary of an ``evidence.json``.

    Raises:
        OSError, ValueError, msgspec.MsgspecError: it cannot be read, or is not one that this version understands.
    """
    kept = _EVIDENCE.decode(path.read_bytes())
    if kept.schema_version != _SCHEMA_VERSION:
        raise ValueError(f"it is of schema version {kept.schema_version}, this suite reads {_SCHEMA_VERSION}")
    return kept


def journal(path: Path) -> Iterator[Event]:
    """The lines of a journal; a last one cut short is left out. Its chain is not checked.

    Raises:
        OSError, ValueError, msgspec.MsgspecError: it cannot be read.
    """
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield _EVENT.decode(line)


def register(path: Path) -> tuple[dict[str, RegisterLine], str]:
    """The last line that a register holds of each run, none without a register; and what of it cannot be read."""
    lines: dict[str, RegisterLine] = {}
    number, wrong = 0, ""
    try:
        with path.open("rb") as file:
            for text in file:
                number += 1
                if not text.endswith(b"\n"):
                    break  # being written at this moment, or cut short: verify tells
                try:
                    line = _LINE.decode(text)
                    lines[line.run_id] = line
                except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
                    wrong = wrong or f"line {number} cannot be read: {problem}"
    except FileNotFoundError:
        return {}, ""
    except OSError as problem:
        wrong = problem.strerror or str(problem)
    return lines, wrong


def is_time(text: str) -> bool:
    """Whether a text is an instant with an offset, RFC 3339."""
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def time_of(text: str) -> str:
    """The instant, as it is written.

    Raises:
        ValueError: it is none.
    """
    if not is_time(text):
        raise ValueError(f"{text[:60]!r} is no instant with an offset")
    return text


def host_of(host: Host) -> str:
    """A machine in words, the same for two runs on alike machines: its kernel's release is left out."""
    system, *rest = host.system.split(" ")
    return f"{' '.join([system, *rest[-1:]])}, {host.processors} processors"

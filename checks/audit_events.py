"""Whether each provoked event stands in the log exactly once, with the right fields and nothing that must not be there.

Pure: given what is expected and the log's lines as they flow, it says what was found.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from checks.audit_secrets import forms
from fixtures.http_steps import Answered, Step, Value, at, filled, read_steps
from reports.records import NANOSECONDS, Finding, UsageProblem, parse_duration

KEYS: Final = {"within", "never", "headers", "variables", "step"}
EVENT_KEYS: Final = {"type", "match", "fields", "without", "capture"}
DEFAULT_WITHIN_NS: Final = 5 * NANOSECONDS
TYPE: Final = "event_type"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedEvent:
    """An event that a step provokes.

    ``match``: fields by which its line is known among others of its type. ``fields``: what the line must hold, a value
    or ``{"matches": pattern}``. ``without``: fields that it must not have. ``capture``: fields that later events refer
    to. Fields are dotted; values may hold ``{name}``.
    """

    type: str
    match: Mapping[str, Any]
    fields: Mapping[str, Any]
    without: tuple[str, ...]
    capture: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventPlan:
    """A file of steps: ``events`` holds those of each step, in the steps' order; ``within_ns`` in nanoseconds.

    ``never``: variables whose values may stand in no line.
    """

    steps: Sequence[Step]
    events: Sequence[Sequence[ExpectedEvent]]
    variables: Mapping[str, str]
    never: tuple[str, ...]
    within_ns: int

    @property
    def types(self) -> tuple[str, ...]:
        """Every type of event that is provoked, once."""
        return tuple(dict.fromkeys(event.type for of_step in self.events for event in of_step))


def read_plan(path: Path) -> EventPlan:
    """The file of steps that the profile names, or the reference application's.

    Raises:
        UsageProblem: not readable, not TOML, an unknown or missing key, a value of the wrong kind.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageProblem(f"file of steps {path}", seen=str(problem), remedy="name a TOML file of steps") from None
    where = f"file of steps {path.name}"
    if unknown := sorted(document.keys() - KEYS):
        raise UsageProblem(where, seen=f"unknown key {unknown[0]!r}", remedy=f"known are {', '.join(sorted(KEYS))}")
    tables = document.get("step", [])
    expected = [
        [_read_event(event, f"{where}, step {number}") for event in _events_of(table)]
        for number, table in enumerate(tables, start=1)
    ]
    steps = read_steps(tables, origin=where, headers=document.get("headers", {}))
    try:
        within = parse_duration(document["within"]) if "within" in document else DEFAULT_WITHIN_NS
    except (ValueError, AttributeError, TypeError):
        raise UsageProblem(where, seen="within is no duration", remedy="write 5s") from None
    return EventPlan(
        steps=steps, events=expected, variables=document.get("variables", {}), never=tuple(document.get("never", ())),
        within_ns=within,
    )  # fmt: skip


def _events_of(table: Any) -> list[Any]:
    """Take a step's events out of its table: the rest is a step and nothing else."""
    events = table.pop("event", []) if isinstance(table, dict) else []
    return events if isinstance(events, list) else [events]


def _read_event(table: Any, where: str) -> ExpectedEvent:
    if not isinstance(table, dict) or not isinstance(table.get("type"), str) or not table.get("match"):
        raise UsageProblem(where, seen="an event without type and match", remedy="say by which fields it is known")
    if unknown := sorted(table.keys() - EVENT_KEYS):
        raise UsageProblem(where, seen=f"unknown key {unknown[0]!r}", remedy=f"one of {', '.join(sorted(EVENT_KEYS))}")
    for wanted in table.get("fields", {}).values():
        if isinstance(wanted, dict):
            try:
                re.compile(wanted["matches"])
            except (KeyError, TypeError, re.error):
                raise UsageProblem(where, seen=f"{wanted}", remedy='write { matches = "a pattern" }') from None
    return ExpectedEvent(
        type=table["type"], match=table["match"], fields=table.get("fields", {}),
        without=tuple(table.get("without", ())), capture=table.get("capture", {}),
    )  # fmt: skip


class EventSearch:
    """Looks for provoked events in lines as they come, and keeps no other line.

    Args:
        answered: the steps as they were answered, in the plan's order.
        names: the product's name of a field by ours, where they differ.
    """

    def __init__(self, plan: EventPlan, answered: Sequence[Answered], names: Mapping[str, str]) -> None:
        self._names = names
        self._wanted = [
            (each.step, event, _with_variables(event.match, each, each.step.name), each.variables)
            for each, events in zip(answered, plan.events, strict=True)
            for event in events
        ]
        last: Mapping[str, Value] = answered[-1].variables
        self._never = {name: spellings for name in plan.never if (spellings := _spellings(last[name]))}
        self._found: list[list[dict[str, Any]]] = [[] for _ in self._wanted]
        self._told: collections.Counter[tuple[str, str]] = collections.Counter()
        self.lines = 0

    @property
    def complete(self) -> bool:
        """Whether each is there, at least once."""
        return all(self._found)

    @property
    def wanted(self) -> int:
        """How many events are looked for."""
        return len(self._wanted)

    def feed(self, line: bytes, source: str) -> None:
        """One line of the log of a service, without its line feed."""
        self.lines += 1
        for name, spellings in self._never.items():
            if any(spelling in line for spelling in spellings):
                self._told[name, source] += 1
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return  # the stream's own check says so
        for (_, wanted, match, _), found in zip(self._wanted, self._found, strict=True):
            if self._of(event, TYPE) == wanted.type and all(_same(self._of(event, k), v) for k, v in match.items()):
                found.append(event)

    def findings(self) -> list[Finding]:
        """What is missing, there more than once, wrong, or told though it must not be."""
        findings = [
            Finding(
                code="LOG-EVENT-DISCLOSES", count=count, where=source,
                seen=f"the value of {name!r} stands in {count} line{'s' * (count > 1)} of the log of {source}",
            )
            for (name, source), count in self._told.items()
        ]  # fmt: skip
        captured: dict[str, Value] = {}
        for (step, wanted, match, variables), found in zip(self._wanted, self._found, strict=True):
            where = f"{wanted.type} of {step.name}"
            if len(found) != 1:
                known = ", ".join(f"{name} {value}" for name, value in match.items())
                findings.append(
                    Finding(
                        code="LOG-EVENT-TWICE" if found else "LOG-EVENT-MISSING", where=where, count=len(found) or 1,
                        seen=f"{step.method} {step.path} answered; {len(found) or 'no'} events tell of it ({known})",
                    )
                )  # fmt: skip
            for event in found[:1]:
                wrong = [*self._wrong(event, wanted, {**variables, **captured}, where)]
                captured |= {name: self._of(event, field) for name, field in wanted.capture.items()}
                if wrong:
                    findings.append(
                        Finding(code="LOG-EVENT-WRONG", seen="; ".join(wrong), where=where, count=len(wrong))
                    )
        return findings

    def _wrong(
        self, event: Mapping[str, Any], wanted: ExpectedEvent, variables: Mapping[str, Value], where: str
    ) -> Iterable[str]:
        for name, value in wanted.fields.items():
            seen = self._of(event, name)
            if isinstance(value, Mapping):
                if seen is None or not re.search(value["matches"], str(seen)):
                    yield f"{name} is {_shown(seen)}, and is to match {value['matches']}"
            elif not _same(seen, right := filled(value, variables, where=where)):
                yield f"{name} is {_shown(seen)}, not {_shown(right)}"
        for name in wanted.without:
            if self._of(event, name) is not None:
                yield f"it has {name}"

    def _of(self, event: Any, name: str) -> Any:
        return at(event, self._names.get(name, name))


def _with_variables(match: Mapping[str, Any], answered: Answered, where: str) -> dict[str, Any]:
    made: dict[str, Any] = filled(match, answered.variables, where=f"step {where!r}")
    return made


def _same(seen: Any, wanted: Any) -> bool:
    """Equal, also as text: a header captured is text where the event holds a number."""
    return seen is not None and (seen == wanted or str(seen) == str(wanted))


def _shown(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _spellings(value: Value) -> tuple[bytes, ...]:
    """A text as it may stand in a line."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if len(text) < 6:
        raise UsageProblem("never", seen=f"a value of {len(text)} characters", remedy="it would be found by chance")
    return tuple(forms(text))

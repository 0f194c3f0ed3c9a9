"""What one audit event is held against: the schema in force, and where the product keeps each field."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import jsonschema_rs

from fixtures.log_settings import DEFAULT_SCHEMA, LogSettings
from reports.records import NANOSECONDS, UsageProblem

Event = Mapping[str, Any]
Get = Callable[[Event], Any]
_SHOWN: Final = 3
_LONGEST_NAME: Final = 200
_JUDGED: Final = (
    "event_id",
    "event_type",
    "time",
    "seq",
    "prev_hash",
    "service.instance",
    "service.name",
    "service.host",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The profile's ``[logs]`` table made ready for a stream.

    ``schema`` judges an event under our names, or as it is where the profile names a schema of its own.
    ``writer``: who wrote an event, ``None`` where it does not say. ``skew`` in seconds.
    """

    longest: int
    deepest: int
    skew: float
    other: frozenset[str]
    schema: jsonschema_rs.Validator
    renamed: Callable[[Event], Event] | None
    time_path: tuple[str, ...]
    is_event: Callable[[Event], bool]
    event_id: Get
    time: Get
    seq: Get
    prev_hash: Get
    writer: Callable[[Event], str | None]

    def problems(self, event: Event, *, but_time: bool) -> Iterator[str]:
        """What the schema finds wrong with an event, at most three, values hidden.

        Args:
            but_time: leave out what it says of the time, of which something better was said.
        """
        judged = self.renamed(event) if self.renamed else event
        for error in itertools.islice(self.schema.iter_errors(judged), _SHOWN):
            where = ".".join(map(str, error.instance_path))[:_LONGEST_NAME]
            if not (but_time and tuple(error.instance_path) == self.time_path):
                yield f"{where or 'the event'}: {error.message[:200]}"

    def holds(self, event: Event) -> bool:
        """Whether the schema finds nothing wrong with an event."""
        return self.schema.is_valid(self.renamed(event) if self.renamed else event)


def rules_of(settings: LogSettings) -> Rules:
    """Make the profile's table ready.

    Raises:
        UsageProblem: the schema is not there, or is none.
    """
    names = settings.fields
    path = {name: tuple(names.get(name, name).split(".")) for name in _JUDGED}
    event_id, event_type = getter(path["event_id"]), getter(path["event_type"])
    other = frozenset(settings.other_lines)
    instance, host, name = (getter(path[f"service.{field}"]) for field in ("instance", "host", "name"))

    def writer(event: Event) -> str | None:
        found = instance(event)
        if type(found) is str:
            return found[:_LONGEST_NAME]
        of, on = name(event), host(event)
        return f"{of[:_LONGEST_NAME]} on {on[:_LONGEST_NAME]}" if type(of) is str and type(on) is str else None

    return Rules(
        longest=settings.longest_line,
        deepest=settings.deepest,
        skew=settings.allowed_skew_ns / NANOSECONDS,
        other=other,
        schema=_schema(settings),
        # A schema of the product's own is about the product's own names.
        renamed=_renaming(names) if names and settings.schema is None else None,
        time_path=("time",) if settings.schema is None else path["time"],
        is_event=lambda line: not other <= line.keys() or event_id(line) is not None or event_type(line) is not None,
        event_id=event_id,
        time=getter(path["time"]),
        seq=getter(path["seq"]),
        prev_hash=getter(path["prev_hash"]),
        writer=writer,
    )


def getter(path: tuple[str, ...]) -> Get:
    """Reads the value at a path; ``None`` where there is none."""
    if len(path) == 1:
        (only,) = path
        return lambda event: event.get(only)
    if len(path) == 2:
        first, second = path

        def get_second(event: Event) -> Any:
            inner = event.get(first)
            return inner.get(second) if type(inner) is dict else None

        return get_second

    def get(event: Any) -> Any:
        for key in path:
            event = event.get(key) if type(event) is dict else None
        return event

    return get


def _renaming(names: Mapping[str, str]) -> Callable[[Event], Event]:
    """Puts a product's fields under our names. What else stood under one of ours is no longer there."""
    moves = [(getter(tuple(theirs.split("."))), ours.split(".")) for ours, theirs in names.items()]

    def rename(event: Event) -> Event:
        made = dict(event)
        for get, (*above, last) in moves:
            at = made
            for key in above:
                # A copy: the event itself is still to be looked at.
                inner = at.get(key)
                at[key] = dict(inner) if type(inner) is dict else {}
                at = at[key]
            value = get(event)
            if value is None:
                at.pop(last, None)
            else:
                at[last] = value
        return made

    return rename


def _schema(settings: LogSettings) -> jsonschema_rs.Validator:
    path = settings.schema or DEFAULT_SCHEMA
    try:
        document = json.loads(path.read_text("utf-8"))
        return jsonschema_rs.validator_for(document, validate_formats=True, mask="the value", offline=True)
    except (OSError, ValueError, jsonschema_rs.ReferencingError) as problem:
        raise UsageProblem(
            f"profile, logs.schema {path}", seen=str(problem)[:300], remedy="name a JSON Schema that is whole by itself"
        ) from None

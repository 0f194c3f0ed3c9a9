"""The schema in force, judged fast: by the same rules as the slow reference, and under the product's own names."""

import copy
import json
import random
from pathlib import Path

import jsonschema
import pytest

from benchmarks.audit_lines import whole_lines
from checks.audit_rules import rules_of
from fixtures.log_settings import DEFAULT_SCHEMA, LogSettings
from reports.records import UsageProblem

SCHEMA = json.loads(DEFAULT_SCHEMA.read_text("utf-8"))
JUDGE = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
WORDS = (
    "schema_version", "event_id", "seq", "time", "event_type", "outcome", "actor", "source", "target", "service",
    "request_id",
)  # fmt: skip
ODD = (
    None, True, False, 0, 1, -1, 1.0, 1.5, 2**63, 10**40, 1e300, "", " ", "x", "x" * 301, "é" * 300, "😀" * 300,
    "1.0", "1.", "2.0",
    "success", "Success", "document.uploaded", "document", "document..uploaded", [], [1], {}, {"type": "a"},
    {"type": "a", "id": "b"}, {"type": 1, "id": "b"}, {"ip": "1.2.3.4"}, {"ip": "::1"}, {"ip": "1.2.3"}, {"ip": ""},
    {"ip": "1.2.3.256"}, {"ip": "01.2.3.4"}, {"ip": "fe80::1%eth0"}, {"name": "a", "version": "1", "host": "h"},
    "2026-11-23T03:33:23Z", "2026-11-23T03:33:23.123456+00:00", "2026-11-23T03:33:23", "2026-11-23 03:33:23Z",
    "2026-13-23T03:33:23Z", "2026-02-30T03:33:23Z", "2026-11-23T25:33:23Z", "2026-11-23T03:33:23+0000",
    "6f1c1f0e-5d0c-4a3b-9f0a-3b1d6e0c8a11", "6F1C1F0E-5D0C-4A3B-9F0A-3B1D6E0C8A11", "6f1c1f0e5d0c4a3b9f0a3b1d6e0c8a11",
    "6f1c1f0e-5d0c-4a3b-9f0a-3b1d6e0c8a1g", "0" * 64, "0" * 63, "G" * 64,
)  # fmt: skip


def mutated(event, generator):
    """An event with one to three values exchanged, taken away or added, at any depth."""
    for _ in range(generator.randint(1, 3)):
        at = event
        while True:
            name = generator.choice([*at, "extra"]) if at else "extra"
            if not isinstance(at.get(name), dict) or generator.random() < 0.5:
                break
            at = at[name]
        if generator.random() < 0.25:
            at.pop(name, None)
        else:
            at[name] = copy.deepcopy(generator.choice(ODD))
    return event


def test_the_fast_judge_and_the_reference_agree_on_thousands_of_events():
    generator, rules, held = random.Random(4), rules_of(LogSettings()), 0
    for line in whole_lines(5000):
        event = mutated(json.loads(line), generator)
        expected = JUDGE.is_valid(event)
        assert rules.holds(event) == expected, event
        assert bool(list(rules.problems(event, but_time=False))) != expected
        held += expected
    assert 500 < held < 4500


def test_the_schema_is_one_and_asks_for_every_field_of_the_specification():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert sorted(SCHEMA["required"]) == sorted(WORDS)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("missing", WORDS)
def test_an_event_without_a_required_field_is_told_with_the_fields_name(missing):
    event = json.loads(next(whole_lines(1)))
    del event[missing]
    rules = rules_of(LogSettings())
    assert not rules.holds(event)
    assert any(missing in problem for problem in rules.problems(event, but_time=False))


def test_a_problem_shows_no_value():
    event = json.loads(next(whole_lines(1))) | {"outcome": "hunter2-hunter2", "event_type": "HUNTER2"}
    said = "".join(rules_of(LogSettings()).problems(event, but_time=False))
    assert "outcome" in said and "hunter2" not in said.lower()


NAMES = {"event_id": "id", "event_type": "action", "actor.id": "user.name", "source.ip": "client_ip", "time": "ts",
         "service.instance": "meta.process.uid"}  # fmt: skip


def foreign(event):
    """The event as a product with names of its own would write it."""
    made = dict(event)
    made["id"], made["action"], made["ts"] = made.pop("event_id"), made.pop("event_type"), made.pop("time")
    made["user"], made["actor"] = {"name": event["actor"]["id"]}, {"type": event["actor"]["type"]}
    made["client_ip"], made["source"] = event["source"]["ip"], {"kind": "socket"}
    made["meta"] = {"process": {"uid": event["service"]["instance"]}}
    made["service"] = {key: value for key, value in event["service"].items() if key != "instance"}
    return made


def test_a_product_with_other_names_is_held_against_our_schema_through_the_field_map():
    event = json.loads(next(whole_lines(1)))
    rules, theirs = rules_of(LogSettings(fields=NAMES)), foreign(event)
    assert rules.holds(theirs) and not rules.holds(event)
    assert (rules.event_id(theirs), rules.time(theirs)) == (event["event_id"], event["time"])
    assert rules.writer(theirs) == event["service"]["instance"]
    del theirs["user"]
    assert any("id" in problem for problem in rules.problems(theirs, but_time=False))


def test_a_field_of_ours_that_the_product_uses_for_something_else_does_not_count():
    rules = rules_of(LogSettings(fields={"time": "ts"}))
    event = json.loads(next(whole_lines(1)))
    assert not rules.holds(event)
    assert rules.holds({**event, "time": 17, "ts": event["time"]})


def test_a_schema_of_the_products_own_is_about_its_own_names(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"required": ["id", "action"], "properties": {"action": {"const": "in"}}}))
    rules = rules_of(LogSettings(schema=path, fields={"event_id": "id", "event_type": "action"}))
    assert rules.holds({"id": "1", "action": "in"}) and not rules.holds({"event_id": "1", "event_type": "in"})


@pytest.mark.parametrize("text", ["", "{", '{"type": 7}', '{"$ref": "https://127.0.0.1:9/schema.json"}', "\xff"])
def test_a_schema_that_is_none_or_not_whole_is_refused_with_a_remedy(tmp_path, text):
    path = tmp_path / "own.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageProblem, match=r"own\.json"):
        rules_of(LogSettings(schema=path))
    with pytest.raises(UsageProblem, match=r"none\.json"):
        rules_of(LogSettings(schema=Path(tmp_path / "none.json")))


def test_a_nested_mark_of_an_event_is_looked_for_where_it_is():
    rules = rules_of(LogSettings(fields={"event_id": "meta.id", "event_type": "meta.action"}))
    other = {"level": "info", "message": "", "meta": {"thread": 1}}
    assert not rules.is_event(other)
    assert rules.is_event(other | {"meta": {"id": "1"}})


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ({"time": "", "level": "info", "message": ""}, False),
        ({"time": "", "level": "info", "message": "", "logger": "x"}, False),
        ({"level": "info"}, True),
        ({"level": "info", "message": "", "event_type": "user.login"}, True),
        ({"level": "info", "message": "", "event_id": 1}, True),
        ({}, True),
    ],
)
def test_only_a_line_with_the_marks_of_other_lines_and_none_of_an_events_is_no_event(line, event):
    assert rules_of(LogSettings()).is_event(line) is event

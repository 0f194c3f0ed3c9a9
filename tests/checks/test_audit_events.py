import copy
import json
import types

import pytest

from checks.audit_events import EventSearch, read_plan
from checks.conformance.audit_events import REFERENCE_STEPS
from fixtures.http_steps import Answered
from reports.records import UsageProblem

NAMED_BY_THE_GUIDES = {
    "user.login", "user.logout", "authentication.failed", "role.assigned", "role.revoked", "api_key.created",
    "api_key.rotated", "document.uploaded", "document.downloaded", "document.redacted",
}  # fmt: skip
STEPS = """
never = ["password"]
[[step]]
name = "a login"
method = "POST"
path = "/login"
expect = 200
[[step.event]]
type = "user.login"
match = { request_id = "{request_id}" }
fields = { outcome = "success", "actor.id" = "{user}", "details.session" = { matches = "^[0-9a-f]{4}$" } }
without = ["details.token"]
capture = { session = "details.session" }
[[step]]
name = "a logout"
method = "POST"
path = "/logout"
expect = 204
[[step.event]]
type = "user.logout"
match = { request_id = "{request_id}" }
fields = { "details.session" = "{session}", "details.size" = "{size}" }
"""
LOGIN = {
    "event_type": "user.login", "request_id": "r1", "outcome": "success", "actor": {"id": "u1"},
    "details": {"session": "0a1b"},
}  # fmt: skip
LOGOUT = {"event_type": "user.logout", "request_id": "r2", "details": {"session": "0a1b", "size": 12}}
OTHER = {"event_type": "user.login", "request_id": "of another", "outcome": "failure"}
VARIABLES = {"user": "u1", "password": 'pässword "1"', "size": "12"}


@pytest.fixture
def judged(tmp_path):
    """The findings of a search through these events, given as objects or as raw lines."""
    path = tmp_path / "steps.toml"
    path.write_text(STEPS)
    plan = read_plan(path)

    def judge(*lines, names=types.MappingProxyType({})):
        answered = [
            Answered(step=step, variables={**VARIABLES, "request_id": f"r{number}"})
            for number, step in enumerate(plan.steps, start=1)
        ]
        search = EventSearch(plan, answered, names)
        for line in lines:
            search.feed(line if isinstance(line, bytes) else json.dumps(line).encode(), "web")
        return search.findings()

    return judge


def changed(event, **changes):
    made = copy.deepcopy(event)
    for name, value in changes.items():
        made.setdefault("details", {}).update(value) if name == "details" else made.update({name: value})
    return made


def test_events_that_are_there_once_and_right_are_no_finding(judged):
    assert judged(OTHER, b"no JSON", b"[1]", LOGIN, b'{"message": "x"}', LOGOUT) == []


def test_an_event_that_is_not_there_is_missing_and_told_by_its_step(judged):
    (finding,) = judged(LOGIN)
    assert (finding.code, finding.where) == ("LOG-EVENT-MISSING", "user.logout of a logout")
    assert finding.seen == "POST /logout answered; no events tell of it (request_id r2)"


def test_an_event_that_is_there_twice_is_told_with_how_often(judged):
    (finding,) = judged(LOGIN, LOGIN, LOGIN, LOGOUT)
    assert (finding.code, finding.count) == ("LOG-EVENT-TWICE", 3)


@pytest.mark.parametrize(
    ("login", "said"),
    [
        (changed(LOGIN, outcome="failure"), "outcome is failure, not success"),
        (changed(LOGIN, actor={"id": "u2"}), "actor.id is u2, not u1"),
        (changed(LOGIN, actor="u1"), "actor.id is absent, not u1"),
        (changed(LOGIN, details={"token": "x"}), "it has details.token"),
    ],
)
def test_an_event_that_says_something_else_is_wrong(judged, login, said):
    (finding,) = judged(login, LOGOUT)
    assert finding.code == "LOG-EVENT-WRONG" and said in finding.seen


def test_a_field_that_does_not_match_is_wrong_and_so_is_what_refers_to_it(judged):
    findings = judged(changed(LOGIN, details={"session": "the session"}), LOGOUT)
    assert [finding.code for finding in findings] == ["LOG-EVENT-WRONG"] * 2
    assert "details.session is the session, and is to match ^[0-9a-f]{4}$" in findings[0].seen
    assert findings[1].seen == "details.session is 0a1b, not the session"


@pytest.mark.parametrize("escaped", [True, False])
def test_a_secret_in_any_line_is_told_by_its_name_and_never_by_its_value(judged, escaped):
    line = json.dumps({"message": f"tried {VARIABLES['password']}"}, ensure_ascii=escaped).encode()
    (finding,) = judged(LOGIN, line, line, LOGOUT)
    assert (finding.code, finding.count, finding.where) == ("LOG-EVENT-DISCLOSES", 2, "web")
    assert "'password'" in finding.seen and VARIABLES["password"] not in finding.seen


def test_a_product_that_calls_fields_otherwise_is_understood(judged):
    names = {"event_type": "kind", "request_id": "http.request"}
    renamed = [
        {"kind": event["event_type"], "http": {"request": event["request_id"]}, **event} for event in (LOGIN, LOGOUT)
    ]
    assert judged(*renamed, names=names) == []
    assert {finding.code for finding in judged(LOGIN, LOGOUT, names=names)} == {"LOG-EVENT-MISSING"}


def test_the_reference_steps_provoke_every_event_that_the_guides_name():
    assert set(read_plan(REFERENCE_STEPS).types) >= NAMED_BY_THE_GUIDES


def test_the_reference_steps_look_for_every_secret_that_they_use():
    plan = read_plan(REFERENCE_STEPS)
    assert {name for step in plan.steps for name in step.secret} | {"api_key", "assertion", "tried"} <= set(plan.never)


def test_the_reference_steps_look_for_what_a_redaction_takes_out():
    plan = read_plan(REFERENCE_STEPS)
    assert {"address", "telephone"} <= set(plan.never)
    assert all("{" + name + "}" in plan.variables["document"] for name in ("address", "telephone"))


def test_the_reference_steps_hold_every_request_against_the_address_it_came_from():
    events = [event for of_step in read_plan(REFERENCE_STEPS).events for event in of_step]
    of_requests = [event for event in events if "request_id" in event.match]
    assert of_requests
    assert all(event.fields["source.ip"] == "{client_ip}" for event in of_requests)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step = [", "file of steps"),
        ("steps = []", "unknown key 'steps'"),
        ("", "no steps"),
        (STEPS.replace('type = "user.login"', ""), "step 1: an event without type and match"),
        (STEPS.replace("without =", "lacks ="), "step 1: unknown key 'lacks'"),
        (STEPS.replace("^[0-9a-f]{4}$", "("), "matches"),
        ("within = 5\n" + STEPS, "within is no duration"),
    ],
)
def test_a_wrong_file_is_told_by_its_place(tmp_path, text, said):
    path = tmp_path / "steps.toml"
    path.write_text(text)
    with pytest.raises(UsageProblem) as caught:
        read_plan(path)
    assert said in str(caught.value)


def test_a_secret_so_short_that_chance_would_find_it_is_refused(tmp_path):
    path = tmp_path / "steps.toml"
    path.write_text(STEPS)
    plan = read_plan(path)
    answered = [Answered(step=step, variables={"password": "abc", "request_id": "r"}) for step in plan.steps]
    with pytest.raises(UsageProblem, match="a value of 3 characters"):
        EventSearch(plan, answered, {})

import json

import pytest

from checks.audit_events import EventSearch, read_plan
from checks.conformance.registry import every_check
from checks.whole_logs import CHUNK, Log, search_events, search_secrets
from fixtures.http_steps import Answered

SECRETS = {"the key": "a-key-of-the-database"}
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
"""
LOGIN = json.dumps({"event_type": "user.login", "request_id": "r1"})


@pytest.fixture
def log(tmp_path):
    """Write a file, and say where a look at it begins."""

    def write(content, *, begin=0, name="stderr of web"):
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.err"
        path.write_bytes(content)
        return Log(name=name, path=path, begin=begin)

    return write


def found_events(tmp_path, *logs):
    path = tmp_path / "steps.toml"
    path.write_text(STEPS)
    plan = read_plan(path)
    answered = [Answered(step=plan.steps[0], variables={"request_id": "r1", "password": "what was tried"})]
    search = EventSearch(plan, answered, {})
    search_events(logs, search)
    return [finding.code for finding in search.findings()]


def test_a_secret_in_any_file_is_told_by_name_line_and_file_and_never_by_its_value(log):
    findings, size = search_secrets([log(b"a\nb\n"), log(b"x\ny a-key-of-the-database\n")], SECRETS)
    (finding,) = findings
    assert (finding.code, finding.where, finding.count, size) == ("LOG-SECRET", "stderr of web", 1, 30)
    assert finding.seen == "the key stands in it, first in line 2 of 1.err"


def test_a_secret_across_the_edge_of_two_chunks_is_found(log):
    assert search_secrets([log(b"x" * (CHUNK - 5) + b"a-key-of-the-database")], SECRETS)[0]


def test_what_was_written_before_the_look_began_is_not_looked_at(log):
    before = b"a-key-of-the-database\n"
    assert search_secrets([log(before + b"nothing\n", begin=len(before))], SECRETS) == ([], 8)


def test_an_event_told_again_in_another_file_is_told_twice(log, tmp_path):
    line = LOGIN.encode()
    assert found_events(tmp_path, log(line + b"\n"), log(b"x\n")) == []
    assert found_events(tmp_path, log(line + b"\n"), log(b"x\n" + line)) == ["LOG-EVENT-TWICE"]


def test_what_must_not_be_told_is_found_in_a_line_that_is_no_event_too(log, tmp_path):
    assert found_events(tmp_path, log(LOGIN.encode()), log(b"what was tried")) == ["LOG-EVENT-DISCLOSES"]


def test_the_check_of_whole_logs_comes_after_all_others():
    assert [*every_check()][-1] == "whole_logs-nothing_written_in_the_whole_run_tells_a_secret"

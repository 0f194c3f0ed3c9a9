"""The validator of a log: each code by the least that shows it, wherever the chunks are cut."""

import base64
import contextlib
import datetime
import hashlib
import json
import urllib.parse

import pytest

from benchmarks.audit_lines import GENESIS, whole_lines
from checks.audit_rules import rules_of
from checks.audit_secrets import planted_secrets
from checks.audit_stream import CODES, AuditStream
from fixtures.log_settings import LogSettings

SECRETS = {"SIGNING_KEY": 'pa"ss/wo\\rd-é-7', "API key": "k-0123456789"}
OTHER = b'{"time":"2026-11-23T03:33:23.123456+00:00","level":"info","message":"up"}'
NOW = datetime.datetime.fromisoformat("2026-11-23T03:33:23.123456+00:00").timestamp()


@pytest.fixture
def codes(tmp_path):
    """What is found in these bytes, counted by code."""

    def look(log, *, size=0, live=False, whole=True, read_at=NOW, **settings):
        stream = AuditStream(
            rules_of(LogSettings(**settings)), secrets=SECRETS, directory=tmp_path / "ids", whole=whole
        )
        with contextlib.closing(stream):
            for begin in range(0, len(log), size or max(1, len(log))):
                stream.feed(log[begin : begin + (size or len(log))], read_at=read_at, live=live)
            stream.finish()
            return {finding.code: finding.count for finding in stream.findings()}

    return look


def log(lines):
    return b"".join(line + b"\n" for line in lines)


def lines(count=6, writers=1):
    return list(whole_lines(count, writers=writers))


def changed(line, **fields):
    """The event with other fields, as its writer would have written it."""
    event = {key: value for key, value in (json.loads(line) | fields).items() if value is not ...}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def rechained(events, **fields):
    """These events, each with other fields and chained to the one before it as it is now."""
    made = []
    for event in events:
        before = hashlib.sha256(made[-1]).hexdigest() if made else GENESIS
        made.append(changed(event, prev_hash=before, **fields))
    return made


@pytest.mark.parametrize("size", [1, 7, 333, 650, 4096, 0])
def test_whole_lines_are_silent_wherever_they_are_cut(codes, size):
    assert codes(log([OTHER, *lines(12, writers=3)]), size=size) == {}


SPOILT = {
    "not UTF-8": (lambda line: line.replace(b"success", b"succ\xffess"), "LOG-NOT-UTF-8"),
    "NUL": (lambda line: line + b"\0", "LOG-NUL"),
    "CR LF": (lambda line: line + b"\r", "LOG-CRLF"),
    "a stack trace": (lambda line: b"Traceback (most recent call last):\n" + line, "LOG-NOT-JSON"),
    "an empty line": (lambda line: b"\n" + line, "LOG-NOT-JSON"),
    "a list": (lambda line: b"[]\n" + line, "LOG-NOT-OBJECT"),
    "too long": (lambda line: changed(line, details={"a": "b" * 5000}), "LOG-LINE-TOO-LONG"),
    "too deep": (lambda line: changed(line, details={"a": [[[[[[[[[[]]]]]]]]]]}), "LOG-TOO-DEEP"),
    "a field missing": (lambda line: changed(line, outcome=...), "LOG-SCHEMA"),
    "no offset": (lambda line: changed(line, time="2026-11-23T03:33:23"), "LOG-TIME-NO-OFFSET"),
    "off the clock": (lambda line: changed(line, time="2026-11-23T03:33:33Z"), "LOG-TIME-SKEW"),
    "another digest": (lambda line: changed(line, prev_hash="f" * 64), "LOG-CHAIN-BROKEN"),
    "begun anew": (lambda line: changed(line, prev_hash=GENESIS), "LOG-CHAIN-BROKEN"),
    "no digest": (lambda line: changed(line, prev_hash=...), "LOG-CHAIN-BROKEN"),
    "a key twice": (lambda line: line.replace(b'"outcome"', b'"outcome":"failure","outcome"'), "LOG-DUPLICATE-KEY"),
    "a key twice in other spelling": (
        lambda line: line.replace(b'"ip"', b'"\\u0069p":"::1","ip"'),
        "LOG-DUPLICATE-KEY",
    ),
    "a secret": (lambda line: changed(line, request_id="k-0123456789"), "LOG-SECRET"),
}


@pytest.mark.parametrize("size", [1, 64, 0])
@pytest.mark.parametrize("spoilt", SPOILT)
def test_one_spoilt_line_at_the_end_is_found_by_its_code_alone(codes, spoilt, size):
    *before, last = lines()
    spoil, code = SPOILT[spoilt]
    assert codes(log([*before, spoil(last)]), size=size, longest_line=4000, deepest=9) == {code: 1}


def test_every_code_has_a_remedy_and_is_silent_over_nothing(codes):
    assert codes(b"") == {}
    assert len(CODES) == 17


def test_a_last_line_without_its_end_is_cut_short(codes):
    assert codes(log(lines()) + OTHER[:30]) == {"LOG-LINE-CUT": 1}
    assert codes(OTHER) == {"LOG-LINE-CUT": 1}


def test_a_line_as_long_as_allowed_is_allowed_and_one_byte_more_is_not(codes):
    line = OTHER[:-2] + b"x" * (1000 - len(OTHER)) + b'"}'
    assert codes(log([line]), longest_line=1000) == codes(log([line]), longest_line=1000, size=13) == {}
    assert (
        codes(log([line]), longest_line=999)
        == codes(log([line]), longest_line=999, size=13)
        == {"LOG-LINE-TOO-LONG": 1}
    )


def test_missing_numbers_are_counted_and_not_told_again_as_a_broken_chain(codes):
    whole = lines(10)
    assert codes(log(whole[:3] + whole[7:])) == {"LOG-SEQ-GAP": 1}
    assert codes(log(whole[2:])) == {"LOG-SEQ-GAP": 1}
    assert codes(log(whole[2:]), whole=False) == {}


def test_a_line_delivered_twice_is_told_by_its_number_and_its_id(codes):
    first, second, third = lines(3)
    assert codes(log([first, second, second, third])) == {"LOG-SEQ-BACK": 1, "LOG-EVENT-ID-REPEATED": 1}


def test_an_id_is_the_same_in_capitals(codes):
    first, second = lines(2)
    second = changed(second, event_id=json.loads(first)["event_id"].upper())
    assert codes(log([first, second])) == {"LOG-EVENT-ID-REPEATED": 1}


def test_a_new_process_is_a_new_writer_that_begins_its_chain_openly(codes):
    assert codes(log([*lines(3), *whole_lines(3, writers=1, seed=9)])) == {}


def test_writers_without_an_instance_are_told_apart_by_name_and_host(codes):
    service = {"name": "web", "version": "1", "host": "a"}
    first = rechained(lines(3), service=service)
    second = rechained(whole_lines(3, writers=1, seed=9), service=service | {"host": "b"})
    third = rechained(whole_lines(3, writers=1, seed=10), service=service)
    assert codes(log(first + second)) == {}
    assert codes(log(first + third)) == {"LOG-SEQ-BACK": 1}


def test_a_product_without_a_chain_is_not_asked_for_one(codes):
    assert codes(log(changed(line, prev_hash=...) for line in lines())) == {}


def test_a_line_altered_after_it_was_written_breaks_the_chain_at_the_next(codes):
    whole = lines()
    whole[2] = whole[2].replace(b"success", b"failure")
    assert codes(log(whole)) == {"LOG-CHAIN-BROKEN": 1}


def test_crlf_leaves_the_chain_whole(codes):
    assert codes(log(line + b"\r" for line in lines(4))) == {"LOG-CRLF": 4}


@pytest.mark.parametrize(("ahead", "live", "found"), [
    (-1.9, True, False), (1.9, True, False), (2.1, True, True), (-2.1, True, True), (-1e6, False, False),
    (2.1, False, True),
])  # fmt: skip
def test_a_time_is_held_against_when_the_line_was_read(codes, ahead, live, found):
    assert codes(log([OTHER]), read_at=NOW - ahead, live=live) == ({"LOG-TIME-SKEW": 1} if found else {})


@pytest.mark.parametrize(
    "time", ["Z", "2026", "yesterday", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", ""]
)
def test_a_time_that_is_none_is_for_the_schema_to_say(codes, time):
    assert set(codes(log([changed(line, time=time, prev_hash=...) for line in lines(1)]))) <= {
        "LOG-SCHEMA", "LOG-TIME-SKEW", "LOG-TIME-NO-OFFSET"
    }  # fmt: skip


SPELT = {
    "plain": lambda secret: secret.replace("\\", "\\\\").replace('"', '\\"'),
    "ascii": lambda secret: json.dumps(secret)[1:-1],
    "percent": lambda secret: urllib.parse.quote(secret, safe=""),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "every character escaped": lambda secret: "".join(f"\\u{ord(each):04x}" for each in secret),
}


@pytest.mark.parametrize("size", [1, 5, 0])
@pytest.mark.parametrize("spelt", SPELT)
def test_a_secret_is_found_however_it_is_spelt(codes, spelt, size):
    line = OTHER.replace(b'"up"', b'"' + SPELT[spelt](SECRETS["SIGNING_KEY"]).encode() + b'"')
    assert codes(log([OTHER, line, OTHER]), size=size) == {"LOG-SECRET": 1}


def test_a_secret_is_found_in_what_is_no_json_and_in_a_line_too_long(codes):
    found = codes(b"oops k-0123456789 oops\n" + b"x" * 5000 + b"k-0123456789" + b"x" * 5000, size=100, longest_line=100)
    assert found == {"LOG-NOT-JSON": 1, "LOG-SECRET": 2, "LOG-LINE-CUT": 1}


def test_a_finding_tells_place_and_name_of_a_secret_and_not_its_value(tmp_path):
    stream = AuditStream(rules_of(LogSettings()), secrets=SECRETS, directory=tmp_path / "ids", name="log of web")
    stream.feed(log([OTHER, OTHER.replace(b"up", b"k-0123456789")]), read_at=NOW)
    (finding,) = stream.findings()
    assert (finding.where, "line 2: API key" in finding.seen, "0123" in finding.seen) == ("log of web", True, False)


def test_secrets_are_told_from_other_values_by_name_and_passwords_within_urls():
    found = planted_secrets({
        "DATABASE_URL": "postgresql://web:s%20ecret-1@db/x", "OCR_URL": "http://ocr:5001", "BUCKET": "documents",
        "SESSION_SIGNING_KEY": "abcdefgh", "API_TOKEN": "short", "BROKEN_URL": "http://[::1",
    })  # fmt: skip
    assert found == {"password in DATABASE_URL": "s ecret-1", "SESSION_SIGNING_KEY": "abcdefgh"}

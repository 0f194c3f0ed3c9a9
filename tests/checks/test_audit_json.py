"""Reading a line strictly and fast: the same as a slow reader that looks at everything."""

import json
import random

import pytest

from benchmarks.audit_lines import hostile_lines, whole_lines
from checks.audit_json import BadLine, read_object, repeated_key

DEEPEST = 32


class Repeated(Exception):
    pass


def no_constant(text):
    raise ValueError(text)


def plainly(line):
    """What Python's own reader makes of a line, refusing what is no JSON; or the exception's type."""
    try:
        value = json.loads(line.decode(), parse_constant=no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError):
        return "bad"
    return value if isinstance(value, dict) else "no object"


def ours(line):
    try:
        return read_object(line, deepest=DEEPEST)[0]
    except BadLine as bad:
        return "no object" if bad.code == "LOG-NOT-OBJECT" else "bad"


def test_thousands_of_spoilt_lines_are_read_as_by_pythons_own_reader():
    read = 0
    for line in hostile_lines(3000, seed=2):
        expected = plainly(line)
        if b"[" * 33 in line or b'{"a":' * 33 in line or b"1e999" in line:
            continue  # our bound on nesting, and a number that others read as infinite
        assert ours(line) == expected, line
        read += expected not in ("bad", "no object")
    assert read > 500


def object_of(generator, depth=0):
    """The text of an object with keys that come twice now and then, in every spelling."""
    members = []
    for _ in range(generator.randint(0, 4)):
        key = generator.choice(['"a"', '"\\u0061"', '"b"', '"a\\":"', '": "', '"é"', '"\\u00e9"', '""'])
        value = generator.choice(['"x"', '": "', '"\\":"', "1", "null", '"a :"', "[]", '["\\":", {"a":1}]'])
        if depth < 3 and generator.random() < 0.4:
            value = object_of(generator, depth + 1)
            value = f"[{value},{value}]" if generator.random() < 0.3 else value
        members.append(key + generator.choice([":", " :", ": ", "\t:", " : "]) + value)
    return "{" + generator.choice([",", ", ", "\t,"]).join(members) + "}"


def test_keys_that_stand_twice_are_seen_exactly_however_they_are_spelt():
    generator, twice = random.Random(3), 0
    for _ in range(5000):
        line = object_of(generator).encode()
        expected = repeated_key(line)
        assert read_object(line, deepest=DEEPEST)[1] == expected, line
        twice += bool(expected)
    assert 500 < twice < 4500


def test_no_whole_line_holds_a_key_twice():
    assert not any(read_object(line, deepest=DEEPEST)[1] for line in whole_lines(200))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "LOG-NOT-JSON"),
        (b"starting up", "LOG-NOT-JSON"),
        (b'{"a":1', "LOG-NOT-JSON"),
        (b'{"a":1}{"a":1}', "LOG-NOT-JSON"),
        (b'{"a":NaN}', "LOG-NOT-JSON"),
        (b'{"a":"\\ud800"}', "LOG-NOT-JSON"),
        (b'\xef\xbb\xbf{"a":1}', "LOG-NOT-JSON"),
        (b'{"a":"\x1f"}', "LOG-NOT-JSON"),
        (b'{"a":"\xff"}', "LOG-NOT-UTF-8"),
        (b'{"a":"\xc0\x80"}', "LOG-NOT-UTF-8"),
        (b'{"a":1}\0', "LOG-NUL"),
        (b"\0" * 1000, "LOG-NUL"),
        (b"[1]", "LOG-NOT-OBJECT"),
        (b"null", "LOG-NOT-OBJECT"),
        (b'"text"', "LOG-NOT-OBJECT"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "LOG-TOO-DEEP"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "LOG-TOO-DEEP"),
        (b"[" * 200_000, "LOG-TOO-DEEP"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:20],
)
def test_a_line_that_holds_no_object_is_refused_by_its_code(line, code):
    with pytest.raises(BadLine) as refused:
        read_object(line, deepest=DEEPEST)
    assert refused.value.code == code


def test_brackets_within_strings_are_no_nesting():
    with pytest.raises(BadLine, match="malformed") as refused:
        read_object(b'{"a":"' + b"[" * 100 + b'" 1}', deepest=DEEPEST)
    assert refused.value.code == "LOG-NOT-JSON"


def test_nesting_up_to_the_bound_is_allowed():
    line = b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST
    assert read_object(line, deepest=DEEPEST)[1] == ""


def test_a_message_repeats_nothing_of_the_line():
    with pytest.raises(BadLine) as refused:
        read_object(b'{"password":"hunter2-hunter2" oops}', deepest=DEEPEST)
    assert "hunter2" not in refused.value.seen

"""The vocabulary's promises that evidence rests on."""

import json

import pytest
import rfc8785

from reports.records import (
    Clock,
    Journal,
    Redactor,
    UsageProblem,
    Verdict,
    canonical,
    format_duration,
    parse_duration,
    read_journal,
)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"b": 1, "a": [True, False, None, -5, 2**53 - 1], "B": {"z": "", "a": "x"}},
        {"text": 'quotes " and \\ and / and \b\f\n\r\t', "low": "\x00\x01\x1f\x7f", "high": "é µ € 𝄞 \u2028 \u202e"},
        ["</script>", {"_": 0, "-": 1, "10": 2, "9": 3, "~": 4, " ": 5}],
    ],
)
def test_canonical_is_what_rfc8785_says(value):
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [1.5, {"a": [0.0]}, {"é": 1}, {1: 2}])
def test_canonical_refuses_what_it_cannot_promise(value):
    with pytest.raises(TypeError):
        canonical(value)


def test_canonical_refuses_integers_that_other_readers_round():
    with pytest.raises(ValueError, match="beyond"):
        canonical({"n": 2**53})


@pytest.fixture
def journal(tmp_path):
    redactor = Redactor()
    redactor.learn("correct horse")
    written = Journal(tmp_path / "journal.jsonl", clock=Clock.start(), redactor=redactor)
    for number in range(5):
        written.write("probe", seen=f"the correct horse {number}")
    written.close()
    return written.path


def test_a_journal_reads_back_without_the_secret(journal):
    assert [event["seen"] for event in read_journal(journal)] == [f"the [redacted] {n}" for n in range(5)]


def _altered(lines):
    lines[2] = lines[2].replace("[redacted] 2", "[redacted] 3")


def _dropped(lines):
    del lines[2]


def _moved(lines):
    lines[1], lines[2] = lines[2], lines[1]


def _added(lines):
    event = json.loads(lines[2])
    lines.insert(3, json.dumps(event | {"n": 3}))


@pytest.mark.parametrize("tamper", [_altered, _dropped, _moved, _added])
def test_tampering_breaks_the_chain(journal, tamper):
    lines = journal.read_text().splitlines()
    tamper(lines)
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageProblem, match="chain of digests is broken"):
        read_journal(journal)


def test_a_last_line_cut_short_by_a_kill_is_left_out(journal):
    journal.write_bytes(journal.read_bytes()[:-7])
    assert len(read_journal(journal)) == 4


def test_the_worst_verdict_wins_and_of_nothing_it_is_error():
    assert Verdict.worst([Verdict.PASSED, Verdict.NO_TARGET, Verdict.FAILED]) is Verdict.FAILED
    assert Verdict.worst([]) is Verdict.ERROR


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("1ms", 10**6), ("1h 30min", 5_400 * 10**9), ("1.5 s", 1_500 * 10**6)]
)
def test_durations_are_read(text, nanoseconds):
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "15", "15 parsecs", "-1s", "1s 2"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["120d", "9" * 400 + "h", "104d 9h", "9007199254740992ns", "0.1d " * 10 + "200d"])
def test_a_duration_that_no_journal_could_hold_is_refused_with_the_longest_there_is(text):
    with pytest.raises(ValueError, match="at most 104 days"):
        parse_duration(text)


def test_the_longest_durations_and_texts_of_any_length_are_no_trap():
    assert parse_duration("104d") < parse_duration("9007199254740991ns") == 2**53 - 1
    for text in ("9" * 100_000, "9" * 100_000 + "h", "1h" * 50_000, "٣h", "1e400h", "nan s", "inf h"):
        with pytest.raises(ValueError, match="not a duration"):
            parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 s"), (840_000, "840 µs"), (999_600_000, "1 s"), (59_999_000_000, "1 min"), (5_400 * 10**9, "1 h 30 min")],
)
def test_durations_are_written_for_people(nanoseconds, text):
    assert format_duration(nanoseconds) == text

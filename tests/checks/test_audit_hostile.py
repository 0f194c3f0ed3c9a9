"""A stream that means harm: it ends in findings, at flat memory, and never in a crash."""

import contextlib
import itertools
import random
import tracemalloc

import pytest

from benchmarks.audit_lines import SECRETS, hostile_lines, whole_lines
from checks.audit_rules import rules_of
from checks.audit_stream import AuditStream
from checks.audit_writers import MOST_WRITERS, Writers
from fixtures.log_settings import LogSettings

MEGABYTE = 1 << 20
FUZZ = 8000  # a million: python -m benchmarks.audit_stream


@pytest.fixture
def look(tmp_path):
    """The codes found in chunks, and the most memory that was held meanwhile, in bytes."""

    def look(chunks):
        stream = AuditStream(rules_of(LogSettings()), secrets=SECRETS, directory=tmp_path / "ids")
        tracemalloc.start()
        with contextlib.closing(stream):
            for chunk in chunks:
                stream.feed(chunk, read_at=1.8e9)
            stream.finish()
            codes = {finding.code for finding in stream.findings()}
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return codes, peak

    return look


def in_pieces(lines, generator):
    """The lines' bytes, cut anywhere."""
    lines = iter(lines)
    while made := b"".join(line + b"\n" for line in itertools.islice(lines, 50)):
        while made:
            size = generator.choice((77, 1000, 100_000))
            yield made[:size]
            made = made[size:]


def test_fuzz_ends_in_findings_at_flat_memory(look):
    lines, peaks = hostile_lines(FUZZ, seed=5), []
    for count in (FUZZ // 4, FUZZ - FUZZ // 4):
        codes, peak = look(in_pieces(itertools.islice(lines, count), random.Random(6)))
        peaks.append(peak)
        assert {"LOG-NOT-JSON", "LOG-NOT-UTF-8", "LOG-NUL", "LOG-TOO-DEEP", "LOG-DUPLICATE-KEY", "LOG-SECRET"} < codes
    assert max(peaks) < 12 * MEGABYTE


def test_a_line_of_100_megabytes_is_not_held(look):
    piece = b"x" * MEGABYTE
    whole = b"".join(line + b"\n" for line in whole_lines(3))
    codes, peak = look([whole, *itertools.repeat(piece, 100), b"\n", whole.replace(b"x", b"y")])
    assert "LOG-LINE-TOO-LONG" in codes
    assert peak < 8 * MEGABYTE


@pytest.mark.parametrize("piece", [b"\0" * MEGABYTE, b"[" * MEGABYTE, b"\xff" * MEGABYTE, b'{"a":' * 200_000])
def test_nothing_but_rubbish_without_a_line_feed_is_one_line_cut_short(look, piece):
    codes, peak = look(itertools.repeat(piece, 8))
    assert codes == {"LOG-LINE-CUT"}
    assert peak < 8 * MEGABYTE


def test_lines_just_within_the_bound_are_read(look):
    deep = b'{"a":' + b"[" * (MEGABYTE - 10)
    codes, _ = look([deep + b"\n", b'{"level":"' + b'\\"' * 500_000 + b'"}\n', b"\xff" * MEGABYTE + b"\n"])
    assert {"LOG-TOO-DEEP", "LOG-NOT-UTF-8", "LOG-SCHEMA"} <= codes


def test_line_feeds_alone_are_lines_that_are_not_json(look):
    codes, peak = look(itertools.repeat(b"\n" * 10_000, 5))
    assert codes == {"LOG-NOT-JSON"}
    assert peak < 4 * MEGABYTE


HOSTILE_VALUES = [
    '{"event_id":[1],"seq":{},"time":7,"service":"x","prev_hash":[],"event_type":{}}',
    '{"event_id":"x","seq":' + "9" * 5000 + ',"service":{"instance":"a"}}',
    '{"event_id":"x","seq":-1e308,"time":"' + "9" * 9999 + '","service":{"instance":"a"}}',
    '{"event_id":"\\u0000","seq":true,"time":"2026-11-23T03:33:23+23:59:59.999999","service":{"instance":"a"}}',
    '{"event_id":"' + "-" * 36 + '","seq":1.5,"service":{"name":"\\u0000","host":{}}}',
    '{"time":"0001-01-01T00:00:00+14:00","level":[],"message":{}}',
    '{"":{"":{"":[]}}}',
]


@pytest.mark.parametrize("line", HOSTILE_VALUES, ids=range(len(HOSTILE_VALUES)))
def test_values_of_any_type_and_size_are_judged_and_not_tripped_over(look, line):
    look([line.encode() + b"\n"] * 3)


def test_writers_without_end_whose_lines_are_long_are_not_held(look):
    tail = b'"},"x":"' + b"y" * 50_000 + b'"}\n'
    _, peak = look(b'{"service":{"instance":"' + str(number).encode() + tail for number in range(500))
    assert peak < 4 * MEGABYTE


def test_only_so_many_writers_are_remembered_and_a_forgotten_one_is_not_accused():
    said = []
    writers = Writers(whole=True, say=lambda *finding: said.append(finding))
    for number in range(MOST_WRITERS + 1):
        writers.follow(f"writer {number}", 1, None, b"", number)
    writers.follow("writer 0", 2, None, b"", 0)
    assert (said, writers.seen) == ([], MOST_WRITERS + 2)

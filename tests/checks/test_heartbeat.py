"""What a restored heartbeat tells: how much was lost, and whether what came back ever existed."""

import pytest

from checks.heartbeat import Beat, beats_of, instant_of, judge_beats, judge_pairs, key_of

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
START = 1_790_000_000 * SECOND


def beats(*numbers, token="token-{}", apart=MINUTE):
    return beats_of([Beat(at_ns=START + n * apart, n=n, token=token.format(n)) for n in numbers])


def codes(findings):
    return [(finding.code, finding.count) for finding in findings]


def test_beats_after_the_last_restored_one_are_what_was_lost_and_no_finding():
    findings, counts = judge_beats(beats(1, 2, 3), beats(1, 2, 3, 4, 5), MINUTE)
    assert (findings, counts["lost"], counts["compared"]) == ([], 2, 3)


def test_a_beat_that_is_gone_between_two_that_came_back_is_a_hole():
    findings, counts = judge_beats(beats(1, 2, 5), beats(1, 2, 3, 4, 5, 6), MINUTE)
    assert codes(findings) == [("HEARTBEAT-HOLE", 2)]
    assert beats(3).by_instant[START + 3 * MINUTE].text in findings[0].seen
    assert counts["missed"] == 0


def test_an_outage_of_the_writer_is_counted_and_held_against_nobody():
    findings, counts = judge_beats(beats(1, 2, 7, 8), beats(1, 2, 7, 8, 9), MINUTE)
    assert (findings, counts["missed"]) == ([], 4)


def test_what_either_store_has_forgotten_or_written_since_is_not_compared():
    assert judge_beats(beats(1, 2, 3, 4, 9), beats(3, 4), MINUTE)[0] == []
    assert judge_beats(beats(3, 4), beats(1, 2, 3, 4, 9), MINUTE)[0] == []


def test_beats_that_the_writer_forgets_while_they_are_copied_are_no_holes():
    hour = 60 * MINUTE
    assert judge_beats(beats(0, 40, 41, apart=hour), beats(0, 1, 2, 40, 41, apart=hour), hour)[0] == []
    assert codes(judge_beats(beats(0, 40, 42, apart=hour), beats(0, 40, 41, 42, apart=hour), hour)[0]) == [
        ("HEARTBEAT-HOLE", 1)
    ]


def test_a_beat_with_another_token_and_one_that_was_never_written_are_altered():
    other = beats_of([*beats(1, 3).by_instant.values(), Beat(at_ns=START + 2 * MINUTE, n=2, token="another")])
    assert codes(judge_beats(other, beats(1, 2, 3), MINUTE)[0]) == [("HEARTBEAT-ALTERED", 1)]
    assert codes(judge_beats(beats(1, 2, 3), beats(1, 3), MINUTE)[0]) == [("HEARTBEAT-ALTERED", 1)]


def test_row_and_object_of_one_beat_say_the_same():
    rows = beats(1, 2, 3)
    assert judge_pairs(rows, beats(2, 3, 4)) == ([], {"pairs": 2})
    findings, _ = judge_pairs(rows, beats(2, 3, token="of another deployment {}"))
    assert codes(findings) == [("HEARTBEAT-ALTERED", 2)]
    assert not any("deployment" in finding.seen or "token-" in finding.seen for finding in findings)


def test_an_object_of_which_only_the_key_was_read_is_not_judged_altered():
    keys_only = beats_of([Beat(at_ns=START + MINUTE)])
    assert judge_pairs(beats(1), keys_only)[0] == []


@pytest.mark.parametrize("restored", [None, beats()])
def test_a_heartbeat_that_did_not_come_back_is_absent(restored):
    findings, counts = judge_beats(restored, beats(1, 2), MINUTE)
    assert (codes(findings), counts["lost"]) == ([("HEARTBEAT-ABSENT", 1)], 2)
    assert judge_beats(restored, None, MINUTE)[0] == []


def test_a_hole_is_wider_than_one_interval_and_a_half():
    at = [0, MINUTE, 2 * MINUTE + MINUTE // 2, 4 * MINUTE + 1]
    run = beats_of([Beat(at_ns=START + each, n=n) for n, each in enumerate(at)])
    assert [(one.n, other.n) for one, other in run.holes(MINUTE)] == [(2, 3)]


def test_a_key_tells_the_instant_and_foreign_keys_tell_none():
    at = START + 123_456_000
    assert instant_of(key_of(at)) == at
    for foreign in ("enprivacy-heartbeat/readme.txt", "enprivacy-heartbeat/20269999T999999.000000Z.json", "x.json"):
        assert instant_of(foreign) is None

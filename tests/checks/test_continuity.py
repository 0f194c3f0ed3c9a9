import dataclasses
import json

import pytest

from checks.continuity import StoredEvent, StreamedEvent, check_continuity, streamed_event
from reports.records import GENESIS, Severity


def event(number, *, writer="web/a/old", seq=None, prev="f" * 64):
    return StreamedEvent(
        id=f"e{number}", type="document.uploaded", target=f"d{number}", time=f"2026-01-01T00:00:{number:02d}Z",
        writer=writer, seq=seq or number, prev_hash=prev,
    )  # fmt: skip


BEFORE = [event(number) for number in range(1, 6)]
AFTER = [event(20, writer="web/a/new", seq=1, prev=GENESIS), event(21, writer="web/a/new", seq=2)]
ALL = {each.id: StoredEvent(type=each.type, target=each.target) for each in BEFORE}
LATER = {"e9": StoredEvent(type="user.login", target="web")}


def check(*, before=BEFORE, after=AFTER, stored=ALL, stored_before=None, acknowledged=None):
    return check_continuity(
        before=before, after=after, stored=stored, stored_before=stored_before or {}, acknowledged=acknowledged or {}
    )


def codes(continuity):
    return [finding.code for finding in continuity.findings]


def test_a_restore_that_lost_nothing_finds_nothing():
    made = check(stored_before=ALL, acknowledged={"d1": "upload", "d5": "upload"})
    assert made.findings == []
    assert made.counts["of them in the store"] == 5 and made.counts["of them lost in the store"] == 0


def test_what_the_store_lost_is_what_the_restore_costs_and_is_counted():
    made = check(stored={id_: ALL[id_] for id_ in ("e1", "e2")})
    assert (made.findings, made.counts["of them lost in the store"]) == ([], 3)


def test_an_event_that_only_the_database_held_and_lost_is_in_neither():
    made = check(stored_before=LATER)
    assert codes(made) == ["AUDIT-TRAIL-LOST"] and made.findings[0].kind.severity is Severity.FAILURE


@pytest.mark.parametrize("looked", [LATER, {}])
def test_an_event_that_only_the_database_holds_is_what_the_stream_lacks(looked):
    assert codes(check(stored=ALL | LATER, stored_before=looked)) == ["AUDIT-STREAM-LACKS"]


def test_an_acknowledged_action_that_only_the_database_tells_of_is_not_lost():
    assert codes(check(stored=ALL | LATER, acknowledged={"web": "login"})) == ["AUDIT-STREAM-LACKS"]


def test_an_acknowledged_action_of_which_no_line_told_is_lost():
    made = check(acknowledged={"d1": "upload", "d77": "upload", "d78": "upload"})
    assert codes(made) == ["AUDIT-TRAIL-LOST"] and made.findings[0].count == 2


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (event(20, writer="web/a/old", seq=6), "goes on under the name"),
        (event(20, writer="web/a/new", seq=6), "begins with seq 6"),
        (event(20, writer="web/a/new", seq=1, prev="ab" * 32), "begins with seq 1 and prev_hash abababababab…"),
    ],
)
def test_a_writer_that_does_not_begin_anew_is_found(first, said):
    made = check(after=[first])
    assert codes(made) == ["AUDIT-CHAIN-NOT-ANCHORED"] and said in made.findings[0].seen


def test_a_product_without_a_chain_need_not_anchor_one():
    assert check(after=[dataclasses.replace(event(20, writer="web/a/new", seq=1), prev_hash="")]).findings == []


def test_a_line_becomes_an_event_and_other_lines_none():
    row = {
        "event_id": "e", "event_type": "user.login", "seq": 3, "time": "t", "target": {"id": "d"}, "prev_hash": "p",
        "service": {"name": "web", "host": "h", "instance": "i"},
    }  # fmt: skip
    made = streamed_event(json.dumps(row).encode(), {})
    assert made == StreamedEvent(
        id="e", type="user.login", target="d", time="t", writer="web/h/i", seq=3, prev_hash="p"
    )  # fmt: skip
    assert [streamed_event(line, {}) for line in (b"text", b"[1]", b"7", b'{"message": "x"}')] == [None] * 4
    assert streamed_event(b'{"id": "e", "kind": "k"}', {"event_id": "id", "event_type": "kind"}).id == "e"

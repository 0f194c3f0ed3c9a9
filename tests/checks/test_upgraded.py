"""What an upgrade may change and what not: by names and digests, without a server."""

import pytest

from checks.contents import TableDigest
from checks.snapshot import SequencePosition
from checks.upgraded import Allowed, judge_restructured, judge_rows, judge_sequences, judge_structure, kept_columns

NOTHING = Allowed(renamed={}, may_change=())
BEFORE = {"app.users": ["id", "name"], "app.keys": ["id", "key"]}


def rows(count, digest="a"):
    return TableDigest(rows=count, digest=digest)


def codes(findings):
    return [finding.code for finding in findings]


def test_new_tables_and_columns_are_the_upgrades_own():
    kept = kept_columns(BEFORE, BEFORE | {"app.users": ["id", "name", "age"], "app.new": ["id"]}, NOTHING)
    assert (kept.before, kept.after, kept.gone) == (BEFORE, BEFORE, [])


def test_a_renamed_column_is_compared_under_its_new_name():
    allowed = Allowed(renamed={"app.users.name": "full_name"}, may_change=())
    kept = kept_columns(BEFORE, BEFORE | {"app.users": ["full_name", "id"]}, allowed)
    assert (kept.before["app.users"], kept.after["app.users"], kept.gone) == (["id", "name"], ["id", "full_name"], [])


def test_a_table_or_column_that_is_gone_is_found_unless_it_may_go():
    kept = kept_columns(BEFORE, {"app.users": ["id"]}, NOTHING)
    assert kept.gone == ["app.users.name", "app.keys"]
    (finding,) = judge_rows({}, {}, kept)
    assert (finding.code, finding.count) == ("UPGRADE-DROPS-DATA", 2)
    allowed = Allowed(renamed={}, may_change=("app.users.name", "app.keys"))
    assert kept_columns(BEFORE, {"app.users": ["id"]}, allowed).gone == []


@pytest.mark.parametrize(
    ("after", "code"),
    [(rows(2), "UPGRADE-LOSES-ROWS"), (rows(4), "UPGRADE-ALTERS-ROWS"), (rows(3, "b"), "UPGRADE-ALTERS-ROWS")],
)
def test_rows_that_are_fewer_more_or_others_are_found(after, code):
    kept = kept_columns(BEFORE, BEFORE, NOTHING)
    assert codes(judge_rows({"app.users": rows(3)}, {"app.users": after}, kept)) == [code]
    assert judge_rows({"app.users": rows(3)}, {"app.users": rows(3)}, kept) == []


def test_a_sequence_set_back_is_found_and_one_that_is_gone_with_its_column_is_not():
    there = SequencePosition(next=7, increment=1, cycle=False)
    back = SequencePosition(next=6, increment=1, cycle=False)
    assert codes(judge_sequences({"app.s": there}, {"app.s": back})) == ["SEQUENCE-SET-BACK"]
    assert judge_sequences({"app.s": there}, {"app.t": there}) == []


def test_structure_that_is_gone_is_a_notice_and_a_renamed_column_is_none():
    before = {"column": {"app.users.name": "{}"}, "index": {"app.users_name": "{}"}}
    findings, counts = judge_structure(before, {"column": {"app.users.full_name": "{}"}}, NOTHING)
    assert [(each.code, each.count, each.kind.severity) for each in findings] == [
        ("UPGRADE-REMOVES-STRUCTURE", 2, "notice")
    ]
    assert counts == {"catalogue objects kept": 0, "catalogue objects added": 1}
    allowed = Allowed(renamed={"app.users.name": "full_name"}, may_change=())
    assert judge_structure(before, {}, allowed)[0][0].count == 1


def test_a_service_that_migrates_when_it_starts_is_found_and_a_table_that_it_adds_is_none():
    assert codes(judge_restructured(BEFORE, BEFORE | {"app.users": ["id"]})) == ["UPGRADE-DROPS-DATA"]
    assert judge_restructured(BEFORE, BEFORE | {"app.new": ["id"]}) == []


def test_a_table_that_may_grow_may_not_shrink_and_not_change_in_place():
    kept = kept_columns(BEFORE, BEFORE, NOTHING)
    lost, altered = ["UPGRADE-LOSES-ROWS"], ["UPGRADE-ALTERS-ROWS"]
    for after, found in ((rows(4, "b"), []), (rows(2), lost), (rows(3, "b"), altered)):
        assert codes(judge_rows({"app.users": rows(3)}, {"app.users": after}, kept, may_grow=["app.users"])) == found

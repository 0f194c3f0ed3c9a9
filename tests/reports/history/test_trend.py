"""The trend of a figure and the map of what was drilled."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pytest

from reports.heat_map import CANNOT, NEVER, heat_maps
from reports.population import scenarios
from reports.trend import MOST_MARKS, MOST_RUNS, POINT, TIME, _mark, thin, trend

S = 1_000_000_000


def drawn(past, what=TIME):
    (drills,) = scenarios(past.runs()).values()
    return trend(drills, what, "trend")


def words(svg):
    return " ".join(ElementTree.fromstring(str(svg)).itertext())


def test_last_median_and_worst_stand_beside_the_drawing_and_in_its_description(past):
    for days, seconds in ((4, 4), (3, 9), (2, 5), (1, 6)):
        past.add(days, seconds=seconds)
    found = drawn(past)
    told = dict(found.figures)
    assert told["last"] == "6 s, 2026-11-21, passed"
    assert (told["median of those passed"], told["worst of those passed"], told["target"]) == ("5 s", "9 s", "10 s")
    assert all(text in words(found.svg) for text in told.values())


def test_a_failed_and_an_aborted_run_are_marked_by_letter_and_counted_in_words(past):
    past.add(4)
    past.add(3, verdict="failed", seconds=30)
    past.add(2, aborted=True)
    found = drawn(past)
    assert dict(found.figures)["runs"] == "1 passed, 1 failed, 1 aborted"
    assert dict(found.figures)["worst of those passed"] == "4 s"
    letters = re.findall(r'class="strong halo">([A-Z])</text>', str(found.svg))
    assert sorted(letters) == ["A", "F"]
    assert "failed (F): 1" in words(found.svg) and "aborted (A): 1" in words(found.svg)


def test_a_target_is_a_line_on_the_scale_and_words_where_it_is_far_above(past):
    past.add(1)
    assert "target-line" in str(drawn(past).svg)
    past.add(0, drill={"objectives": [{"objective": "rto", "target_ns": 14_400 * S}]})
    past_runs = [each for each in past.runs() if each.drills[0].recovery_time_target_ns == 14_400 * S]
    (drills,) = scenarios(past_runs).values()
    svg = trend(drills, TIME, "trend").svg
    assert "target-line" not in str(svg) and "target 4 h, far above this scale" in words(svg)


def test_a_drill_of_no_time_has_a_scale_of_a_second(past):
    past.add(seconds=0)
    assert ">1 s<" in str(drawn(past).svg)


def test_without_a_target_it_says_so(past):
    past.add(drill={"objectives": []})
    assert dict(drawn(past).figures)["target"] == "no target"
    assert "no target" in words(drawn(past).svg)


def test_a_time_that_is_not_stock_is_marked_in_words(past):
    timing = {"timing": {"stock": False, "label": "NOT STOCK: fast"}}
    past.add(drill={"rebuilt": timing})
    assert dict(drawn(past).figures)["last"].startswith("4 s; timing NOT STOCK")
    assert "timing NOT STOCK: 1" in words(drawn(past).svg)


def test_the_recovery_point_has_a_trend_of_its_own(past):
    past.add()
    assert dict(drawn(past, POINT).figures)["last"].startswith("148 ms")


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_it_can_be_drawn_of_any_number_of_runs(past, runs):
    for days in range(runs):
        past.add(days)
    drills = [pair for found in scenarios(past.runs()).values() for pair in found]
    ElementTree.fromstring(str(trend(drills, TIME, "trend").svg))


def test_many_runs_are_thinned_and_the_worst_of_each_kind_stays(past):
    for days in range(8):
        past.add(days, seconds=4 + days, verdict="failed" if days == 3 else "passed")
    (drills,) = scenarios(past.runs()).values()
    many = [*drills[:-1], *([drills[-1]] * (MOST_RUNS + 50)), *drills]
    found = trend(many, TIME, "trend")
    assert dict(found.figures)["older runs left out"] == f"{len(many) - MOST_RUNS}"
    assert "thinned to at most" in words(found.svg)
    assert dict(found.figures)["worst of those passed"] == "11 s"
    assert len(str(found.svg)) < 20_000


def test_thinning_keeps_every_kind_and_the_worst_figure(past):
    past.add(1)
    past.add(0, seconds=90, verdict="failed")
    quick, wild = (_mark(run, run.drills[0], TIME) for run in past.runs())
    slow = dataclasses.replace(quick, value_ns=80 * S)
    kept = [mark for _, mark in thin([quick] * 700 + [wild, slow] + [quick] * 700)]
    assert len(kept) <= MOST_MARKS
    assert wild in kept and slow in kept


def test_names_are_escaped_and_bounded(past, hostile):
    past.add(drill={"drill": hostile, "disaster": hostile, "methods": {"database": hostile, hostile: "x"}})
    found = drawn(past)
    (coverage,) = heat_maps(past.runs(), "map")
    for text in (str(found.svg), str(coverage.svg), coverage.title):
        assert "<script>" not in text and "\x1b" not in text and "\u202e" not in text
        assert len(text) < 20_000
        assert text is coverage.title or ElementTree.fromstring(text) is not None


def cell(past, method, disaster):
    (found,) = heat_maps(past.runs(), "map")
    return found.cells[method][disaster]


def test_a_cell_tells_the_newest_verdict_and_how_many_passed(past):
    past.add(2)
    past.add(1, verdict="failed")
    found = cell(past, ("database", "pg_dump"), "total loss")
    assert (found.kind, found.passed, found.drilled) == ("failed", 1, 2)


def test_what_was_never_drilled_and_what_cannot_run_here_are_two_things(past):
    remarks = [{"what": "database method pgbackrest", "reason": "not installed"},
               {"what": "disaster page_damaged", "reason": "a cluster"}]  # fmt: skip
    past.add(2, drill={"disaster": "ransomware", "methods": {"database": "basebackup_wal"}}, not_tested=remarks)
    past.add(1)
    assert cell(past, ("database", "pg_dump"), "ransomware").kind == NEVER
    assert cell(past, ("database", "pgbackrest"), "ransomware").kind == CANNOT
    assert cell(past, ("database", "pg_dump"), "page_damaged").kind == CANNOT
    (found,) = heat_maps(past.runs(), "map")
    assert ("database method pgbackrest", "not installed") in found.reasons
    assert "– cannot run here, · never drilled" in words(found.svg)


def test_levels_of_drill_have_a_map_each(past):
    past.add(2)
    past.add(1, drill={"level": "shadow"})
    assert [found.title for found in heat_maps(past.runs(), "map")] == [
        "single-node, restore drills of the stand-in", "single-node, shadow restores of the stand-in"]  # fmt: skip

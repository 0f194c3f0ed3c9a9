"""The recovery time of a failover, from probes of which several were under way at once."""

import types

import pytest

from reports.accounting import Outage
from reports.failover import _objectives, _recovery_time

MS = 1_000_000
STRIKE, BACK = 10_000 * MS, 15_000 * MS
USUAL = (8_000, 8_300, True)


def measured(*probes):
    """Probes as milliseconds from begin to end, and whether they succeeded; the figures in milliseconds."""
    events = [{"kind": "probe", "outcome": "succeeded" if well else "failed", "started_ns": begin * MS,
               "ended_ns": end * MS, "step": "", "seen": ""} for begin, end, well in probes]  # fmt: skip
    events.append({"kind": "probes", "count": len(probes), "failed": sum(not well for *_, well in probes)})
    took = _recovery_time(events, STRIKE, Outage())
    return tuple(took[key] // MS for key in ("lower_ns", "achieved_ns", "upper_ns"))


def test_those_that_were_kept_waiting_tell_how_late_it_was_still_away():
    failed = (10_100, 16_100, False)  # its client gave up when others had long gone through
    waited = [(11_000, 15_210, True), (12_000, 15_200, True), (14_800, 15_220, True)]
    fresh = (15_000, 15_250, True)  # begun later, and no slower than usual
    assert measured(USUAL, failed, *waited, fresh) == (4_800, 5_200, 5_200)


def test_where_none_was_kept_waiting_it_was_away_when_the_last_failed_one_began():
    assert measured(USUAL, (10_100, 10_200, False), (14_000, 14_100, False), (14_100, 14_390, True)) == (
        4_000, 4_390, 4_390,
    )  # fmt: skip


def test_a_machine_that_was_slow_before_the_strike_proves_nothing_by_being_slow():
    assert measured((5_000, 9_500, True), (10_100, 10_200, False), (11_000, 14_000, True)) == (100, 4_000, 4_000)


def test_a_failure_after_a_success_is_what_it_was_recovered_from():
    assert measured(USUAL, (10_100, 10_200, False), (11_000, 11_300, True), (12_000, 12_100, False),
                    (12_500, 12_800, True)) == (2_000, 2_800, 2_800)  # fmt: skip


def test_one_under_way_at_the_strike_may_be_the_last_that_failed():
    assert measured(USUAL, (9_800, 11_000, False), (10_300, 10_900, True))[1] == 900


def test_where_none_failed_it_is_nothing_give_or_take_the_longest_time_between_two():
    assert measured(USUAL, (9_000, 9_300, True), (9_900, 13_900, True), (12_000, 14_000, True)) == (0, 0, 4_600)


@pytest.mark.parametrize(("target", "verdict"), [(4_000, "error"), (5_000, "passed")])
def test_where_none_failed_no_target_is_met_that_is_shorter_than_the_outage_may_have_been(target, verdict):
    objectives = {each: {"target_ns": target * MS, "source": "option"} for each in ("rto", "rpo")}
    opened = {"objectives": objectives, "cluster": {"expects": []}}
    recovered = {"achieved_ns": 0, "upper_ns": 4_600 * MS}
    (rto, findings), _ = _objectives(opened, types.SimpleNamespace(accounting=None), recovered, due=True)
    assert (rto["verdict"], findings) == (verdict, [])

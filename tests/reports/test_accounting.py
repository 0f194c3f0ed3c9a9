"""What became of every write, on ledgers of a handful of lines with the strike at one second."""

import pytest

from reports.accounting import account
from reports.records import UsageProblem

MS = 1_000_000
STRIKE = 1_000 * MS
STEP = 100 * MS


@pytest.fixture
def ledger():
    """Ten writes in channel ``row``, attempted every 100 ms from 0, acknowledged 2 ms later; fates by number."""

    def make(*, lost=(), altered=(), twice=(), unreadable=(), unacknowledged=(), later=(), later_lost=()):
        lines, observed = [], []
        times = [n * STEP for n in range(10)] + [STRIKE + (5 + n) * STEP for n in range(len(later) + len(later_lost))]
        for n, at in enumerate(times):
            gone = n in lost or n - 10 in [len(later) + m for m in range(len(later_lost))]
            lines.append({"event": "attempt", "channel": "row", "n": n, "id": f"w{n}", "sha256": f"d{n}", "t": at})
            event = "failed" if n in unacknowledged else "acknowledged"
            lines.append({"event": event, "channel": "row", "n": n, "t": at + 2 * MS})
            copies = 0 if gone else 2 if n in twice else 1
            sha256 = "x" if n in altered else "" if n in unreadable else f"d{n}"
            observed += [{"channel": "row", "id": f"w{n}", "sha256": sha256}] * copies
        return lines, observed

    return make


def codes(accounting):
    return [finding.code for finding in accounting.findings]


def test_nothing_lost_is_an_rpo_of_zero(ledger):
    accounting = account(*ledger(), STRIKE)
    assert (accounting.rpo_achieved_ns, accounting.lower_bound, codes(accounting)) == (0, False, [])
    assert accounting.channels[0].recovery_point_ns == 902 * MS


def test_the_recovery_point_is_the_last_acknowledgement_of_the_recovered_prefix(ledger):
    accounting = account(*ledger(lost=(7, 8, 9)), STRIKE)
    row = accounting.channels[0]
    assert (row.recovery_point_ns, row.rpo_achieved_ns, row.lost) == (602 * MS, 398 * MS, 3)
    assert (row.lost_cases.first.n, row.lost_cases.last.n) == (7, 9)
    assert codes(accounting) == []


def test_nothing_recovered_is_a_lower_bound_from_the_first_attempt(ledger):
    accounting = account(*ledger(lost=range(10)), STRIKE)
    assert (accounting.rpo_achieved_ns, accounting.lower_bound) == (STRIKE, True)
    assert accounting.channels[0].recovery_point_ns is None


def test_a_recovered_write_after_a_lost_one_is_a_hole(ledger):
    accounting = account(*ledger(lost=(4,)), STRIKE)
    row = accounting.channels[0]
    assert (codes(accounting), row.holes, row.hole_cases.first.n, row.hole_cases.last.n) == (["WRITES-HOLE"], 5, 5, 9)
    assert row.rpo_achieved_ns == STRIKE - 302 * MS


def test_work_done_after_recovery_is_no_hole(ledger):
    assert codes(account(*ledger(lost=(8, 9), later=(1, 2, 3)), STRIKE)) == []


def test_a_write_lost_after_recovery_is_a_finding_and_leaves_the_rpo_alone(ledger):
    accounting = account(*ledger(later=(1,), later_lost=(1, 2)), STRIKE)
    assert (codes(accounting), accounting.rpo_achieved_ns) == (["WRITE-LOST-AFTER-RECOVERY"], 0)
    assert accounting.channels[0].lost_after_recovery == 2


def test_a_write_acknowledged_while_the_disaster_strikes_falls_with_the_deployment(ledger):
    accounting = account(*ledger(later_lost=(1,)), STRIKE, gone_ns=STRIKE + 600 * MS)
    assert (codes(accounting), accounting.channels[0].lost) == ([], 1)


def test_a_write_attempted_before_the_end_and_acknowledged_after_it_is_not_lost_after_recovery(ledger):
    gone = STRIKE + 501 * MS  # between the attempt of the later write and its acknowledgement
    accounting = account(*ledger(later_lost=(1,)), STRIKE, gone_ns=gone)
    row = accounting.channels[0]
    assert (codes(accounting), row.lost, row.lost_after_recovery, row.felt.first_after_ns) == ([], 1, 0, None)


def test_an_altered_write_ends_the_recovered_prefix(ledger):
    accounting = account(*ledger(altered=(9,)), STRIKE)
    assert (codes(accounting), accounting.rpo_achieved_ns) == (["WRITE-ALTERED"], STRIKE - 802 * MS)


def test_an_unacknowledged_write_may_be_there_or_not(ledger):
    for lost in ((), (9,)):
        accounting = account(*ledger(unacknowledged=(9,), lost=lost), STRIKE)
        assert (codes(accounting), accounting.channels[0].indeterminate, accounting.rpo_achieved_ns) == ([], 1, 0)


def test_a_write_found_twice_is_a_finding_and_no_loss(ledger):
    accounting = account(*ledger(twice=(3,)), STRIKE)
    assert (codes(accounting), accounting.rpo_achieved_ns) == (["WRITE-DUPLICATED"], 0)
    assert (accounting.channels[0].duplicated, accounting.channels[0].recovered) == (1, 9)


def test_a_write_nobody_attempted_is_a_phantom(ledger):
    lines, observed = ledger()
    accounting = account(lines, [*observed, {"channel": "row", "id": "stranger", "sha256": "d"}], STRIKE)
    assert (codes(accounting), accounting.channels[0].phantom) == (["WRITE-PHANTOM"], 1)


def test_the_deployments_rpo_is_the_worst_channels(ledger):
    lines, observed = ledger()
    worse, found = ledger(lost=(9,))
    other = [line | {"channel": "api"} for line in [*worse]]
    accounting = account([*lines, *other], [*observed, *(line | {"channel": "api"} for line in found)], STRIKE)
    assert (accounting.worst_channel, accounting.rpo_achieved_ns) == ("api", STRIKE - 802 * MS)


def test_a_channel_without_any_acknowledged_write_leaves_the_rpo_unknown(ledger):
    accounting = account(*ledger(), STRIKE, channels=["row", "object"])
    assert (accounting.worst_channel, accounting.rpo_achieved_ns) == ("object", None)


def test_the_felt_outage_runs_from_the_last_acknowledgement_to_the_first_after_the_disaster(ledger):
    felt = account(*ledger(later=(1, 2)), STRIKE).channels[0].felt
    assert (felt.last_before_ns, felt.first_after_ns, felt.outage_ns) == (902 * MS, 1_502 * MS, 600 * MS)


def test_the_felt_outage_knows_how_long_the_attempts_around_its_end_took(ledger):
    lines, observed = ledger(later=(1, 2), unacknowledged=(10,))
    lines = [line | {"t": STRIKE + 590 * MS} if line["event"] == "failed" else line for line in lines]
    felt = account(lines, observed, STRIKE).channels[0].felt
    assert (felt.first_after_ns, felt.attempts_ns) == (1_602 * MS, 90 * MS + 2 * MS)


def test_what_is_there_and_cannot_be_read_is_lost(ledger):
    accounting = account(*ledger(unreadable=(8, 9)), STRIKE)
    row = accounting.channels[0]
    assert (codes(accounting), row.lost, row.unreadable, row.altered, row.recovered) == ([], 2, 2, 0, 8)
    assert accounting.rpo_achieved_ns == STRIKE - 702 * MS


def test_a_readable_write_after_an_unreadable_one_is_a_hole(ledger):
    accounting = account(*ledger(unreadable=(4,)), STRIKE)
    assert (codes(accounting), accounting.channels[0].holes) == (["WRITES-HOLE"], 5)


def test_an_unreadable_write_that_nobody_acknowledged_may_be_so(ledger):
    accounting = account(*ledger(unreadable=(9,), unacknowledged=(9,)), STRIKE)
    row = accounting.channels[0]
    assert (codes(accounting), row.indeterminate, row.lost, row.unreadable) == ([], 1, 0, 0)


def test_a_write_found_once_whole_and_once_unreadable_is_there_twice(ledger):
    lines, observed = ledger()
    accounting = account(lines, [*observed, {"channel": "row", "id": "w3", "sha256": ""}], STRIKE)
    assert (codes(accounting), accounting.channels[0].lost) == (["WRITE-DUPLICATED"], 0)


SHUT = STRIKE + 1_000 * MS  # of the writes after the strike, ten at 1.5 s to 2.4 s, five come before it


def test_what_was_acknowledged_between_strike_and_shut_may_be_lost(ledger):
    accounting = account(*ledger(later_lost=range(5)), STRIKE, gone_ns=SHUT)
    row = accounting.channels[0]
    assert (codes(accounting), row.lost, row.lost_before_shut, row.lost_after_recovery) == ([], 5, 5, 0)
    assert accounting.rpo_achieved_ns == 0


def test_what_survived_after_the_strike_is_no_hole_beside_what_did_not(ledger):
    lines, observed = ledger(lost=(9,), later=range(5))
    accounting = account(lines, observed, STRIKE, gone_ns=SHUT)
    row = accounting.channels[0]
    assert (codes(accounting), row.lost, row.lost_before_shut, row.holes) == ([], 1, 0, 0)
    assert accounting.rpo_achieved_ns == STRIKE - 802 * MS


def test_what_was_acknowledged_after_the_shut_must_be_there(ledger):
    accounting = account(*ledger(later=range(5), later_lost=range(5)), STRIKE, gone_ns=SHUT)
    row = accounting.channels[0]
    assert (codes(accounting), row.lost_before_shut, row.lost_after_recovery) == (["WRITE-LOST-AFTER-RECOVERY"], 0, 5)


def test_the_felt_outage_of_a_deployment_that_lived_on_begins_at_the_shut(ledger):
    felt = account(*ledger(later=range(7)), STRIKE, gone_ns=SHUT).channels[0].felt
    assert (felt.last_before_ns, felt.first_after_ns, felt.outage_ns) == (1_902 * MS, 2_002 * MS, 100 * MS)


def deletion(n, at):
    line = {"channel": "delete", "n": n, "t": at}
    return [line | {"event": "attempt", "id": f"doc{n}", "sha256": "d"}, line | {"event": "acknowledged", "t": at + 1}]


def test_a_deletion_is_recovered_while_its_document_is_absent_and_lost_when_it_is_back():
    lines = [*deletion(0, 0), *deletion(1, 500 * MS)]
    accounting = account(lines, [{"channel": "delete", "id": "doc0", "sha256": "d"}], STRIKE)
    row = accounting.channels[0]
    assert (codes(accounting), row.recovered, row.lost, row.altered) == ([], 1, 1, 0)
    assert accounting.rpo_achieved_ns == STRIKE - 1


def test_each_channel_has_the_resolution_of_its_own_interval(ledger):
    lines, observed = ledger()
    lines = [*lines, *deletion(0, 0)]
    observed = [*observed, {"channel": "delete", "id": "doc0", "sha256": "d"}]
    accounting = account(lines, observed, STRIKE, interval_ns=STEP, intervals_ns={"delete": 5 * STEP})
    assert [row.resolution_ns for row in accounting.channels] == [STEP, 5 * STEP]
    assert (accounting.worst_channel, accounting.resolution_ns) == ("delete", 5 * STEP)


def test_of_a_loss_the_resolution_is_that_of_the_channel_that_lost_most(ledger):
    lines, observed = ledger(lost=(9,))
    lines, observed = [*lines, *deletion(0, 0)], [*observed, {"channel": "delete", "id": "doc0", "sha256": "d"}]
    accounting = account(lines, observed, STRIKE, interval_ns=STEP, intervals_ns={"delete": 5 * STEP})
    assert (accounting.worst_channel, accounting.resolution_ns) == ("row", STEP)


@pytest.mark.parametrize("extra", [{"event": "acknowledged", "n": 99}, {"event": "attempt", "n": 0, "id": "again"}])
def test_a_ledger_that_no_writer_writes_is_refused(ledger, extra):
    lines, observed = ledger()
    with pytest.raises(UsageProblem, match="channel row"):
        account([*lines, {"channel": "row", "t": 5, "sha256": "d"} | extra], observed, STRIKE)

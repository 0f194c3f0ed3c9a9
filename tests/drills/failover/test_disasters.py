import pytest

from drills.failover import disasters
from drills.failover.contract import USUAL
from drills.failover.scenario import every_outage
from fixtures.cluster import FAST, STOCK
from fixtures.offered import offered

ALL = offered(disasters, "DISASTER")


@pytest.mark.parametrize("name", ALL)
def test_a_disaster_bears_the_name_of_its_file_and_says_what_it_needs(name):
    assert ALL[name].name == name
    assert ALL[name].needs


@pytest.mark.parametrize("name", ALL)
def test_variants_have_names_of_their_own(name):
    names = [variant.name for variant in ALL[name].variants]
    assert len(names) == len(set(names))


def test_a_control_has_a_healthy_twin_of_the_same_disaster():
    """What is found on a cluster that was set up wrong must not be found on one that was not."""
    for disaster in ALL.values():
        expecting = [variant for variant in disaster.variants if variant.expects]
        assert not expecting or len(expecting) < len(disaster.variants)


def test_the_row_has_its_three_negative_controls():
    expected = {code for disaster in ALL.values() for variant in disaster.variants for code in variant.expects}
    assert expected == {"ACKNOWLEDGED-WRITES-LOST", "SPLIT-BRAIN", "NOBODY-PROMOTED"}


def test_what_is_to_do_harm_comes_last():
    expects = [bool(outage.variant.expects) for outage in every_outage("high-availability", ALL)]
    assert expects == sorted(expects)


@pytest.mark.parametrize("name", ["primary_killed", "primary_lost", "primary_frozen"])
def test_on_paper_nobody_leads_before_the_lease_has_run_out(name):
    for timing in (STOCK, FAST):
        floor = ALL[name].floor(timing, USUAL.settings)
        assert floor.low_ns == timing.ttl_ns - timing.loop_wait_ns < floor.high_ns


def test_on_paper_an_agent_that_lives_waits_for_no_lease():
    floor = ALL["postmaster_killed"].floor(STOCK, USUAL.settings)
    assert floor.low_ns == 0 and floor.high_ns < STOCK.ttl_ns

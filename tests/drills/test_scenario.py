import itertools

import pytest

from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import choose, every_scenario


@pytest.fixture(scope="module")
def scenarios():
    return every_scenario("single-node", database_methods(), object_methods(), configuration_methods(), all_disasters())


def tried(scenarios):
    return set().union(*(scenario.tried for scenario in scenarios))


def pairs(scenarios):
    return {pair for each in scenarios for pair in itertools.combinations(sorted(each.tried), 2)}


def test_the_sample_has_every_method_restore_something_and_every_disaster_strike(scenarios):
    sample = choose(scenarios, "sample")
    assert tried(sample) == tried(scenarios)
    assert {name for kind, name in tried(sample) if kind == "disaster"} == set(all_disasters())
    assert {name for kind, name in tried(sample) if kind == "database"} == set(database_methods())
    assert len(sample) == len(all_disasters())


def test_pairwise_tries_every_pair_that_is_possible_with_fewer_drills_than_all(scenarios):
    chosen = choose(scenarios, "pairwise")
    assert pairs(chosen) == pairs(scenarios)
    assert len(chosen) < len(scenarios) / 3


def test_the_full_matrix_is_every_scenario_once(scenarios):
    assert choose(scenarios, "full") == scenarios
    assert len({scenario.id for scenario in scenarios}) == len(scenarios)


def test_the_choice_is_the_same_every_time_and_keeps_the_order(scenarios):
    sample = choose(scenarios, "sample")
    assert sample == choose(scenarios, "sample")
    assert sample == [scenario for scenario in scenarios if scenario in sample]


def test_of_a_narrow_selection_everything_in_it_is_covered(scenarios):
    selected = [scenario for scenario in scenarios if scenario.disaster.name == "total_loss"]
    sample = choose(selected, "sample")
    assert tried(sample) == tried(selected)
    assert len(sample) < len(selected)


@pytest.fixture(scope="module")
def of_a_cluster():
    return every_scenario(
        "high-availability", database_methods(), object_methods(), configuration_methods(), all_disasters()
    )


def test_the_sample_of_a_cluster_loses_all_of_it_with_each_database_method_and_undoes_a_wrong_statement(of_a_cluster):
    sample = choose(of_a_cluster, "sample")
    lost = [scenario.database.name for scenario in sample if scenario.disaster.name == "total_loss"]
    (wrong,) = (scenario for scenario in sample if scenario.disaster.name != "total_loss")
    assert sorted(lost) == sorted(database_methods())
    assert (wrong.disaster.name, wrong.database.basis) == ("wrong_update", "target")
    assert {name for kind, name in tried(sample) if kind == "objects"} == set(object_methods())


def test_another_disaster_strikes_a_cluster_where_nothing_else_was_selected(of_a_cluster):
    selected = [scenario for scenario in of_a_cluster if scenario.disaster.name == "bucket_emptied"]
    assert tried(choose(selected, "sample")) == tried(selected)


def test_nothing_selected_is_nothing_chosen():
    assert choose([], "sample") == choose([], "pairwise") == []


def test_an_operators_own_commands_keep_the_configuration_too(scenarios):
    own = [scenario for scenario in scenarios if scenario.database.name == "command"]
    assert {scenario.configuration.name for scenario in own} == {"command"}
    rest = [scenario for scenario in scenarios if scenario.database.name == "pg_dump"]
    assert {scenario.configuration.name for scenario in rest} == {"age"}

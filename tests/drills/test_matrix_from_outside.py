"""The matrix as a person at a terminal meets it: what is selected, what is left out and why, and what it proves."""

import re
import subprocess
import sys

import pytest

from drills import registry
from drills.contract import Means, NeedsMeans
from drills.scenario import every_scenario


@pytest.fixture(scope="module")
def scenarios():
    """Every scenario there is, by its id."""
    found = every_scenario(
        "single-node",
        registry.database_methods(),
        registry.object_methods(),
        registry.configuration_methods(),
        registry.all_disasters(),
    )
    return {scenario.id: scenario for scenario in found}


def listed(suite, *arguments):
    """The exit code and the ids of the drills that would run; ``-k ""`` selects all."""
    exit_code, output = suite.run(*(() if "-k" in arguments else ("-k", "")), "--collect-only", "-q", *arguments)
    return exit_code, re.findall(r"::test_restore_drill\[(.+)\]$", output, re.MULTILINE)


def tried(scenarios, ids):
    return set().union(*(scenarios[each].tried for each in ids))


# Listing.


def test_the_sample_has_every_disaster_and_every_method_where_it_restores_something(suite, scenarios):
    exit_code, ids = listed(suite)
    assert exit_code == 0
    assert tried(scenarios, ids) == {
        *(("disaster", name) for name in registry.all_disasters()),
        *(("database", name) for name in registry.database_methods()),
        *(("objects", name) for name in registry.object_methods()),
        *(("configuration", name) for name in registry.configuration_methods()),
    }
    assert len(ids) < len(scenarios) / 10


def test_the_full_matrix_lists_every_scenario_and_the_pairwise_one_fewer(suite, scenarios):
    assert listed(suite, "--matrix", "full") == (0, list(scenarios))
    exit_code, ids = listed(suite, "--matrix=pairwise")
    assert exit_code == 0
    assert len(listed(suite)[1]) < len(ids) < len(scenarios)


def test_a_keyword_selects_a_disaster_with_every_method_that_can_restore_it(suite, scenarios):
    exit_code, ids = listed(suite, "-k", "total_loss")
    assert exit_code == 0
    assert {scenarios[each].disaster.name for each in ids} == {"total_loss"}
    possible = [each for each, scenario in scenarios.items() if scenario.disaster.name == "total_loss"]
    assert tried(scenarios, ids) == tried(scenarios, possible)
    assert set(registry.database_methods()) == {scenarios[each].database.name for each in ids}


@pytest.mark.parametrize("name", ["ransomware", "barman", "rclone_crypt", "age"])
def test_every_name_is_a_marker(suite, scenarios, name):
    exit_code, ids = listed(suite, "-m", name, "--matrix=full")
    assert exit_code == 0
    assert ids == [each for each, scenario in scenarios.items() if name in scenario.parts.values()]


def test_listing_makes_nothing(suite):
    assert listed(suite, "-k", "total_loss")[0] == 0
    assert suite.left() == []


# What does not run.


@pytest.mark.parametrize("more", [(), ("--collect-only",)])
def test_a_keyword_that_selects_nothing_ends_with_pytests_own_code(suite, more):
    exit_code, output = suite.run("-k", "no_such_disaster", *more)
    assert exit_code == 5
    assert "Traceback" not in output


def test_an_unknown_matrix_is_refused_with_those_there_are(suite):
    exit_code, output = suite.run("--matrix", "everything")
    assert exit_code == 4
    assert "argument --matrix: invalid choice: 'everything'" in output
    assert all(name in output for name in ("sample", "pairwise", "full"))
    assert "Traceback" not in output
    assert suite.left() == []


def test_a_misspelt_marker_is_refused_and_leaves_nothing(suite):
    exit_code, output = suite.run("-k", "", "-m", "ransomwear")
    assert exit_code == 4
    assert "Unknown marker(s) in '-m' expression: ransomwear" in output
    assert "Traceback" not in output


def test_a_run_of_nothing_but_a_method_that_is_unavailable_proves_nothing_and_says_why(suite):
    exit_code, output = suite.run("-k", "pg_dump-versions-")
    assert exit_code == 1, output
    assert re.search(
        r"^not tested: objects method versions: the bucket keeps no versions: drill one", output, re.MULTILINE
    )
    assert re.search(r"^verdict: +error$", output, re.MULTILINE)
    evidence = suite.evidence()
    assert (evidence["verdict"], evidence["drills"]) == ("error", [])
    assert {
        "what": "objects method versions",
        "reason": "the bucket keeps no versions: drill one whose object server does",
    } in evidence["not_tested"]
    (run,) = suite.runs.glob("*/")
    verified = subprocess.run([sys.executable, "-m", "reports", "verify", run], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr


def test_what_would_be_left_out_can_say_why(tmp_path):
    """Each method that needs something of the machine or the profile is asked before a drill relies on it."""
    asked = [each for each in registry.object_methods().values() if isinstance(each, NeedsMeans)]
    nothing = Means(tools=None, processes=None, commands={}, versioned_bucket=False)
    assert {each.name for each in asked} >= {"command", "versions"}
    assert all(each.unavailable(nothing) for each in asked)


# What does.


def channels(suite):
    (drill,) = suite.evidence()["drills"]
    return {each["channel"]: each for each in drill["recovery_point"]["channels"]}


@pytest.mark.slow
def test_with_a_streamed_log_no_acknowledged_write_is_lost_when_only_the_server_is(suite):
    exit_code, output = suite.run("-k", "basebackup_wal-rclone-data_directory_wiped")
    assert exit_code == 0, output
    found = channels(suite)
    assert set(found) == {"api", "row", "object", "delete"}
    assert {name: each["lost"] for name, each in found.items()} == dict.fromkeys(found, 0)
    assert {name: each["rpo_achieved_ns"] for name, each in found.items()} == dict.fromkeys(found, 0)
    assert all(each["acknowledged_before_strike"] > 0 for each in found.values())
    assert suite.evidence()["drills"][0]["recovery_point"]["achieved_ns"] == 0
    assert suite.evidence()["verdict"] == "passed"


@pytest.mark.slow
def test_a_wrong_update_is_undone_by_going_back_to_the_instant_before_it_at_a_price(suite):
    exit_code, output = suite.run("-k", "basebackup_wal-rclone-wrong_update")
    assert exit_code == 0, output
    (drill,) = suite.evidence()["drills"]
    verdicts = {each["check"]: each["verdict"] for each in drill["checks"]}
    assert verdicts["point in time"] == "passed"
    assert drill["recovery_point"]["achieved_ns"] > 0
    assert channels(suite)["row"]["lost"] > 0
    assert channels(suite)["object"]["lost"] == 0  # the bucket was not touched, so it is not taken back

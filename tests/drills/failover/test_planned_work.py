"""The order of planned work on a cluster that answers at once, and what is said where it shows less than it should."""

from pathlib import Path

import pytest

from drills.failover.contract import USUAL, Struck, one_after_the_other
from drills.failover.disasters import minor_upgrade
from fixtures.cluster import Member
from fixtures.postgres_tools import PostgresTools, same_major
from reports.records import UsageProblem


def programs(version, directory="/one/bin"):
    return PostgresTools(directory=Path(directory), version=version, found="here")


class Node:
    def __init__(self, name):
        self.name, self.database = name, self
        self.tools = programs("17.10")


class Pretend:
    """A cluster of three, of which the second is waited for: what is asked of it, in order, and who led then."""

    def __init__(self, other="17.11"):
        self.nodes, self.leader, self.told, self.other = [Node(f"node{n}") for n in (1, 2, 3)], "node1", [], other
        self.cluster = self

    def members(self):
        waited_for = next(node.name for node in (self.nodes[1], self.nodes[0]) if node.name != self.leader)
        return [Member(node=node.name, role="leader" if node.name == self.leader else "standby",
                       streams=node.name != self.leader, synchronous=node.name == waited_for)
                for node in self.nodes]  # fmt: skip

    def switch_over(self, to):
        self.told.append(("switch over", to))
        self.leader = to

    def other_programs(self):
        return programs(self.other, "/other/bin")

    def upgrade(self, node, given):
        assert node != self.leader
        self.told.append((node, given.version))

    def struck(self):
        first, second, third = self.nodes
        return Struck(deployment=self, variant=USUAL, leader=first, synchronous=second, others=[third])


def test_standbys_go_first_the_one_that_is_waited_for_last_and_no_leader_is_touched():
    cluster, turns = Pretend(), []
    one_after_the_other(cluster.struck(), lambda node: turns.append((node.name, cluster.leader)))
    assert turns == [("node3", "node1"), ("node2", "node1"), ("node1", "node2")]
    assert cluster.told == [("switch over", "node2")]


@pytest.mark.parametrize(("other", "remarks"), [("17.11", 0), ("17.10", 1)])
def test_an_upgrade_to_the_same_version_says_that_no_other_was_tried(other, remarks):
    cluster = Pretend(other)
    struck = cluster.struck()
    minor_upgrade.DISASTER.strike(struck)
    assert cluster.told == [("node3", other), ("node2", other), ("switch over", "node2"), ("node1", other)]
    assert len(struck.not_tested) == remarks
    assert all("only 17.10 is here" in each["reason"] for each in struck.not_tested)


def test_another_major_is_no_minor_upgrade():
    assert same_major(programs("17.11"), programs("17.10")).version == "17.11"
    with pytest.raises(UsageProblem, match=r"PostgreSQL 18\.1, though the cluster has 17\.10"):
        same_major(programs("18.1"), programs("17.10"))

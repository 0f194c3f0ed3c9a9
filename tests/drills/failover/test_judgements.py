import dataclasses

import pytest

from checks.contents import TableDigest
from checks.database import Fingerprint
from checks.snapshot import SequencePosition
from drills.failover.leadership import led_wrongly
from drills.failover.standbys import differences
from drills.redundancy import await_redundancy, missing
from fixtures.cluster import ClusterSettings, Member, fully_redundant
from reports.records import Clock, Journal, Redactor

LEADER = Member(node="node1", role="leader", timeline=2)
WAITED_FOR = Member(node="node2", role="standby", timeline=2, streams=True, synchronous=True, state="streaming")
OTHER = dataclasses.replace(WAITED_FOR, node="node3", synchronous=False)
WHOLE = [LEADER, WAITED_FOR, OTHER]
SYNCHRONOUS = ClusterSettings()


def codes(findings):
    return [finding.code for finding in findings]


def test_a_cluster_is_whole_where_all_stream_and_one_is_waited_for():
    assert fully_redundant(WHOLE, SYNCHRONOUS)
    assert missing(WHOLE, SYNCHRONOUS, seconds=1) == []


@pytest.mark.parametrize(
    "members",
    [
        [LEADER, WAITED_FOR, dataclasses.replace(OTHER, streams=False)],
        [LEADER, OTHER, dataclasses.replace(OTHER, node="node4")],
        [LEADER, dataclasses.replace(LEADER, node="node2"), OTHER],
        [WAITED_FOR, OTHER],
        [LEADER, WAITED_FOR, Member(node="node3", role="")],
    ],
)
def test_a_cluster_is_not_whole_where_one_is_missing_or_none_is_waited_for(members):
    assert codes(missing(members, SYNCHRONOUS, seconds=1)) == ["REDUNDANCY-NOT-BACK"]


def test_an_asynchronous_cluster_waits_for_nobody():
    asynchronous = ClusterSettings(synchronous_mode=False)
    assert not fully_redundant(WHOLE, asynchronous)
    assert fully_redundant([LEADER, OTHER, dataclasses.replace(OTHER, node="node4")], asynchronous)


class Healing:
    """A cluster whose second standby streams from the third look on."""

    def __init__(self):
        self.looks = 0

    def members(self):
        self.looks += 1
        return WHOLE if self.looks > 2 else [LEADER, WAITED_FOR, dataclasses.replace(OTHER, streams=False)]

    def returned(self, node):
        return "rewound" if node == "node3" else "stayed"


def test_it_is_noted_how_and_when_each_came_back(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", clock=Clock.start(), redactor=Redactor())
    assert await_redundancy(Healing(), SYNCHRONOUS, journal=journal, drill="d", seconds=5) == []
    journal.close()
    text = (tmp_path / "journal.jsonl").read_text()
    assert '"how":"rewound"' in text and '"kind":"redundant"' in text


@pytest.mark.parametrize(("wanted", "found"), [(["node1"], []), ([], ["WRONG-LEADER"]), (["node2"], ["WRONG-LEADER"])])
def test_who_leads_is_who_is_to_lead(wanted, found):
    assert codes(led_wrongly(WHOLE, wanted, "here")) == found


def test_two_leaders_are_never_right():
    assert codes(led_wrongly([LEADER, dataclasses.replace(LEADER, node="node2")], ["node1"], "")) == ["WRONG-LEADER"]


def held(next_value=34, rows=3):
    return Fingerprint(
        catalogue={"sequence": {"s": "one"}},
        tables={"t": TableDigest(rows=rows, digest=str(rows))},
        sequences={"s": SequencePosition(next=next_value, increment=1, cycle=False)},
        server_version=170010,
        method="record",
    )


def test_a_standby_that_holds_the_same_is_silent():
    assert differences(held(), held(), "node2") == []


def test_a_row_that_a_standby_lacks_is_found_and_where():
    (found,) = differences(held(), held(rows=2), "node2")
    assert found.code == "STANDBY-DIFFERS" and "node2" in found.where


@pytest.mark.parametrize(("standby", "found"), [(1, []), (34, []), (67, []), (0, ["STANDBY-DIFFERS"])])
def test_a_sequence_may_stand_as_far_off_as_the_log_runs_ahead(standby, found):
    """A leader that was promoted stands at the end of what was logged, one that led before where it had come to."""
    assert codes(differences(held(), held(next_value=standby), "node2")) == found

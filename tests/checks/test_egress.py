import dataclasses
import socket

import pytest

from checks.egress import SLOW_LOOKUP_NS, WaysOut, check_egress, try_ways_out, unproven
from fixtures.isolation import Isolation, unavailable
from fixtures.processes import Processes
from reports.records import Clock, Redactor

QUIET = WaysOut(tried=("TCP to 127.0.0.1", "a route to 198.51.100.1"), reached=(), lookup_ns=1000, by_file=())


@pytest.fixture
def processes(tmp_path):
    return Processes(run_id=tmp_path.name, logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor())


@pytest.fixture
def prefix(processes, tmp_path):
    if reason := unavailable(processes):
        pytest.skip(reason)
    with Isolation(directory=tmp_path / "isolation", processes=processes, out=[], own=[]) as isolation:
        yield isolation.prefix()


def codes(ways):
    return [finding.code for finding in check_egress(ways)]


def test_inside_no_way_leads_out_and_outside_the_same_probe_comes_to_every_door(processes, prefix, tmp_path):
    inside, outside = (try_ways_out(processes, words, directory=tmp_path) for words in (prefix, ()))
    assert inside.reached == ()
    assert "EGRESS-OPEN" not in codes(inside)
    assert {"TCP to 127.0.0.1", "UDP to 127.0.0.1", "an abstract Unix socket"} <= {*inside.tried} & {*outside.reached}
    assert check_egress(outside)[0].code == "EGRESS-OPEN"
    assert "TCP to 127.0.0.1" in check_egress(outside)[0].seen
    assert (inside.lookup_ns, outside.lookup_ns is None) == (pytest.approx(0, abs=SLOW_LOOKUP_NS), True)
    # Routes apart, which a machine without a network has not, every way is one that the check can tell to be open.
    assert [way for way in unproven(inside, outside) if not way.startswith("a route to ")] == []


def test_a_unix_socket_in_the_file_system_is_named_for_no_network_closes_it(processes, prefix, tmp_path):
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(path))
        daemon.listen()
        ways = try_ways_out(processes, prefix, directory=tmp_path)
    assert str(path) in ways.by_file
    (finding,) = check_egress(ways)
    assert (finding.code, finding.kind.severity) == ("EGRESS-BY-FILE", "notice")
    assert finding.count == len(ways.by_file)


def test_a_way_that_the_probe_does_not_find_outside_either_is_unproven():
    outside = dataclasses.replace(QUIET, reached=("TCP to 127.0.0.1",))
    assert unproven(QUIET, outside) == ["a route to 198.51.100.1"]


@pytest.mark.parametrize(
    ("took", "found"), [(SLOW_LOOKUP_NS, []), (SLOW_LOOKUP_NS + 1, ["EGRESS-LOOKUP-SLOW"]), (None, [])]
)
def test_a_lookup_that_hangs_is_told(took, found):
    assert codes(dataclasses.replace(QUIET, lookup_ns=took)) == found

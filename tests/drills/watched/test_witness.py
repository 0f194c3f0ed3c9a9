"""The witness as an instrument: what it says of servers whose state the test has made."""

import json
import threading
from pathlib import Path

import pytest

from drills.ledger import WITNESSED
from drills.lines import Lines
from drills.watch import Watch
from drills.witness import Witness, look_until, node_input
from reports.records import NANOSECONDS, HarnessError, monotonic_ns, pause, read_journal, read_lines, wait_until

MS = 1_000_000
LIMIT = NANOSECONDS // 2


@pytest.fixture
def witness():
    made = []

    def make(node, limit_ns=LIMIT):
        made.append(Witness(**node_input(node.name, node.database), limit_ns=limit_ns))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def watch(processes, journal, tmp_path):
    watch = Watch(processes=processes, journal=journal, drill="a-drill", path=tmp_path / "witness.jsonl",
                  relative=Path("drills/a-drill/witness.jsonl"))  # fmt: skip
    yield watch
    watch.stop()


def state(witness):
    return witness.look()["state"]


def test_a_leader_that_lives_freezes_thaws_and_dies(leader, witness):
    looking = witness(leader)
    first, second = looking.look(), looking.look()
    assert (first["state"], first["timeline"], first["n"], second["n"]) == ("accepts", 1, 0, 1)
    assert 0 < first["lsn"] < second["lsn"]
    assert leader.tell(f"SELECT node, n FROM {WITNESSED} ORDER BY n") == [("node1", 0), ("node1", 1)]
    leader.freeze()
    for _ in range(2):  # on the connection that was open, and on none
        began = monotonic_ns()
        assert state(looking) == "hangs"
        assert LIMIT <= monotonic_ns() - began < LIMIT + 5 * NANOSECONDS  # a stalled machine is no hang
    leader.thaw()
    assert state(looking) == "accepts"
    leader.kill()
    away = looking.look()
    assert (away["state"], away["timeline"], away["lsn"]) == ("away", None, None)
    assert "refused" in away["error"]
    leader.server.start()
    assert state(looking) == "accepts"


def test_a_standby_is_one_until_it_is_promoted_onto_a_timeline_of_its_own(leader, standby, witness):
    looking, at_leader = witness(standby), witness(leader)
    before = looking.look()
    assert (before["state"], before["timeline"]) == ("standby", 1)
    written = at_leader.look()["lsn"]
    wait_until(lambda: looking.look()["lsn"] >= written, seconds=20, interval=0.02, what="the standby to follow")
    standby.tell("SELECT pg_promote()")
    after = looking.look()
    assert (after["state"], after["timeline"]) == ("accepts", 2)
    # Nobody stopped the old one: two that accept, on two timelines.
    still = at_leader.look()
    assert (still["state"], still["timeline"]) == ("accepts", 1)


def test_a_commit_that_waits_for_a_standby_is_not_taken_for_one_and_holds_no_connection(leader, witness):
    looking = witness(leader)
    leader.set("synchronous_standby_names", "*")
    wait_until(lambda: state(looking) == "refuses", seconds=20, interval=0, what="the setting")
    refused = [looking.look() for _ in range(3)]
    assert [(each["state"], each["timeline"], "n" in each) for each in refused] == [("refuses", 1, False)] * 3
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    assert leader.tell(waiting) == [(1,)]  # not four
    leader.set("synchronous_standby_names", "")
    wait_until(lambda: state(looking) == "accepts", seconds=20, interval=0.02, what="the setting")


def test_a_server_that_takes_no_writes_refuses_them(leader, witness):
    leader.tell(f"ALTER TABLE {WITNESSED} ADD CHECK (n < 0) NOT VALID")
    seen = witness(leader).look()
    assert (seen["state"], seen["timeline"]) == ("refuses", 1)
    assert "CheckViolation" in seen["error"]


def test_whoever_restarts_between_two_looks_is_not_away(leader, witness):
    looking = witness(leader, limit_ns=20 * NANOSECONDS)
    assert state(looking) == "accepts"
    leader.server.stop()
    leader.server.start()
    assert state(looking) == "accepts"


def test_looks_keep_their_rate_and_their_time(leader, witness, journal, tmp_path):
    stop, path, started = threading.Event(), tmp_path / "lines.jsonl", journal.clock.now()
    file = Lines(path)
    thread = threading.Thread(target=look_until, args=(stop, "node1", witness(leader), file, journal.clock))
    thread.start()
    pause(1.0, why="several looks")
    stop.set()
    thread.join()
    file.close()
    ended = journal.clock.now()
    lines = list(read_lines(path))
    assert 1 < len(lines) <= (ended - started) // (100 * MS) + 1
    times = [started, *[time for line in lines for time in (line["t0"], line["t"])], ended]
    assert times == sorted(times)
    assert [line["n"] for line in lines] == list(range(len(lines)))


def test_the_process_looks_at_every_node_and_its_file_is_journalled(leader, standby, watch, journal):
    watch.launch()
    watch.start([leader, standby], clock=journal.clock)
    assert {(line["node"], line["state"]) for line in read_lines(watch.path)} == {
        ("node1", "accepts"), ("node2", "standby"),
    }  # fmt: skip
    running = watch._witness
    assert leader.database.password not in Path(f"/proc/{running.pid}/cmdline").read_text()
    leader.freeze()  # it ends although a node hangs
    watch.stop()
    assert running.popen.returncode == 0, running.errors.read_text()
    assert leader.database.password not in watch.path.read_text()
    (closed,) = [event for event in read_journal(journal.path) if event["kind"] == "witness.closed"]
    assert (closed["drill"], closed["path"]) == ("a-drill", "drills/a-drill/witness.jsonl")
    watch.stop()
    assert json.loads(journal.path.read_text().splitlines()[-1])["n"] == closed["n"]


def test_a_witness_that_cannot_see_a_node_is_no_witness(leader, standby, watch, journal, monkeypatch):
    monkeypatch.setattr("drills.watch.FIRST_LOOK_SECONDS", 2.0)
    standby.kill()
    with pytest.raises(HarnessError, match="node1, node2"):
        watch.start([leader, standby], clock=journal.clock)

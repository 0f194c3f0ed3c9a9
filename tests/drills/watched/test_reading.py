"""The ledger's writer on two real servers, of which one freezes, dies and is followed by the other."""

import threading

import pytest

from drills import ledger
from drills.lines import Lines
from drills.reading import Written, _api, noting, read_until
from fixtures.deployment import ClientAccess, ObjectStore
from reports.records import Clock, pause, read_lines, wait_until

MS = 1_000_000
INTERVAL = 20 * MS
FIRST = Written(identity="one", text="text", document="document-1")


class Writer:
    """The writer's process on some nodes, in the channel ``row``."""

    def __init__(self, processes, place, dsn, seconds):
        self.clock, self.ledger, self.reads = processes.clock, place / "ledger.jsonl", place / "reads.jsonl"
        store = ObjectStore(endpoint="http://127.0.0.1:9", bucket="bucket", access_key="key", secret_key="secret")
        given = ledger.writer_input(
            ClientAccess(url="http://127.0.0.1:9", api_key="key", objects=store, dsn=dsn), tag="tests-1",
            path=self.ledger, clock=self.clock, interval_ns=INTERVAL, channels=["row"], request_seconds=seconds,
            reads=self.reads, read_channels=["row", "standby"],
        )  # fmt: skip
        self.running = processes.start_module("ledger-writer", "drills.ledger", pipe_input=True)
        self.running.popen.stdin.write(given)
        self.running.popen.stdin.flush()

    def acknowledged_by(self, since=0):
        return {
            line["by"] for line in self._lines(self.ledger) if line["event"] == "acknowledged" and line["t"] > since
        }

    def read(self, channel, outcome, since=0):
        """The reads of a channel that began after an instant and ended so."""
        return [line for line in self._lines(self.reads)
                if (line["channel"], line["outcome"]) == (channel, outcome) and line["t0"] > since]  # fmt: skip

    def failed(self, since):
        return [line for line in self._lines(self.ledger) if line["event"] == "failed" and line["t"] > since]

    def _lines(self, path):
        return list(read_lines(path)) if path.exists() else []


@pytest.fixture
def writer(processes, tmp_path):
    made = []

    def start(dsn, seconds=0.5):
        made.append(Writer(processes, tmp_path, dsn, seconds))
        return made[-1]

    yield start
    for each in made:
        each.running.popen.stdin.close()
        assert each.running.popen.wait(timeout=20) == 0, each.running.errors.read_text()


def test_the_writer_goes_through_a_freeze_and_a_failover_and_says_who_took_each_write(leader, standby, writer, dsn):
    writing = writer(dsn(leader, standby))

    def wait(condition, what):
        wait_until(condition, seconds=30, interval=0.02, what=what)

    wait(lambda: writing.read("row", "answered") and writing.read("standby", "answered"), "reads")
    assert writing.acknowledged_by() == {leader.address}

    leader.freeze()
    pause(0.2, why="what was under way has ended")
    frozen = writing.clock.now()
    wait(lambda: len(writing.failed(frozen)) >= 2 and len(writing.read("row", "failed", frozen)) >= 2, "failures")
    assert {line["error"] for line in writing.failed(frozen)} == {"NoAnswer"}
    assert writing.read("standby", "answered", frozen)  # users who may read from standbys do so all the while
    assert not writing.read("row", "answered", frozen)
    assert not writing.acknowledged_by(frozen)
    leader.thaw()
    wait(lambda: writing.acknowledged_by(frozen) and writing.read("row", "answered", frozen), "writes again")

    leader.kill()
    promoted = writing.clock.now()
    standby.tell("SELECT pg_promote()")
    wait(lambda: standby.address in writing.acknowledged_by(promoted), "a write on the new leader")
    wait(lambda: writing.read("row", "answered", promoted), "a read on the new leader")
    wait(lambda: writing.read("standby", "answered", promoted), "a read where no standby is left")


@pytest.fixture
def reading(tmp_path):
    """Read in a thread for a moment; the lines that came of it."""

    def run(read, first, seconds=0.2):
        stop, path, clock = threading.Event(), tmp_path / "reads.jsonl", Clock.start()
        lines = Lines(path)
        thread = threading.Thread(target=read_until, args=(stop, "api", read, first, lines, clock, INTERVAL))
        thread.start()
        pause(seconds, why="several reads")
        stop.set()
        thread.join()
        lines.close()
        return list(read_lines(path))

    return run


def test_the_first_write_that_was_acknowledged_is_the_one_that_is_read():
    first, answers = {}, iter([OSError("away"), {"document": "document-1"}, {"document": "document-2"}])

    def send(n, identity, text):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    noted = noting(send, "api", first)
    with pytest.raises(OSError, match="away"):
        noted(0, "zero", "lost")
    assert noted(1, "one", "text") == {"document": "document-1"}
    noted(2, "two", "later")
    assert first == {"api": FIRST}


def test_nothing_is_read_before_something_was_written(reading):
    assert reading(lambda written: None, {}) == []


def test_reads_are_numbered_timed_and_end_one_way(reading):
    answers = iter([None, OSError("away"), None])

    def read(written):
        if problem := next(answers, None):
            raise problem

    lines = reading(read, {"api": FIRST})
    assert [line["outcome"] for line in lines[:3]] == ["answered", "failed", "answered"]
    assert [line.get("error") for line in lines[:3]] == [None, "OSError", None]
    assert [line["n"] for line in lines] == list(range(len(lines)))
    assert all(line["t0"] <= line["t"] for line in lines)


class Store:
    """An application and an object store that give back what they hold."""

    def __init__(self, content):
        self.content, self.asked = content, []

    def download(self, document):
        self.asked.append(document)
        return self.content


@pytest.mark.parametrize(("content", "outcome"), [(b"text", "answered"), (b"other", "failed")])
def test_other_bytes_than_were_written_are_no_answer(reading, content, outcome):
    product = Store(content)
    lines = reading(_api(product), {"api": FIRST})
    assert {line["outcome"] for line in lines} == {outcome}
    assert set(product.asked) == {"document-1"}

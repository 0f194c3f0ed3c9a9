"""The ledger as an instrument: its account held against losses whose size the test knows, of a server of its own."""

import contextlib
import itertools
import json
import threading

import httpx
import pytest

from drills import ledger
from fixtures.deployment import ClientAccess, ObjectStore
from fixtures.network import free_ports
from fixtures.processes import Processes, ended_within
from reports.accounting import account
from reports.records import Clock, Redactor, pause, read_lines, wait_until

MS = 1_000_000
INTERVAL = 20 * MS
SECRET = "correct-horse-battery"


class Writing:
    """A channel's writer, running in a thread on a ledger of its own."""

    def __init__(self, path, clock, send, interval_ns):
        self.path, self._stop = path, threading.Event()
        book = ledger._Book(path, clock)
        arguments = (self._stop, "api", send, book, clock, interval_ns)
        self._thread, self._file = threading.Thread(target=ledger.write_until, args=arguments), book._file
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._file.close()

    def lines(self, event=""):
        return [line for line in read_lines(self.path) if event in ("", line["event"])]


@pytest.fixture
def writing(tmp_path):
    """Start a writer; the clock is the second thing handed back."""
    with contextlib.ExitStack() as stack:

        def start(send, interval_ns=INTERVAL):
            clock = Clock.start()
            writing = Writing(tmp_path / "ledger.jsonl", clock, send, interval_ns)
            stack.callback(writing.stop)
            return writing, clock

        yield start


def observed(target):
    return [{"channel": "api", "id": identity, "sha256": sha256} for identity, sha256 in target.kept.items()]


@pytest.mark.parametrize("loss", [0.1, 0.4, 1.0])
def test_the_recovery_point_is_that_of_the_known_loss(target, writing, loss):
    writer, clock = writing(target.send)
    pause(0.3, why="writes lie before the backup")
    with target.lock:  # no write is kept while the copy is made
        backup, backed_up = dict(target.kept), clock.now()
    pause(loss, why="the loss of known size")
    strike = clock.now()
    target.off()
    gone, written = clock.now(), dict(target.kept)
    target.kept = dict(backup)
    target.on()
    pause(0.2, why="writes go on after recovery")
    writer.stop()
    found = account(writer.lines(), observed(target), strike, gone_ns=gone, interval_ns=INTERVAL)
    (channel,) = found.channels
    acknowledged = [line["t"] for line in writer.lines("acknowledged") if line["t"] < gone]
    # One write interval, which is the distance of two acknowledgements where the machine keeps up.
    distance = max(later - earlier for earlier, later in itertools.pairwise(acknowledged))
    assert abs(found.rpo_achieved_ns - (strike - backed_up)) <= max(distance, INTERVAL)
    assert not found.lower_bound
    assert abs(channel.lost - len(written.keys() - backup.keys())) <= 1  # the one under way at the strike may be either
    assert (channel.holes, channel.altered, channel.phantom, channel.duplicated) == (0, 0, 0, 0)


def test_nothing_lost_is_a_recovery_point_of_zero(target, writing):
    writer, clock = writing(target.send)
    pause(0.2, why="writes are made")
    strike = clock.now()
    target.off()
    target.on()
    pause(0.1, why="writes go on")
    writer.stop()
    found = account(writer.lines(), observed(target), strike, gone_ns=strike, interval_ns=INTERVAL)
    assert found.rpo_achieved_ns == 0
    assert found.channels[0].lost == 0


def test_every_write_is_attempted_first_and_then_ends_one_way(target, writing):
    writer, _ = writing(target.send)
    pause(0.2, why="writes succeed")
    target.off()
    pause(0.2, why="writes fail")
    writer.stop()
    lines = writer.lines()
    for attempt, outcome in zip(lines[::2], lines[1::2], strict=True):
        assert attempt["event"] == "attempt"
        assert outcome["event"] in ("acknowledged", "failed")
        assert attempt["n"] == outcome["n"]
        assert attempt["t"] <= outcome["t"]
    assert [line["n"] for line in lines[::2]] == list(range(len(lines) // 2))
    assert {line["event"] for line in lines} == {"attempt", "acknowledged", "failed"}


def test_the_digest_in_the_ledger_is_that_of_what_the_target_received(target, writing):
    writer, _ = writing(target.send)
    wait_until(lambda: len(target.kept) >= 5, seconds=60, interval=0.01, what="five writes")
    writer.stop()
    attempted = {line["id"]: line["sha256"] for line in writer.lines("attempt")}
    assert target.kept.items() <= attempted.items()
    assert len(set(attempted.values())) == len(attempted)


def test_a_failure_is_written_with_its_kind_and_the_writer_goes_on(target, writing):
    target.off()
    writer, _ = writing(target.send)
    wait_until(lambda: len(writer.lines("failed")) >= 3, seconds=60, interval=0.01, what="three failures")
    target.on()
    wait_until(lambda: writer.lines("acknowledged"), seconds=60, interval=0.01, what="an acknowledgement")
    assert {line["error"] for line in writer.lines("failed")} <= {"ConnectError", "ReadError", "RemoteProtocolError"}


def test_a_late_write_does_not_make_the_next_ones_hurry(writing):
    late = 15 * INTERVAL

    def send(n, identity, text):
        if n == 2:
            pause(late / 1e9, why="the target hangs")

    writer, clock = writing(send)
    pause(0.8, why="many writes, one of them late")
    elapsed = clock.now()
    writer.stop()
    made = [line for line in writer.lines("attempt") if line["t"] <= elapsed]
    assert 3 < len(made) <= (elapsed - late) // INTERVAL + 2


@pytest.mark.parametrize("problem", [httpx.ReadTimeout("slow"), OSError("gone")])
def test_what_a_client_raises_ends_no_writer(writing, problem):
    def send(n, identity, text):
        raise problem

    writer, _ = writing(send)
    wait_until(lambda: len(writer.lines("failed")) >= 2, seconds=60, interval=0.01, what="two failures")
    assert writer.lines("failed")[0]["error"] == type(problem).__name__


@pytest.mark.parametrize(
    ("text", "since", "channels"),
    [
        (None, 0, set()),
        ("", 0, set()),
        ('{"event":"acknowledged","channel":"api","n":0,"t":5}\n', 4, {"api"}),
        ('{"event":"acknowledged","channel":"api","n":0,"t":5}\n', 5, set()),
        ('{"event":"failed","channel":"api","n":0,"t":5,"error":"OSError"}\n', 0, set()),
        ('{"event":"acknowledged","channel":"api","n":0,"t":5}', 0, set()),
        ('"channel":"row","n":0,"t":5}\n{"event":"acknowledged","channel":"api","n":1,"t":6}\n{"ev', 0, {"api"}),
    ],
    ids=["no file", "empty", "later", "not later", "failed", "cut", "cut at both ends"],
)
def test_channels_are_read_off_the_ledgers_last_lines(tmp_path, text, since, channels):
    path = tmp_path / "ledger.jsonl"
    if text is not None:
        path.write_text(text)
    assert ledger.channels_acknowledged_since(path, since) == channels


def test_only_the_end_of_a_long_ledger_is_read(tmp_path):
    line = {"event": "acknowledged", "channel": "row", "n": 0, "t": 1}
    lines = [line, *[line | {"channel": "api", "n": n, "t": n} for n in range(5000)]]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert ledger.channels_acknowledged_since(tmp_path / "ledger.jsonl", 0) == {"api"}


def test_the_writers_process_writes_in_all_channels_and_ends_with_its_input(tmp_path):
    processes = Processes(run_id="tests", logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor())
    web, postgres, objects = free_ports(3)  # nobody listens: every attempt fails, and is journalled
    store = ObjectStore(endpoint=f"http://127.0.0.1:{objects}", bucket="bucket", access_key=SECRET, secret_key=SECRET)
    access = ClientAccess(url=f"http://127.0.0.1:{web}", api_key=SECRET, objects=store,
                          dsn=f"host=127.0.0.1 port={postgres} user=u dbname=d password={SECRET}")  # fmt: skip
    path = tmp_path / "ledger.jsonl"
    given = ledger.writer_input(access, run_id="tests", path=path, clock=processes.clock, interval_ns=200 * MS)
    writer = processes.start_module("ledger-writer", "drills.ledger", pipe_input=True)
    with writer.popen.stdin as pipe:
        pipe.write(given)
        pipe.flush()
        everywhere = set(ledger.CHANNELS)
        wait_until(lambda: failed_channels(path) == everywhere, seconds=60, interval=0.1, what="all channels")
    assert ended_within(writer.popen, 60)
    assert writer.popen.returncode == 0, writer.errors.read_text()
    assert SECRET not in path.read_text()


def failed_channels(path):
    return {line["channel"] for line in read_lines(path) if line["event"] == "failed"} if path.exists() else set()

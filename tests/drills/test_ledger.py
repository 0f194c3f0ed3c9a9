"""The ledger as an instrument: its account held against losses whose size the test knows, of a server of its own."""

import contextlib
import hashlib
import http.server
import itertools
import json
import threading
from types import SimpleNamespace

import httpx
import psycopg
import pytest

from drills import ledger, load
from drills.observed import _observe_deletions, _observe_rows
from fixtures.deployment import ClientAccess, ObjectStore
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes, ended_within
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from fixtures.refapp.client import Application as ReferenceClient
from reports.accounting import account
from reports.records import Clock, HarnessError, Redactor, pause, read_lines, wait_until

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
    wait_until(lambda: len(target.kept) >= 5, seconds=60, interval=0.01, what="writes before the backup")
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
    assert load.channels_acknowledged_since(path, since) == channels


@pytest.mark.parametrize(("since", "channels"), [(0, {"api"}), (4, {"api"}), (5, set())])
def test_an_upload_that_began_before_is_not_one_that_was_waited_for(tmp_path, since, channels):
    line = {"event": "attempt", "channel": "api", "n": 0, "t": 5}
    early = {"event": "acknowledged", "channel": "row", "n": 7, "t": 9}
    path = tmp_path / "ledger.jsonl"
    lines = (early, line, line | {"event": "acknowledged", "t": 6})
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert load.channels_acknowledged_since(path, since, begun=True) == channels


def test_only_the_end_of_a_long_ledger_is_read(tmp_path):
    line = {"event": "acknowledged", "channel": "row", "n": 0, "t": 1}
    lines = [line, *[line | {"channel": "api", "n": n, "t": n} for n in range(5000)]]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert load.channels_acknowledged_since(tmp_path / "ledger.jsonl", 0) == {"api"}


def test_the_writers_process_writes_in_all_channels_and_ends_with_its_input(tmp_path):
    processes = Processes(run_id="tests", logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor())
    web, postgres, objects = free_ports(3)  # nobody listens: every attempt fails, and is journalled
    store = ObjectStore(endpoint=f"http://127.0.0.1:{objects}", bucket="bucket", access_key=SECRET, secret_key=SECRET)
    access = ClientAccess(url=f"http://127.0.0.1:{web}", api_key=SECRET, objects=store,
                          dsn=f"host=127.0.0.1 port={postgres} user=u dbname=d password={SECRET}")  # fmt: skip
    path = tmp_path / "ledger.jsonl"
    given = ledger.writer_input(access, tag="tests-1", path=path, clock=processes.clock, interval_ns=200 * MS,
                                channels=ledger.CHANNELS, deletable=["a-document"])  # fmt: skip
    writer = processes.start_module("ledger-writer", "drills.ledger", pipe_input=True)
    with writer.popen.stdin as pipe:
        pipe.write(given)
        pipe.flush()
        everywhere = {"api", "row", "object"}  # nobody can look at a document, so none is deleted
        wait_until(lambda: failed_channels(path) == everywhere, seconds=60, interval=0.1, what="all channels")
    assert ended_within(writer.popen, 60)
    assert writer.popen.returncode == 0, writer.errors.read_text()
    assert SECRET not in path.read_text()


class Documents:
    """A product's interface with some documents in it: listing, looking, deleting; closed, it answers 503."""

    def __init__(self, names):
        self.kept = {f"id-{n}": name for n, name in enumerate(names)}
        self.closed, self.deleted = False, []
        documents = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, answer = documents.look(self.path.partition("?")[0].rpartition("/")[2])
                self.answer(status, json.dumps(answer).encode())

            def do_DELETE(self):
                self.answer(documents.delete(self.path.rpartition("/")[2]), b"")

            def answer(self, status, content):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005})
        self._thread.start()

    def look(self, name):
        rows = {key: {"id": key, "name": kept, "sha256": "", "size_bytes": 0, "status": "redacted"}
                for key, kept in self.kept.items()}  # fmt: skip
        if self.closed:
            return 503, {}
        if name == "documents":
            return 200, {"documents": [*rows.values()], "next": None}
        return (200, rows[name]) if name in rows else (404, {})

    def delete(self, name):
        if self.closed or self.kept.pop(name, None) is None:
            return 503 if self.closed else 404
        self.deleted.append(name)
        return 204

    def client(self):
        return ReferenceClient(self.url, SECRET, timeout=5)

    def end(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def documents():
    made = []

    def make(*names):
        made.append(Documents(names))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def deleting(documents, tmp_path):
    """A thread that deletes what is given to it, and its ledger."""
    with contextlib.ExitStack() as stack:

        def start(product, deletable):
            deletions = ledger._Deletions({"url": product.url, "api_key": SECRET, "deletable": deletable})
            path, clock, stop = tmp_path / "ledger.jsonl", Clock.start(), threading.Event()
            book = ledger._Book(path, clock)
            arguments = (stop, ledger.DELETE, deletions.send, book, clock, INTERVAL)
            thread = threading.Thread(target=ledger.write_until, args=arguments, kwargs={"draw": deletions.draw})
            thread.start()
            for step in (book._file.close, thread.join, stop.set):  # the last one first
                stack.callback(step)
            return lambda event="": [line for line in read_lines(path) if event in ("", line["event"])]

        yield start


def test_every_second_document_that_is_not_the_drills_own_may_be_deleted(documents):
    product = documents("a", "enprivacy-drill/run/1", "b", "probe/run/1", "c", "d", "e")
    assert ledger.deletable(product.client()) == ["id-0", "id-4", "id-6"]  # a, c, e
    assert ledger.deletable(documents().client()) == []
    product.closed = True
    with pytest.raises(HarnessError, match="503"):
        ledger.deletable(product.client())


def test_no_more_documents_may_be_deleted_than_users_would(documents, monkeypatch):
    monkeypatch.setattr(ledger, "MOST_DELETABLE", 2)
    assert len(ledger.deletable(documents(*"abcdefgh").client())) == 2


def test_each_document_is_deleted_once_and_its_line_is_what_is_observed(documents, deleting):
    product = documents("a", "b", "c")
    lines = deleting(product, ["id-0", "id-2"])
    wait_until(lambda: len(lines("acknowledged")) == 2, seconds=60, interval=0.01, what="two deletions")
    pause(3 * INTERVAL / 1e9, why="a third would be made by then")
    assert product.deleted == ["id-0", "id-2"]
    found = list(_observe_deletions(product.client(), [line["id"] for line in lines("attempt")]))
    (channel,) = account(lines(), found, 10**18).channels
    assert (channel.attempted, channel.recovered, channel.lost, channel.altered) == (2, 2, 0, 0)


def test_a_document_that_is_back_is_a_lost_deletion(documents, deleting):
    product = documents("a", "b")
    lines = deleting(product, ["id-0", "id-1"])
    wait_until(lambda: len(lines("acknowledged")) == 2, seconds=60, interval=0.01, what="two deletions")
    product.kept["id-1"] = "b"
    (channel,) = account(lines(), _observe_deletions(product.client(), ["id-0", "id-1"]), 10**18).channels
    assert (channel.recovered, channel.lost, channel.lost_cases.first.id) == (1, 1, "id-1")


def test_no_document_is_used_up_while_the_deployment_is_away(documents, deleting):
    product = documents("a", "b")
    product.closed = True
    lines = deleting(product, ["id-0", "id-1"])
    pause(10 * INTERVAL / 1e9, why="deletions would be attempted")
    assert not lines("attempt")
    product.closed = False
    wait_until(lambda: len(lines("acknowledged")) == 2, seconds=60, interval=0.01, what="two deletions")


def test_a_document_that_is_not_there_keeps_no_other_from_being_deleted(documents, deleting):
    product = documents("a", "b")
    lines = deleting(product, ["nobody", "id-1"])
    wait_until(lambda: lines("acknowledged"), seconds=60, interval=0.01, what="a deletion")
    assert [line["id"] for line in lines("attempt")] == ["id-1"]


def test_deletions_are_five_times_as_far_apart():
    assert ledger.intervals(20) == {"api": 20, "row": 20, "object": 20, "delete": 100}


@pytest.fixture
def database(tmp_path):
    """The handle of a PostgreSQL with an empty database, and a role without any rights of its own."""
    processes = Processes(run_id="tests", logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor())
    tools = find_postgres(processes, None)
    server = EmbeddedPostgres(
        directory=tmp_path / "postgresql", port=free_ports(1)[0], name="ledger", password=SECRET, tools=tools,
        unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
    )  # fmt: skip
    server.initialise()
    server.start()
    server.admit_clients()
    with server.handle.connect("postgres") as connection:
        connection.execute("CREATE DATABASE ledger")
        connection.execute(f"CREATE ROLE anybody LOGIN PASSWORD '{SECRET}'")
    yield server.handle
    server.kill()


def test_only_the_rows_of_the_drill_are_observed(database):
    deployment = SimpleNamespace(database=database)
    assert list(_observe_rows(deployment, "run-1")) == []  # the table is lost, too
    ledger.prepare(deployment)
    dsn = f"host={database.host} port={database.port} dbname=ledger user=anybody password={SECRET}"
    senders = [ledger._row_channel({"dsn": dsn, "tag": tag}) for tag in ("run-1", "run-2")]
    for send in senders:
        send(0, "one", "text")
    found = list(_observe_rows(deployment, "run-1"))
    assert found == [{"channel": "row", "id": "one", "sha256": hashlib.sha256(b"text").hexdigest()}]
    with database.connect() as connection:
        assert connection.execute("SELECT id, side, at FROM enprivacy_drill.marks").fetchall() == []
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'anybody'")
    for send in senders:  # which closes their connections
        with pytest.raises(psycopg.Error):
            send(1, "two", "text")


def failed_channels(path):
    return {line["channel"] for line in read_lines(path) if line["event"] == "failed"} if path.exists() else set()

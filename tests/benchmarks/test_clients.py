"""What the benchmark of clients calls an outage, the way that drops, and that its rows are those of the docs."""

import contextlib
import errno
import socket
import threading
import types
from pathlib import Path

import pytest

from benchmarks.client_events import Dropping
from benchmarks.client_settings import ROWS, clients_of
from benchmarks.client_variants import Attempt, Felt, felt
from benchmarks.clients import told

ROOT = Path(__file__).parents[2]
SECOND = 10**9
TABLE = [line for line in (ROOT / "docs" / "clients.md").read_text("utf-8").splitlines() if line.startswith("| ")]


def attempts(*seconds, failed=(), port=1):
    good = [Attempt(began_ns=int(s * SECOND), ended_ns=int(s * SECOND), answered=True, port=port) for s in seconds]
    bad = [Attempt(began_ns=int(s * SECOND), ended_ns=int(s * SECOND), answered=False) for s in failed]
    return good + bad


def seen(given, *, struck=10, ended=20, **others):
    return felt(given, struck_ns=struck * SECOND, ended_ns=ended * SECOND, **others)


def test_an_outage_lasts_from_the_last_success_before_the_strike_to_the_next():
    found = seen(attempts(1, 9.5, 13, 13.5, 19.5, failed=(2, 11, 12)), ended=20)
    assert (found.outage_ns, found.failed, found.attempted, found.open) == (6 * SECOND, 2, 5, False)


def test_an_outage_that_outlasts_the_watch_is_open_and_so_is_that_of_a_client_that_was_never_answered():
    found = seen(attempts(9, failed=(11,)))
    assert (found.outage_ns, found.open) == (11 * SECOND, True)
    found = seen(attempts(failed=(12, 13)))
    assert (found.outage_ns, found.open, found.failed) == (8 * SECOND, True, 2)


def test_stale_answers_are_those_of_the_former_leader_once_another_leads():
    given = attempts(9, 12, 14, port=7) + attempts(15, 19.9, port=8)
    assert seen(given, stale_port=7, led_ns=11 * SECOND).stale_ns == 3 * SECOND
    assert seen(given, stale_port=7, led_ns=15 * SECOND).stale_ns == 0


def test_what_is_told_is_the_median_and_the_maximum_and_no_more_than_is_known_where_one_had_not_ended():
    values = [Felt(outage_ns=n * SECOND, open=n == 3, failed=n, attempted=9, stale_ns=n * SECOND) for n in (3, 8, 4)]
    assert told(values) == "over 4 s (8 s), 4 failed"
    assert told(values[1:]) == "6 s (8 s), 6 failed"
    assert told(values[:2]) == "over 5.5 s (8 s), 5.5 failed"
    assert told(values, stale=True) == "4 s (8 s) of stale answers"
    assert (told(values[1:2]), told([])) == ("8 s, 8 failed", "not measured")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what[:40])
def test_every_row_stands_in_the_docs_and_its_clients_go_through_its_events(row):
    assert any(line.startswith(f"| {row.what} | {row.against} | {row.costs} | ") for line in TABLE)
    bench = types.SimpleNamespace(url=lambda parameters, first, alone=False: parameters)
    for event in row.events:
        names = {each.name for each in clients_of(event, bench, "node1")}
        assert set(row.clients) <= names | {"Web with", "Web without"}


@pytest.fixture
def greeter():
    """The port of a server that greets whoever connects."""
    server, held = socket.create_server(("127.0.0.1", 0)), []

    def greet():
        with contextlib.suppress(OSError):
            while True:
                held.append(server.accept()[0])
                held[-1].sendall(b"!")

    thread = threading.Thread(target=greet)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for each in (server, *held):
        each.close()


@pytest.mark.parametrize("drops", [True, False], ids=["dropped", "hung"])
def test_tcp_sees_a_way_that_drops_and_none_that_only_hangs(greeter, drops):
    def connected():
        client = stack.enter_context(socket.create_connection(("127.0.0.1", way.port), timeout=5))
        assert client.recv(1) == b"!"
        return client

    with Dropping("127.0.0.1", greeter) as way, contextlib.ExitStack() as stack:
        client = connected()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        if drops:
            way.drop(True)
        else:
            way.turn("hang")
        client.sendall(b"?")
        with pytest.raises(OSError) as caught:
            client.recv(1)
        assert caught.value.errno == (errno.ETIMEDOUT if drops else None)
        way.drop(False)
        way.turn("pass")
        connected()

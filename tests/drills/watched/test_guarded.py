"""Connections that end in time, held against servers that are really frozen, killed or standbys."""

import psutil
import psycopg
import pytest

from fixtures.guarded import GuardedConnection, KeptConnection, NoAnswer
from reports.records import NANOSECONDS, monotonic_ns

SECONDS = 1.0
WHO = "SELECT inet_server_port()"


def until(seconds=SECONDS):
    return monotonic_ns() + round(seconds * NANOSECONDS)


def connected_to(node):
    there = [each.raddr.port for each in psutil.Process().net_connections("tcp") if each.raddr]
    return there.count(node.database.port)


def port_of(dsn, seconds=SECONDS):
    connection = GuardedConnection.open(dsn, until_ns=until(seconds))
    try:
        ((port,),) = connection.execute(WHO, until_ns=until())
        return int(port)
    finally:
        connection.close()


def test_a_server_frozen_in_the_middle_costs_no_more_than_was_allowed_and_the_socket_is_closed(leader, dsn):
    kept = KeptConnection(dsn(leader), seconds=SECONDS)
    assert kept.execute("SELECT 1, NULL, $1", "äöü") == [("1", None, "äöü")]
    leader.freeze()
    for _ in range(2):  # the connection that was open, and one that is not even taken
        began = monotonic_ns()
        with pytest.raises(NoAnswer):
            kept.execute("SELECT 1")
        assert SECONDS <= (monotonic_ns() - began) / NANOSECONDS < SECONDS + 5  # a stalled machine is no hang
        assert connected_to(leader) == 0
    leader.thaw()
    assert kept.execute("SELECT 2") == [("2",)]
    kept.close()


def test_a_frozen_first_host_does_not_hold_up_the_others(leader, standby, dsn):
    standby.freeze()
    assert port_of(dsn(standby, leader), seconds=10) == leader.database.port
    assert connected_to(standby) == 0


def test_where_one_host_said_no_those_that_hang_are_not_waited_for_long(leader, standby, dsn):
    leader.freeze()
    began = monotonic_ns()
    with pytest.raises(NoAnswer, match=leader.address):
        GuardedConnection.open(dsn(leader, standby), until_ns=until(20))
    assert monotonic_ns() - began < 5 * NANOSECONDS


def test_whoever_is_asked_for_is_found_wherever_it_stands(leader, standby, dsn):
    for nodes in ((leader, standby), (standby, leader)):
        assert port_of(dsn(*nodes)) == leader.database.port
        assert port_of(dsn(*nodes, want="prefer-standby")) == standby.database.port
    standby.kill()
    assert port_of(dsn(standby, leader, want="prefer-standby")) == leader.database.port


def test_a_frozen_standby_leaves_those_who_prefer_one_with_the_leader(leader, standby, dsn):
    standby.freeze()
    assert port_of(dsn(standby, leader, want="prefer-standby"), seconds=10) == leader.database.port


def test_nobody_there_is_not_nobody_answering(leader, dsn):
    leader.kill()
    with pytest.raises(psycopg.OperationalError, match="refused") as caught:
        GuardedConnection.open(dsn(leader, leader), until_ns=until(10))
    assert not isinstance(caught.value, NoAnswer)


def test_what_the_server_refuses_is_raised_as_what_it_is_and_the_connection_replaced(leader, standby, dsn):
    kept = KeptConnection(dsn(standby, want="any"), seconds=10)
    for _ in range(2):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            kept.execute("CREATE TABLE new ()")
    with pytest.raises(psycopg.errors.UndefinedTable):
        kept.execute("SELECT * FROM nowhere")
    kept.execute("SELECT 1")
    standby.tell("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                 " AND pid <> pg_backend_pid()")  # fmt: skip
    with pytest.raises(psycopg.OperationalError, match="administrator"):
        kept.execute("SELECT 1")
    assert kept.execute("SELECT 1") == [("1",)]
    kept.close()


def test_more_than_a_socket_holds_goes_and_comes_whole(leader, dsn):
    kept, text = KeptConnection(dsn(leader), seconds=20), "x" * 20_000_000
    assert kept.execute("SELECT $1, length($1)", text) == [(text, "20000000")]
    kept.close()

import contextlib
import re
import threading

import pytest

from checks.point_in_time import CREATE_MARKS, assert_marks, write_mark
from checks.snapshot import hold_snapshot_at_mark
from reports.records import HarnessError, pause

COMMIT = re.compile(r"tx:\s+(\d+), lsn: ([0-9A-F/]+), .*desc: COMMIT (\S+ \S+) UTC")


@pytest.fixture
def marks(database):
    with database() as connection:
        connection.execute(CREATE_MARKS)
        yield connection


def codes(findings):
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("survived", "expected"),
    [
        (["before"], []),
        ([], ["PITR-TARGET-UNREACHED"]),
        (["before", "after"], ["PITR-TARGET-OVERSHOT"]),
        (["after"], ["PITR-TARGET-UNREACHED", "PITR-TARGET-OVERSHOT"]),
    ],
)
def test_which_mark_survived_says_where_recovery_stopped(marks, survived, expected):
    write_mark(marks, "another", "after")
    for side in survived:
        write_mark(marks, "target", side)
    assert codes(assert_marks(marks, "target")) == expected


@pytest.mark.parametrize(("mark", "written"), [("target", ["before"]), ("target", []), ("", ["before", "after"])])
def test_a_target_without_both_marks_asserts_nothing(marks, mark, written):
    write_mark(marks, "target", "before")
    assert codes(assert_marks(marks, mark, written=written)) == ["PITR-UNASSERTED"]


def test_a_database_from_before_the_marks_has_not_reached_the_target(database):
    with database() as connection:
        assert codes(assert_marks(connection, "target")) == ["PITR-TARGET-UNREACHED"]


def test_a_mark_without_a_side_is_refused(marks):
    with pytest.raises(HarnessError, match="before or after"):
        write_mark(marks, "target", "beside")


@contextlib.contextmanager
def writers(database, count, statement="INSERT INTO t DEFAULT VALUES"):
    """Connections that each commit one row after the other as fast as they can."""
    ended = threading.Event()

    def write():
        with database() as connection:
            while not ended.is_set():
                connection.execute(statement)
                pause(0.001, why="a client thinks between two writes")

    threads = [threading.Thread(target=write) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def number(lsn):
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def commits(server, processes, start, end):
    """Number, position and time of each commit in the write-ahead log between two positions."""
    argv = [server.tools.path("pg_waldump"), f"--path={server.data_directory / 'pg_wal'}", "--rmgr=Transaction"]
    shown = processes.run([*argv, f"--start={start}", f"--end={end}"], timeout=30).output.read_text()
    found = [(int(number), lsn, time.replace(" ", "T") + "Z") for number, lsn, time in COMMIT.findall(shown)]
    return [(transaction, number(lsn), time) for transaction, lsn, time in found]


def test_the_snapshot_sees_what_is_committed_before_the_restore_point_and_nothing_else(server, processes, database):
    with database() as connection:
        connection.execute("CREATE TABLE t (id serial, at timestamptz DEFAULT now())")
        (start,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        with writers(database, 3):
            pause(0.1, why="rows lie before the first instant")
            for attempt in range(8):
                with hold_snapshot_at_mark(database, f"instant {attempt}") as held:
                    pause(0.02, why="rows lie after it too")
                    seen = {int(xmin) for (xmin,) in held.connection.execute("SELECT xmin::text FROM public.t")}
                    ours = {int(xmin) for (xmin,) in connection.execute("SELECT xmin::text FROM t")}
                    (end,) = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
                    logged = [each for each in commits(server, processes, start, end) if each[0] in ours]
                    before = [each for each in logged if each[1] < number(held.restore_lsn)]
                    after = [each for each in logged if each[1] >= number(held.restore_lsn)]
                assert before and after
                assert {transaction for transaction, *_ in before} == seen
                assert max(time for *_, time in before) <= held.database_time < min(time for *_, time in after)


def test_a_transaction_that_waits_for_its_client_does_not_keep_the_instant_from_being_held(database):
    with database() as open_one:
        open_one.execute("BEGIN; CREATE TABLE t (i int)")  # it has a number from here on, and is not committed
        with hold_snapshot_at_mark(database, "target") as held:
            assert held.restore_point == "target"
            open_one.commit()
            assert held.connection.execute("SELECT FROM pg_class WHERE relname = 't'").fetchall() == []


def test_a_sequence_is_held_as_it_was_at_the_instant_or_before(database):
    with database() as connection:
        connection.execute("CREATE SEQUENCE s")
        with hold_snapshot_at_mark(database, "target") as held:
            connection.execute("SELECT nextval('s')")
            assert held.sequences["public.s"].next == 1


def test_commits_without_a_pause_end_in_an_error_that_names_the_writer(database):
    with database() as connection:
        connection.execute("CREATE TABLE t (i int)")
    # It has written its row and may commit at any moment.
    with writers(database, 1, "INSERT INTO t VALUES (1) RETURNING pg_sleep(0.3)"):
        pause(0.1, why="it has begun")
        with (
            pytest.raises(HarnessError, match=r"none in 3 tries; writing: enprivacy-drill \d+ \(active\)"),
            hold_snapshot_at_mark(database, "target", tries=3),
        ):
            pass


def test_recovery_that_had_to_go_on_to_the_end_has_both_marks(marks):
    write_mark(marks, "target", "before")
    assert codes(assert_marks(marks, "target", stops=False)) == ["PITR-TARGET-UNREACHED"]
    write_mark(marks, "target", "after")
    assert codes(assert_marks(marks, "target", stops=False)) == []

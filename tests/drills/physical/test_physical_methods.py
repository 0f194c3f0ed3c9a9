"""Base backups with an archive of the log, on real servers that are killed and wiped."""

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest

from drills.contract import Target
from fixtures import wal
from fixtures.processes import CommandFailed
from reports.records import HarnessError, wait_until

FIFTEEN = Path("/usr/lib/postgresql/15/bin")
SERVERS = {"the wheel": None, "Debian 15": FIFTEEN}


# What is lost, and what is not.


@pytest.mark.parametrize("bin_directory", SERVERS.values(), ids=SERVERS)
def test_with_streaming_no_acknowledged_row_is_lost_when_the_server_is_killed_and_wiped(make_site, bin_directory):
    if bin_directory and not bin_directory.is_dir():
        pytest.skip(f"no PostgreSQL server in {bin_directory}")
    site = make_site(stream=True, bin_directory=bin_directory)
    backup = site.back_up()
    site.insert(*range(1001, 1041))
    site.lose_server()
    site.restore(backup)
    assert site.numbers() == list(range(1001, 1041))


@pytest.mark.parametrize("bin_directory", SERVERS.values(), ids=SERVERS)
def test_without_streaming_exactly_the_rows_after_the_last_archived_segment_are_lost(make_site, bin_directory):
    if bin_directory and not bin_directory.is_dir():
        pytest.skip(f"no PostgreSQL server in {bin_directory}")
    site = make_site(stream=False, bin_directory=bin_directory)
    backup = site.back_up()
    site.insert(*range(1001, 1011))
    site.flush()
    site.insert(*range(1011, 1018))
    site.lose_server()
    site.restore(backup)
    assert site.numbers() == list(range(1001, 1011))


def test_rows_of_many_segments_come_back(streaming):
    backup = streaming.back_up()
    streaming.execute("CREATE TABLE wide AS SELECT repeat(md5(n::text), 60) AS text FROM generate_series(1, 25000) n")
    streaming.lose_server()
    streaming.restore(backup)
    assert len(streaming.segments()) > 4
    assert streaming.one("SELECT count(*) FROM wide") == 25000


@pytest.mark.parametrize("by", ["name", "time", "lsn"])
def test_recovery_stops_between_the_write_before_the_target_and_the_one_after_it(streaming, by):
    backup = streaming.back_up()
    until = streaming.mark(by)
    streaming.flush()
    streaming.lose_server()
    assert streaming.findings(backup, until) == []
    streaming.restore(backup, until)
    assert streaming.numbers() == [1001]


def test_the_very_first_record_after_a_position_is_left_out(streaming):
    backup = streaming.back_up()
    with streaming.server.handle.connect("postgres") as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO kept VALUES (1001)")
        with streaming.server.handle.connect("postgres") as other:
            (lsn,) = other.execute("SELECT pg_create_restore_point('here')::text").fetchone()
        connection.execute("COMMIT")
    streaming.lose_server()
    streaming.restore(backup, Target(name="", time="", lsn=lsn, by="lsn"))
    assert streaming.numbers() == []


@pytest.mark.parametrize(
    "until",
    [
        Target(name="never made", time="", lsn="0/0", by="name"),
        Target(name="", time="2999-01-01T00:00:00.000000Z", lsn="0/0", by="time"),
        Target(name="", time="", lsn="7F/0", by="lsn"),
    ],
    ids=lambda until: until.by,
)
def test_recovery_to_a_target_beyond_the_archive_fails_and_says_so(streaming, until):
    backup = streaming.back_up()
    streaming.flush()
    streaming.lose_server()
    with pytest.raises(HarnessError, match="recovery ended before configured recovery target was reached"):
        streaming.restore(backup, until)


def test_a_position_beyond_the_archive_is_found_before_the_restore(streaming):
    backup = streaming.back_up()
    assert streaming.findings(backup, Target(name="", time="", lsn="7F/0")) == ["WAL-GAP"]


# The archive.


def test_a_whole_archive_has_no_findings(streaming):
    backup = streaming.back_up()
    for n in (1001, 1002, 1003):
        streaming.insert(n)
        streaming.flush()
    assert streaming.findings(backup) == []


def test_a_removed_segment_is_found_although_recovery_ends_at_it_in_silence(streaming):
    backup = streaming.back_up()
    for n in (1001, 1002, 1003):
        streaming.insert(n)
        streaming.flush()
    whole = sorted(name for name in streaming.segments() if "." not in name)
    (streaming.job.archive / "wal" / whole[-2]).unlink()
    streaming.lose_server()
    (finding,) = streaming.method.check_archive(backup, streaming.job.archive, streaming.job)
    assert (finding.code, finding.count) == ("WAL-GAP", 1)
    assert whole[-2] in finding.seen
    streaming.restore(backup)
    assert streaming.numbers() == [1001]


@pytest.mark.parametrize(("start", "length"), [(0, 2), (8, 8)], ids=["page magic", "address"])
def test_a_segment_with_the_wrong_first_page_is_found(streaming, start, length):
    backup = streaming.back_up()
    for n in (1001, 1002):
        streaming.insert(n)
        streaming.flush()
    newest = max(name for name in streaming.segments() if "." not in name)
    with (streaming.job.archive / "wal" / newest).open("r+b") as file:
        file.seek(start)
        file.write(b"\x55" * length)
    assert streaming.findings(backup) == ["WAL-DAMAGED"]


def test_a_segment_that_cannot_be_read_stops_recovery_instead_of_ending_it(streaming):
    backup = streaming.back_up()
    streaming.insert(1001)
    streaming.flush()
    newest = max(name for name in streaming.segments() if "." not in name)
    streaming.lose_server()
    (streaming.job.archive / "wal" / newest).rename(streaming.directory / newest)
    # There by its name, and unreadable even for root.
    (streaming.job.archive / "wal" / newest).symlink_to("/proc/self/mem")
    streaming.method.restore(backup, streaming.server.handle, streaming.job)
    with pytest.raises(HarnessError, match="could not restore file"):
        streaming.server.start(seconds=60)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "archived"])
def test_a_restored_server_writes_nothing_into_the_archive(make_site, stream):
    site = make_site(stream=stream)
    backup = site.back_up()
    site.insert(1001)
    site.flush()
    site.lose_server()
    before = site.segments()
    site.restore(backup)
    site.insert(1002)
    site.execute("SELECT pg_switch_wal()", "CHECKPOINT", "INSERT INTO kept VALUES (1003)", "SELECT pg_switch_wal()")
    assert (site.one("SHOW archive_mode"), site.one("SHOW synchronous_standby_names")) == ("off", "")
    assert site.one("SELECT archived_count + failed_count FROM pg_stat_archiver") == 0
    assert site.segments() == before


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "archived"])
def test_paths_may_hold_spaces_quotes_and_percent_signs(make_site, stream):
    site = make_site(stream=stream, below='it\'s 100% "quoted" $HOME;')
    backup = site.back_up()
    site.insert(1001)
    site.flush()
    site.lose_server()
    site.restore(backup)
    assert site.numbers() == [1001]


def test_a_backup_of_a_restored_server_forgets_where_the_first_recovery_stopped(streaming):
    first = streaming.back_up()
    until = streaming.mark("time")
    streaming.flush()
    streaming.lose_server()
    streaming.restore(first, until)
    streaming.job = dataclasses.replace(streaming.job, archive=streaming.directory / "second archive", stream_wal=True)
    streaming.method.settings(streaming.job)
    streaming.method.start_archiving(streaming.server.handle, streaming.job)
    second = streaming.back_up(2)
    streaming.execute("DELETE FROM kept WHERE n > 1000")
    again = streaming.mark("name", "again")
    streaming.flush()
    streaming.lose_server()
    streaming.restore(second, again)
    assert streaming.numbers() == [1001]


# Waiting for the archive.


def test_a_commit_is_not_acknowledged_while_its_receiver_is_gone(streaming):
    (receiver,) = [running for running in streaming.processes.services if running.name == "pg_receivewal"]
    receiver.kill()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT%'"
    insert = threading.Thread(target=streaming.insert, args=[1001])
    insert.start()
    try:
        wait_until(lambda: streaming.one(waiting) == 1, seconds=10, interval=0.02, what="the commit waiting")
    finally:
        streaming.execute("ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
        insert.join()
    assert streaming.numbers() == [1001]


def test_a_flush_without_its_receiver_fails_at_once_and_says_why(streaming):
    (receiver,) = [running for running in streaming.processes.services if running.name == "pg_receivewal"]
    receiver.kill()
    streaming.execute("ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
    wait_until(lambda: streaming.one("SELECT count(*) FROM pg_stat_replication") == 0,
               seconds=10, interval=0.02, what="the receiver gone")  # fmt: skip
    streaming.insert(1001)
    with pytest.raises(HarnessError, match="enprivacy_archive is not connected to the server"):
        streaming.flush()


def test_a_flush_into_an_archive_that_is_gone_names_the_segment_that_failed(archiving):
    shutil.rmtree(archiving.job.archive)
    archiving.insert(1001)
    with pytest.raises(HarnessError, match=r"the server's archiver failed on 0{7}1[0-9A-F]{16}"):
        archiving.flush()


def test_a_receiver_that_is_not_let_in_ends_the_start_and_commits_go_on(make_site):
    site = make_site(stream=False)
    access = site.server.data / "pg_hba.conf"
    access.write_text("".join(line for line in access.read_text().splitlines(True) if "replication" not in line))
    site.execute("SELECT pg_reload_conf()")
    with pytest.raises(HarnessError, match=r"no pg_hba\.conf entry for replication connection"):
        wal.start_receiver(site.processes, site.server.handle, site.job.archive, seconds=20)
    site.insert(1001)
    assert site.one("SHOW synchronous_standby_names") == ""


def test_a_server_started_without_the_settings_is_told_of(streaming):
    job = dataclasses.replace(streaming.job, stream_wal=False)
    with pytest.raises(HarnessError, match=r"archive_mode and archive_library .*: off"):
        streaming.method.start_archiving(streaming.server.handle, job)


# The base backup.


def test_one_altered_byte_of_a_base_backup_ends_the_restore(streaming):
    backup = streaming.back_up()
    largest = max((backup / "base" / "base").rglob("*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)[0]
        file.seek(100)
        file.write(bytes([byte ^ 1]))
    streaming.lose_server()
    with pytest.raises(CommandFailed, match="checksum mismatch"):
        streaming.restore(backup)


def test_a_base_backup_without_its_manifest_is_refused_by_the_look_at_the_archive(streaming):
    backup = streaming.back_up()
    (backup / "base" / "backup_manifest").unlink()
    with pytest.raises(HarnessError, match="base backup manifest"):
        streaming.findings(backup)


def test_a_backup_is_closed_to_others(streaming):
    backup = streaming.back_up()
    assert [path.stat().st_mode & 0o777 for path in (backup, backup / "base")] == [0o700, 0o700]


def test_a_restore_never_goes_over_a_cluster(streaming):
    backup = streaming.back_up()
    with pytest.raises(HarnessError, match="it is there"):
        streaming.restore(backup)
    assert streaming.one("SELECT count(*) FROM kept") == 1000

"""Base backups with an archive of the log, on real servers that are killed and wiped."""

import contextlib
import dataclasses
import secrets
import shutil
import threading
from pathlib import Path

import pytest

from drills.contract import Job, Means, Target
from drills.methods.database import basebackup_incremental, basebackup_wal
from fixtures import wal
from fixtures.network import free_ports
from fixtures.postgres_tools import PostgresTools, find_postgres, find_unprivileged
from fixtures.processes import CommandFailed, Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, HarnessError, Redactor, wait_until

FIFTEEN = Path("/usr/lib/postgresql/15/bin")
SERVERS = {"the wheel": None, "Debian 15": FIFTEEN}


@dataclasses.dataclass
class Site:
    """One server with an archive, its backups, and what is restored from them on the same port."""

    directory: Path
    processes: Processes
    server: EmbeddedPostgres
    job: Job
    method: object = basebackup_wal.METHOD

    def start(self):
        self.server.initialise()
        self.server.ask_for(self.method.settings(self.job))
        self.server.start()
        self.method.start_archiving(self.server.handle, self.job)
        self.execute("CREATE TABLE kept (n int PRIMARY KEY)", "INSERT INTO kept SELECT generate_series(1, 1000)")

    def execute(self, *statements):
        with self.server.handle.connect("postgres") as connection:
            return [connection.execute(statement) for statement in statements]

    def one(self, query):
        with self.server.handle.connect("postgres") as connection:
            return connection.execute(query).fetchone()[0]

    def numbers(self):
        with self.server.handle.connect("postgres") as connection:
            return [n for (n,) in connection.execute("SELECT n FROM kept WHERE n > 1000 ORDER BY n")]

    def insert(self, *numbers):
        for n in numbers:
            self.execute(f"INSERT INTO kept VALUES ({n})")

    def back_up(self, number=1, previous=None):
        target = self.directory / f"set-{number}"
        target.mkdir()
        self.method.back_up(self.server.handle, target, dataclasses.replace(self.job, previous=previous))
        return target

    def flush(self):
        self.method.flush(self.server.handle, self.job)

    def lose_server(self):
        self.server.kill()
        self.server.remove()

    def restore(self, backup, until=None):
        self.method.restore(backup, self.server.handle, dataclasses.replace(self.job, until=until))
        self.server.own_files()
        self.server.start(seconds=60)

    def segments(self):
        place = self.job.archive / "wal"
        return {path.name: path.read_bytes() for path in place.iterdir()}

    def findings(self, backup, until=None):
        job = dataclasses.replace(self.job, until=until)
        return [finding.code for finding in self.method.check_archive(backup, self.job.archive, job)]


@pytest.fixture
def make_site(tmp_path):
    """Make a site with a running server; how it archives and what path it lies below are the test's to say."""
    with contextlib.ExitStack() as stack:

        def make(*, stream, below="site", bin_directory=None, method=basebackup_wal.METHOD):
            directory = tmp_path / below
            processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=directory / "logs",
                                  clock=Clock.start(), redactor=Redactor())  # fmt: skip
            tools = find_postgres(processes, bin_directory)
            unprivileged = find_unprivileged(processes, tools)
            server = EmbeddedPostgres(
                directory=directory / "postgresql", port=free_ports(1)[0], name="postgres", password="only-for-tests",
                tools=tools, unprivileged=unprivileged, processes=processes, start_seconds=60,
            )  # fmt: skip
            job = Job(processes=processes, jobs=2, seconds=60, recipient="", archive=directory / "archive",
                      stream_wal=stream, own=unprivileged.own)  # fmt: skip
            site = Site(directory=directory, processes=processes, server=server, job=job, method=method)
            stack.callback(lambda: [running.kill_tree() for running in processes.services])
            stack.callback(server.kill)
            site.start()
            return site

        yield make


@pytest.fixture
def streaming(make_site):
    return make_site(stream=True)


@pytest.fixture
def archiving(make_site):
    return make_site(stream=False)


def mark(site, by):
    """An instant between two writes: 1001 before it, 1002 after it."""
    site.insert(1001)
    query = "SELECT pg_create_restore_point('the mark')::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', %s)"
    with site.server.handle.connect("postgres") as connection:
        lsn, time = connection.execute(query, ['YYYY-MM-DD"T"HH24:MI:SS.US"Z"']).fetchone()
    site.insert(1002)
    return Target(name="the mark", time=time, lsn=lsn, by=by)


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
    until = mark(streaming, by)
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
    until = mark(streaming, "time")
    streaming.flush()
    streaming.lose_server()
    streaming.restore(first, until)
    streaming.job = dataclasses.replace(streaming.job, archive=streaming.directory / "second archive", stream_wal=True)
    streaming.method.settings(streaming.job)
    streaming.method.start_archiving(streaming.server.handle, streaming.job)
    second = streaming.back_up(2)
    streaming.insert(1003)
    again = mark_named(streaming, "again")
    streaming.flush()
    streaming.lose_server()
    streaming.restore(second, again)
    assert streaming.numbers() == [1001, 1003]


def mark_named(site, name):
    lsn = site.one(f"SELECT pg_create_restore_point('{name}')::text")
    return Target(name=name, time="", lsn=lsn, by="name")


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


# Increments.


@pytest.fixture
def incremental(make_site):
    method = basebackup_incremental.METHOD
    return make_site(stream=True, method=method)


def test_every_set_of_a_growing_chain_is_complete_by_itself(incremental):
    first = incremental.back_up(1)
    incremental.insert(1001)
    second = incremental.back_up(2, previous=first)
    assert sorted(path.name for path in second.iterdir()) == ["1-full", "2-incremental", "3-incremental"]
    incremental.insert(1002)
    shutil.rmtree(first)
    incremental.lose_server()
    assert incremental.findings(second) == []
    incremental.restore(second)
    assert incremental.numbers() == [1001, 1002]


def test_damage_to_the_newest_set_does_not_reach_the_one_before(incremental):
    first = incremental.back_up(1)
    second = incremental.back_up(2, previous=first)
    for path in second.rglob("PG_VERSION"):
        path.write_text("no version\n")
    incremental.lose_server()
    with pytest.raises(HarnessError):
        incremental.restore(second)
    shutil.rmtree(incremental.server.data, ignore_errors=True)
    incremental.restore(first)
    assert incremental.one("SELECT count(*) FROM kept") == 1000


def test_an_increment_is_smaller_than_what_it_builds_on(incremental):
    incremental.execute("CREATE TABLE wide AS SELECT repeat(md5(n::text), 60) AS t FROM generate_series(1, 5000) n")
    backup = incremental.back_up()
    full, increment = (
        sum(path.stat().st_size for path in (backup / part).rglob("*") if path.is_file())
        for part in ("1-full", "2-incremental")
    )
    assert increment < full / 4


def test_damage_that_combining_would_cover_up_is_seen_before(incremental):
    incremental.execute("CREATE TABLE wide AS SELECT repeat(md5(n::text), 60) AS t FROM generate_series(1, 5000) n")
    backup = incremental.back_up()
    largest = max((backup / "1-full" / "base").rglob("*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size - 8192)
    incremental.lose_server()
    with pytest.raises(CommandFailed, match="pg_verifybackup"):
        incremental.restore(backup)


@pytest.mark.parametrize("lacking", ["1-full", "2-incremental"])
def test_a_chain_that_lacks_a_part_is_refused(incremental, lacking):
    first = incremental.back_up(1)
    second = incremental.back_up(2, previous=first)
    shutil.rmtree(second / lacking)
    incremental.lose_server()
    with pytest.raises(HarnessError, match="the chain of backups"):
        incremental.restore(second)


def test_where_increments_are_not_to_be_had_the_reason_is_given(tmp_path):
    def means(version):
        tools = PostgresTools(directory=tmp_path, version=version, found="here")
        return Means(tools=tools, processes=None, commands={}, versioned_bucket=False)

    unavailable = basebackup_incremental.METHOD.unavailable
    assert unavailable(means("15.8")) == "PostgreSQL 15.8 makes no incremental backups; 17 does"
    assert unavailable(means("17.2")) == f"no pg_combinebackup in {tmp_path}"
    (tmp_path / "pg_combinebackup").touch()
    assert unavailable(means("17.2")) == ""

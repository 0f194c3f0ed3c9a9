"""Barman's own traits; what every database method must do is tested over all of them."""

import dataclasses
import json
import secrets
import shutil
from pathlib import Path

import pytest

from drills.contract import Job, Means, Target
from drills.methods.database import barman
from drills.methods.database.barman import LABEL_FILE, METHOD
from fixtures.network import free_ports
from fixtures.postgres_tools import PostgresTools, find_postgres, find_unprivileged
from fixtures.processes import CommandFailed, Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, HarnessError, Redactor, wait_until

FIFTEEN = Path("/usr/lib/postgresql/15/bin")


def means(processes, tools):
    return Means(tools=tools, processes=processes, commands={}, versioned_bucket=False)


class Bench:
    """An archived server, and what a drill does with it."""

    def __init__(self, place, processes, tools, *, stream_wal):
        self.place = place
        self.unprivileged = find_unprivileged(processes, tools)
        self.server = EmbeddedPostgres(
            directory=place / "server", port=free_ports(1)[0], name="model", password="only-for-tests", tools=tools,
            unprivileged=self.unprivileged, processes=processes, start_seconds=60,
        )  # fmt: skip
        self.database = self.server.handle
        self.job = Job(processes=processes, jobs=2, seconds=60, recipient="", archive=place / "archive",
                       stream_wal=stream_wal, own=lambda path: self.unprivileged.own(path))  # fmt: skip
        self.job.archive.mkdir(mode=0o700)

    def spin_up(self):
        self.server.initialise()
        self.server.ask_for(METHOD.settings(self.job))
        self.server.start()
        METHOD.start_archiving(self.database, self.job)
        self.execute("CREATE DATABASE model", name="postgres")
        self.execute("CREATE TABLE mark (text text)")

    def execute(self, statement, name="model"):
        with self.database.connect(name) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def mark(self, text):
        self.execute(f"INSERT INTO mark VALUES ('{text}')")

    def marks(self):
        return [text for (text,) in self.execute("SELECT text FROM mark ORDER BY text")]

    def back_up(self, name, previous=None):
        target = self.place / name
        target.mkdir()
        METHOD.back_up(self.database, target, dataclasses.replace(self.job, previous=previous))
        return target

    def target(self):
        ((time, lsn),) = self.execute(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
            " pg_create_restore_point('wanted')::text"
        )
        return Target(name="wanted", time=time, lsn=lsn)

    def lose_server(self):
        self.server.kill()
        self.server.remove()

    def restore(self, backup, **changes):
        """From nothing to a server that takes writes."""
        self.lose_server()
        METHOD.restore(backup, self.database, dataclasses.replace(self.job, **changes))
        self.server.own_files()
        self.server.start(seconds=60)
        wait_until(lambda: self.execute("SELECT pg_is_in_recovery()") == [(False,)], seconds=60, interval=0.02,
                   what="the end of recovery")  # fmt: skip

    def live(self):
        """A life in which the server is lost after two backups; marks stand around the target."""
        self.spin_up()
        self.first = self.back_up("first")
        self.mark("1 before")
        self.until = self.target()
        self.mark("2 after")
        self.second = self.back_up("second", previous=self.first)
        self.mark("3 flushed")
        METHOD.flush(self.database, self.job)
        self.mark("4 committed")
        self.lose_server()


def made(place, processes, bin_directory, *, stream_wal):
    tools = find_postgres(processes, bin_directory)
    if reason := METHOD.unavailable(means(processes, tools)):
        pytest.skip(reason)
    bench = Bench(place, processes, tools, stream_wal=stream_wal)
    bench.live()
    return bench


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path_factory.mktemp("barman") / "logs",
                          clock=Clock.start(), redactor=Redactor())  # fmt: skip
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture(scope="module")
def lost(tmp_path_factory, processes):
    """What is left of the wheel's server whose log was streamed."""
    return made(tmp_path_factory.mktemp("lost"), processes, None, stream_wal=True)


@pytest.fixture(scope="module")
def lost_fifteen(tmp_path_factory, processes):
    """What is left of a distribution's server that archived whole segments."""
    if not (FIFTEEN / "initdb").is_file():
        pytest.skip(f"no PostgreSQL server in {FIFTEEN}")
    return made(tmp_path_factory.mktemp("fifteen"), processes, FIFTEEN, stream_wal=False)


@pytest.fixture
def archive(lost, tmp_path):
    """A copy of the archive, to be damaged."""
    return shutil.copytree(lost.job.archive, tmp_path / "archive")


def label(backup):
    return json.loads((backup / LABEL_FILE).read_text())["backup"]["backup_id"]


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def contents(archive):
    return {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}


def codes(findings):
    return [finding.code for finding in findings]


@pytest.mark.parametrize("by", ["name", "time", "lsn"])
def test_the_mark_before_the_target_is_there_and_the_one_after_it_is_not(lost, by):
    lost.restore(lost.first, until=dataclasses.replace(lost.until, by=by))
    assert lost.marks() == ["1 before"]


def test_with_streaming_no_committed_mark_is_lost(lost):
    lost.restore(lost.first)
    assert lost.marks() == ["1 before", "2 after", "3 flushed", "4 committed"]


def test_without_streaming_only_what_was_written_after_the_last_archived_segment_is_lost(lost_fifteen):
    lost_fifteen.restore(lost_fifteen.first)
    assert lost_fifteen.marks() == ["1 before", "2 after", "3 flushed"]


def test_without_streaming_a_target_is_reached_as_well(lost_fifteen):
    lost_fifteen.restore(lost_fifteen.first, until=lost_fifteen.until)
    assert lost_fifteen.marks() == ["1 before"]


def test_the_later_set_restores_too(lost):
    lost.restore(lost.second)
    assert lost.marks() == ["1 before", "2 after", "3 flushed", "4 committed"]


@pytest.mark.parametrize("way", ["lost", "lost_fifteen"])
def test_the_restored_server_archives_nothing_and_waits_for_nobody(request, way):
    bench = request.getfixturevalue(way)
    before = contents(bench.job.archive)
    bench.restore(bench.second)
    bench.mark("committed")
    bench.execute("SELECT pg_switch_wal()")
    bench.execute("CHECKPOINT")
    assert bench.execute("SHOW archive_mode") + bench.execute("SHOW synchronous_standby_names") == [("off",), ("",)]
    assert contents(bench.job.archive) == before


def test_a_restored_server_goes_on_in_a_timeline_of_its_own(lost):
    lost.restore(lost.second)
    lost.execute("CHECKPOINT")
    assert lost.execute("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]


def test_the_receiver_ends_with_its_server(lost):
    receivers = [running for running in lost.job.processes.services if running.name == "barman-receive-wal"]
    wait_until(lambda: not any(running.alive() for running in receivers), seconds=20, interval=0.05,
               what="the end of the receiver")  # fmt: skip
    assert receivers


@pytest.mark.parametrize("way", ["lost", "lost_fifteen"])
def test_a_whole_archive_has_no_findings(request, way):
    bench = request.getfixturevalue(way)
    assert METHOD.check_archive(bench.first, bench.job.archive, bench.job) == []


def test_a_damaged_backup_is_found_and_does_not_restore(lost, archive):
    """Barman itself restores it and ends with 0."""
    files = (archive / "barman/drill/base" / label(lost.first) / "data/base").glob("*/*")
    damage(max(files, key=lambda path: path.stat().st_size))
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]
    assert codes(METHOD.check_archive(lost.second, archive, lost.job)) == []
    with pytest.raises(CommandFailed, match="checksum mismatch"):
        lost.restore(lost.first, archive=archive)


def test_a_segment_that_is_gone_is_found(lost, archive):
    sorted(archive.glob("barman/drill/wals/*/0*"))[-2].unlink()
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["WAL-GAP"]


def test_a_segment_that_was_cut_short_is_found(lost, archive):
    sorted(archive.glob("barman/drill/wals/*/0*"))[-2].write_bytes(b"")
    (finding,) = METHOD.check_archive(lost.first, archive, lost.job)
    assert finding.code == "WAL-DAMAGED"
    assert str(archive) in finding.where


def test_an_archive_that_ends_before_the_target_is_found(lost):
    job = dataclasses.replace(lost.job, until=dataclasses.replace(lost.until, lsn="0/FF000000"))
    assert codes(METHOD.check_archive(lost.first, lost.job.archive, job)) == ["WAL-GAP"]


SPOILT = {
    "cut short": lambda text: text[:-9],
    "another backup": lambda text: text.replace('"backup_id": "2', '"backup_id": "3'),
    "another size": lambda text: text.replace('"backup_size_bytes": ', '"backup_size_bytes": 1'),
    "something else": lambda text: "[]",
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoiled_label_does_not_restore(lost, tmp_path, spoilt):
    (tmp_path / LABEL_FILE).write_text(SPOILT[spoilt]((lost.first / LABEL_FILE).read_text()))
    with pytest.raises(HarnessError, match=r"label .*barman\.json"):
        lost.restore(tmp_path)


def test_it_does_not_restore_over_files(lost):
    lost.lose_server()
    lost.server.data.mkdir()
    with pytest.raises(HarnessError, match="it is there"):
        METHOD.restore(lost.first, lost.database, lost.job)


def test_no_password_stands_in_configuration_and_log(lost):
    logs = lost.job.processes.logs
    files = [lost.job.archive / "barman.conf", logs / "barman.conf", logs / "barman.log"]
    assert [file for file in files if lost.database.password in file.read_text()] == []


@pytest.fixture
def said(tmp_path, monkeypatch, processes):
    """Why Barman is unavailable where only these programs are on PATH, each printing one line."""

    def unavailable(**programs):
        for name, line in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\necho '{line}'\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(barman, "OWN_PROGRAM", barman.CHECKOUT / ".cache" / "absent" / "barman")
        tools = PostgresTools(directory=tmp_path, version="17.1", found="")
        return METHOD.unavailable(means(processes, tools))

    return unavailable


def test_without_barman_it_says_so(said):
    assert said(rsync="") == "no program barman in .cache/absent below the checkout or on PATH"


def test_without_rsync_it_says_so(said):
    assert said(barman="--partial-wal") == "no program rsync on PATH, by which Barman restores"


def test_a_barman_that_would_lose_the_segment_being_received_is_refused(said):
    assert said(barman="3.4.0", rsync="").startswith("Barman 3.4.0 cannot restore the segment")


def test_a_barman_that_restores_it_is_accepted(said):
    assert said(barman="--partial-wal", rsync="") == ""

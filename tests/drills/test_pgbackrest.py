"""pgBackRest's own traits; what every database method must do is tested over all of them."""

import dataclasses
import json
import secrets
import shutil
from pathlib import Path

import psycopg
import pytest

from drills.contract import Job, Means, Target
from drills.methods.database.pgbackrest import LABEL_FILE, METHOD
from fixtures.network import free_ports
from fixtures.postgres_tools import PostgresTools, find_postgres, find_unprivileged
from fixtures.processes import CommandFailed, Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, HarnessError, Redactor, wait_until

FIFTEEN = Path("/usr/lib/postgresql/15/bin")


def means(processes, tools):
    return Means(tools=tools, processes=processes, commands={}, versioned_bucket=False)


def server_tools(processes):
    """Those of the server that distributions ship beside pgBackRest; a test without them skips."""
    tools = find_postgres(processes, FIFTEEN if (FIFTEEN / "initdb").is_file() else None)
    if reason := METHOD.unavailable(means(processes, tools)):
        pytest.skip(reason)
    return tools


class Bench:
    """A server of version 15 that is archived, and what a drill does with it."""

    def __init__(self, place, processes, tools):
        self.place = place
        self.unprivileged = find_unprivileged(processes, tools)
        self.server = EmbeddedPostgres(
            directory=place / "server", port=free_ports(1)[0], name="model", password="only-for-tests", tools=tools,
            unprivileged=self.unprivileged, processes=processes, start_seconds=60,
        )  # fmt: skip
        self.database = self.server.handle
        self.job = Job(processes=processes, jobs=2, seconds=60, recipient="", archive=place / "archive",
                       own=lambda path: self.unprivileged.own(path))  # fmt: skip
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


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path_factory.mktemp("pgbackrest") / "logs",
                          clock=Clock.start(), redactor=Redactor())  # fmt: skip
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture(scope="module")
def lost(tmp_path_factory, processes):
    """What is left of a server: two backup sets and an archive with marks around the target."""
    bench = Bench(tmp_path_factory.mktemp("lost"), processes, server_tools(processes))
    bench.spin_up()
    bench.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    bench.first = bench.back_up("first")
    bench.mark("1 before")
    bench.until = bench.target()
    bench.mark("2 after")
    bench.second = bench.back_up("second", previous=bench.first)
    bench.mark("3 flushed")
    METHOD.flush(bench.database, bench.job)
    bench.mark("4 never archived")
    bench.lose_server()
    yield bench
    bench.server.kill()


@pytest.fixture
def archive(lost, tmp_path):
    """A copy of the archive, to be damaged."""
    return shutil.copytree(lost.job.archive, tmp_path / "archive")


def damage(archive, pattern, which=lambda path: path.stat().st_size):
    file = max((archive / "repository").glob(pattern), key=which)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def label(backup):
    return json.loads((backup / LABEL_FILE).read_text())["backup"]["label"]


def codes(findings):
    return [finding.code for finding in findings]


@pytest.mark.parametrize("by", ["name", "time", "lsn"])
def test_the_mark_before_the_target_is_there_and_the_one_after_it_is_not(lost, by):
    lost.restore(lost.first, until=dataclasses.replace(lost.until, by=by))
    assert lost.marks() == ["1 before"]


def test_without_a_target_only_what_was_written_after_the_last_archived_segment_is_lost(lost):
    lost.restore(lost.first)
    assert lost.marks() == ["1 before", "2 after", "3 flushed"]


def test_the_later_set_restores_too(lost):
    lost.restore(lost.second)
    assert lost.marks() == ["1 before", "2 after", "3 flushed"]


def test_a_target_before_the_backup_fails(lost):
    with pytest.raises((HarnessError, psycopg.OperationalError)):
        lost.restore(lost.second, until=lost.until)
    assert "recovery ended before configured recovery target was reached" in lost.server.running.errors.read_text()


def test_the_restored_server_archives_nothing_and_waits_for_nobody(lost):
    before = sorted((lost.job.archive / "repository").rglob("*"))
    lost.restore(lost.second)
    lost.mark("committed")
    lost.execute("SELECT pg_switch_wal()")
    lost.execute("CHECKPOINT")
    assert lost.execute("SHOW archive_mode") == [("off",)]
    assert sorted((lost.job.archive / "repository").rglob("*")) == before


def test_a_first_backup_is_a_full_one_and_an_increment_and_a_later_one_an_increment(lost):
    labels = sorted(path.name for path in (lost.job.archive / "repository/backup/drill").glob("20*"))
    assert [name[-1] for name in labels] == ["F", "I", "I"]
    assert [label(lost.first), label(lost.second)] == labels[1:]


def test_a_whole_archive_has_no_findings(lost):
    assert METHOD.check_archive(lost.first, lost.job.archive, lost.job) == []


def test_a_damaged_file_of_the_backup_is_found(lost, archive):
    damage(archive, "backup/drill/*F/pg_data/base/*/*.lz4")
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]


def test_a_damaged_segment_is_found(lost, archive):
    # The newest: what lies before the backup's start is not needed to restore it.
    damage(archive, "archive/drill/*/*/*.lz4", which=lambda path: path.name)
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["WAL-DAMAGED"]


def test_damage_to_a_later_increment_does_not_speak_against_the_one_before(lost, archive):
    damage(archive, f"backup/drill/{label(lost.second)}/pg_data/global/pg_control.lz4")
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == []
    assert codes(METHOD.check_archive(lost.second, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]


def test_a_segment_that_is_gone_is_found(lost, archive):
    sorted((archive / "repository").glob("archive/drill/*/*/*.lz4"))[-2].unlink()
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["WAL-GAP"]


def test_an_archive_that_ends_before_the_target_is_found(lost):
    beyond = dataclasses.replace(lost.until, lsn="0/FF000000")
    assert codes(METHOD.check_archive(lost.first, lost.job.archive, dataclasses.replace(lost.job, until=beyond))) == [
        "WAL-GAP"
    ]


def test_a_backup_that_the_repository_lost_does_not_restore(lost, archive):
    shutil.rmtree(archive / "repository/backup/drill" / label(lost.second))
    assert codes(METHOD.check_archive(lost.second, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]
    with pytest.raises(CommandFailed, match="exit code"):
        lost.restore(lost.second, archive=archive)


SPOILT = {
    "cut short": lambda text: text[:-9],
    "another label": lambda text: text.replace('"label": "2', '"label": "3'),
    "another size": lambda text: text.replace('"size": ', '"size": 1'),
    "something else": lambda text: "[]",
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoiled_label_does_not_restore(lost, tmp_path, spoilt):
    file = tmp_path / LABEL_FILE
    file.write_text(SPOILT[spoilt]((lost.first / LABEL_FILE).read_text()))
    with pytest.raises(HarnessError, match=r"label .*pgbackrest\.json"):
        lost.restore(tmp_path)


def test_it_does_not_restore_over_files(lost):
    lost.lose_server()
    lost.server.data.mkdir()
    with pytest.raises(HarnessError, match="it is there"):
        METHOD.restore(lost.first, lost.database, lost.job)


def test_a_backup_into_a_damaged_repository_fails(tmp_path, processes):
    bench = Bench(tmp_path, processes, server_tools(processes))
    bench.spin_up()
    METHOD.flush(bench.database, bench.job)
    damage(bench.job.archive, "archive/drill/*/*/*.lz4")
    with pytest.raises(HarnessError, match=r"pgbackrest verify: .*status: error"):
        bench.back_up("set", previous=tmp_path)  # an increment on nothing is made a full backup: one is enough here


def test_every_place_that_it_uses_lies_in_the_archive(lost):
    """An ordinary user may not look into the default ones."""
    lines = (lost.job.archive / "pgbackrest.conf").read_text().splitlines()
    places = dict(line.split("=") for line in lines if "-path=" in line)
    assert {"repo1-path", "lock-path", "spool-path"} <= places.keys()
    assert all(Path(place).is_relative_to(lost.place) for place in places.values())


def test_no_password_stands_in_the_configuration(lost):
    assert lost.database.password not in (lost.job.archive / "pgbackrest.conf").read_text()


@pytest.mark.parametrize(
    ("shown", "version", "reason"),
    [
        ("pgBackRest 2.45", "17.4", "pgBackRest 2.45 takes PostgreSQL 15; PostgreSQL 17 needs 2.53.1 or later"),
        ("pgBackRest 2.53", "17.4", "pgBackRest 2.53 takes PostgreSQL 15, 16; PostgreSQL 17 needs 2.53.1 or later"),
        ("pgBackRest 2.53.1", "17.4", ""),
        ("pgBackRest 2.57.0", "18.0", ""),
        ("pgBackRest 2.60", "19.0", "not known whether pgBackRest 2.60 takes PostgreSQL 19: known are 15, 16, 17, 18"),
        ("no version", "15.1", "says not"),
    ],
)  # fmt: skip
def test_it_says_which_server_the_installed_version_takes(tmp_path, monkeypatch, processes, shown, version, reason):
    program = tmp_path / "pgbackrest"
    program.write_text(f"#!/bin/sh\necho '{shown}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    seen = METHOD.unavailable(means(processes, PostgresTools(directory=tmp_path, version=version, found="")))
    assert seen == reason or (reason == "says not" and "does not say which version" in seen)


def test_without_the_program_it_says_so(tmp_path, monkeypatch, processes):
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = PostgresTools(directory=tmp_path, version="15.1", found="")
    assert METHOD.unavailable(means(processes, tools)) == "no program pgbackrest on PATH"

"""pgBackRest's own traits; what every database method must do is tested over all of them."""

import dataclasses
import json
import shutil
from pathlib import Path

import psycopg
import pytest

from drills.methods.database.pgbackrest import LABEL_FILE, METHOD
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import CommandFailed
from reports.records import HarnessError


@pytest.fixture(scope="module")
def lost(make_bench):
    """What is left of a distribution's server, which waited for nobody else's receiver either."""
    return make_bench(METHOD, fifteen=True).live("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")


@pytest.fixture
def archive(lost, tmp_path):
    """A copy of the archive, to be damaged."""
    return shutil.copytree(lost.job.archive, tmp_path / "archive")


@pytest.fixture
def damage(flip):
    """Damage the largest of some files of a repository, or the last by another measure."""

    def change(archive, pattern, which=lambda path: path.stat().st_size):
        flip(max((archive / "repository").glob(pattern), key=which))

    return change


def label(backup):
    return json.loads((backup / LABEL_FILE).read_text())["backup"]["label"]


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


def test_a_damaged_file_of_the_backup_is_found(lost, archive, damage, codes):
    damage(archive, "backup/drill/*F/pg_data/base/*/*.lz4")
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]


def test_a_damaged_segment_is_found(lost, archive, damage, codes):
    # The newest: what lies before the backup's start is not needed to restore it.
    damage(archive, "archive/drill/*/*/*.lz4", which=lambda path: path.name)
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["WAL-DAMAGED"]


def test_damage_to_a_later_increment_does_not_speak_against_the_one_before(lost, archive, damage, codes):
    damage(archive, f"backup/drill/{label(lost.second)}/pg_data/global/pg_control.lz4")
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == []
    assert codes(METHOD.check_archive(lost.second, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]


def test_a_segment_that_is_gone_is_found(lost, archive, codes):
    sorted((archive / "repository").glob("archive/drill/*/*/*.lz4"))[-2].unlink()
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["WAL-GAP"]


def test_an_archive_that_ends_before_the_target_is_found(lost, codes):
    beyond = dataclasses.replace(lost.until, lsn="0/FF000000")
    assert codes(METHOD.check_archive(lost.first, lost.job.archive, dataclasses.replace(lost.job, until=beyond))) == [
        "WAL-GAP"
    ]


def test_a_backup_that_the_repository_lost_does_not_restore(lost, archive, codes):
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


def test_a_backup_into_a_damaged_repository_fails(make_bench, tmp_path, damage):
    bench = make_bench(METHOD, fifteen=True)
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
def test_it_says_which_server_the_installed_version_takes(tmp_path, monkeypatch, means, shown, version, reason):
    program = tmp_path / "pgbackrest"
    program.write_text(f"#!/bin/sh\necho '{shown}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    seen = METHOD.unavailable(means(PostgresTools(directory=tmp_path, version=version, found="")))
    assert seen == reason or (reason == "says not" and "does not say which version" in seen)


def test_without_the_program_it_says_so(tmp_path, monkeypatch, means):
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = PostgresTools(directory=tmp_path, version="15.1", found="")
    assert METHOD.unavailable(means(tools)).startswith("no program pgbackrest on PATH: docs/")

"""Barman's own traits; what every database method must do is tested over all of them."""

import dataclasses
import json
import shutil

import pytest

from drills.methods.database import barman
from drills.methods.database.barman import LABEL_FILE, METHOD
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import CommandFailed
from reports.records import HarnessError, wait_until


@pytest.fixture(scope="module")
def lost(make_bench):
    """What is left of the wheel's server whose log was streamed."""
    return make_bench(METHOD, fifteen=False).live()


@pytest.fixture(scope="module")
def lost_fifteen(make_bench):
    """What is left of a distribution's server that archived whole segments."""
    return make_bench(METHOD, fifteen=True, stream_wal=False).live()


@pytest.fixture
def archive(lost, tmp_path):
    """A copy of the archive, to be damaged."""
    return shutil.copytree(lost.job.archive, tmp_path / "archive")


def label(backup):
    return json.loads((backup / LABEL_FILE).read_text())["backup"]["backup_id"]


def contents(archive):
    return {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}


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


def test_a_damaged_backup_is_found_and_does_not_restore(lost, archive, codes, flip):
    """Barman itself restores it and ends with 0."""
    files = (archive / "barman/drill/base" / label(lost.first) / "data/base").glob("*/*")
    flip(max(files, key=lambda path: path.stat().st_size))
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["BACKUP-ARTEFACT-ALTERED"]
    assert codes(METHOD.check_archive(lost.second, archive, lost.job)) == []
    with pytest.raises(CommandFailed, match="checksum mismatch"):
        lost.restore(lost.first, archive=archive)


def test_a_segment_that_is_gone_is_found(lost, archive, codes):
    sorted(archive.glob("barman/drill/wals/*/0*"))[-2].unlink()
    assert codes(METHOD.check_archive(lost.first, archive, lost.job)) == ["WAL-GAP"]


def test_a_segment_that_was_cut_short_is_found(lost, archive):
    sorted(archive.glob("barman/drill/wals/*/0*"))[-2].write_bytes(b"")
    (finding,) = METHOD.check_archive(lost.first, archive, lost.job)
    assert finding.code == "WAL-DAMAGED"
    assert str(archive) in finding.where


def test_an_archive_that_ends_before_the_target_is_found(lost, codes):
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
def said(tmp_path, monkeypatch, means):
    """Why Barman is unavailable where only these programs are on PATH, each printing one line."""

    def unavailable(**programs):
        for name, line in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\necho '{line}'\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(barman, "OWN_PROGRAM", barman.CHECKOUT / ".cache" / "absent" / "barman")
        tools = PostgresTools(directory=tmp_path, version="17.1", found="")
        return METHOD.unavailable(means(tools))

    return unavailable


def test_without_barman_it_says_so(said):
    assert said(rsync="").startswith("no program barman in .cache/absent below the checkout or on PATH: docs/")


def test_without_rsync_it_says_so(said):
    assert said(barman="--partial-wal") == "no program rsync on PATH, by which Barman restores"


def test_a_barman_that_would_lose_the_segment_being_received_is_refused(said):
    assert said(barman="3.4.0", rsync="").startswith("Barman 3.4.0 cannot restore the segment")


def test_a_barman_that_restores_it_is_accepted(said):
    assert said(barman="--partial-wal", rsync="") == ""

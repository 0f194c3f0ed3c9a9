"""The controls that work on copies of files: each is caught, each twin is silent, the originals stay as they were."""

import types

import pytest

from checks.quiet import list_archive
from drills.contract import Job, Target
from drills.controls import archive, artefacts, backup, quiet
from fixtures.backup_set import COMPONENTS, MANIFEST, BackupSet, sha256_of, write_manifest
from fixtures.wal_segments import LONG_HEADER, WalRange, find_gaps
from reports.records import utc_stamp

SIZE = 1 << 20
ABOUT = {
    "deployment": "acme",
    "system_identifier": "7601",
    "server_version": 170010,
    "tools": {"postgresql": "17.10"},
}


class Method:
    """Keeps an archive of whole segments of 1 MiB."""

    def settings(self, job): ...

    def streams(self, wanted): ...
    def start_archiving(self, source, job): ...

    def flush(self, source, job): ...

    def check_archive(self, backup, archive, job):
        assert archive == job.archive
        return find_gaps(archive, WalRange(timeline=1, start="0/200000", end="0/280000"), until=job.until.lsn)


@pytest.fixture
def job(tmp_path):
    return Job(processes=None, jobs=1, seconds=1, recipient="", archive=tmp_path / "archive")


@pytest.fixture
def bench(tmp_path, job):
    made = BackupSet(directory=tmp_path / "set", apart=tmp_path / "apart")
    for component in COMPONENTS:
        (made.place(component) / "deeper").mkdir(parents=True)
        for size in (1, 100, 3 << 20):
            (made.place(component) / "deeper" / f"{size}.dat").write_bytes(b"x" * size)
    write_manifest(made, ABOUT | {"made_utc": utc_stamp()})
    (job.archive / "wal").mkdir(parents=True)
    for number in range(2, 6):
        header = LONG_HEADER.pack(0xD116, 2, 1, number * SIZE, 0, 7601, SIZE)
        (job.archive / "wal" / f"{1:08X}{0:08X}{number:08X}").write_bytes(header.ljust(SIZE, b"\0"))
    outcome = types.SimpleNamespace(
        made=types.SimpleNamespace(
            instant=types.SimpleNamespace(target=Target(name="instant", time="", lsn="0/380000")),
            manifest_sha256=sha256_of(made.directory / MANIFEST),
            system_identifier="7601",
        )
    )
    directory = tmp_path / "scratch"
    directory.mkdir()
    return types.SimpleNamespace(
        backup=made,
        directory=directory,
        method=Method(),
        job=job,
        outcome=outcome,
        deployment=types.SimpleNamespace(name="acme"),
        expected=types.SimpleNamespace(database=types.SimpleNamespace(server_version=170010)),
        site=types.SimpleNamespace(profile=types.SimpleNamespace(backup_max_age_ns=10**12)),
    )


def on_files(bench, family):
    """Of the family of the quiet copy only the controls of the archive; the others ask the database."""
    return [control for control in family.controls(bench) if family is not quiet or "archive" in control.name]


def named(bench, family, name):
    return next(control for control in family.controls(bench) if control.name == name)


@pytest.mark.parametrize("family", [archive, artefacts, backup, quiet])
def test_each_control_is_caught_each_twin_is_silent_and_nothing_is_left(bench, family):
    before = list_archive(bench.backup.directory) | list_archive(bench.job.archive)
    for control in on_files(bench, family):
        seen = control.look()
        codes = {finding.code for finding in seen.findings}
        assert seen.victim, control.name
        assert codes & set(control.expects) if control.expects else not codes, control.name
    assert list_archive(bench.backup.directory) | list_archive(bench.job.archive) == before
    assert list(bench.directory.iterdir()) == []


def test_a_small_file_is_broken_rather_than_a_large_one_copied(bench):
    assert named(bench, artefacts, "dump altered").look().victim == "database/deeper/100.dat"


def test_where_all_files_are_large_the_smallest_is_taken(bench):
    for small in (1, 100):
        (bench.backup.place("database") / "deeper" / f"{small}.dat").unlink()
    (bench.backup.place("database") / "larger.dat").write_bytes(b"x" * (4 << 20))
    write_manifest(bench.backup, ABOUT)
    assert named(bench, artefacts, "dump altered").look().victim == f"database/deeper/{3 << 20}.dat"


def test_an_archive_without_the_target_s_segment_leaves_nothing_to_break(bench):
    (bench.job.archive / "wal" / f"{1:08X}{0:08X}{3:08X}").unlink()
    assert named(bench, archive, "log with a gap").look().victim == ""

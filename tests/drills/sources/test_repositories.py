"""Repositories of pgBackRest and Barman, as an operator keeps them: read, restored to their logs' end, left alone."""

import dataclasses
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from drills.contract import Job, Means
from drills.methods.database.barman import METHOD as BARMAN
from drills.methods.database.pgbackrest import METHOD as PGBACKREST
from drills.sources.physical import recovered_until
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.shadow_settings import Kept
from reports.records import HarnessError, utc_now

FIFTEEN = Path("/usr/lib/postgresql/15/bin")
LATER = "INSERT INTO app.t VALUES (1000, 'after the backup')"


class Keeping:
    """A server whose operator keeps a repository; ``kept`` is what his profile says of it."""

    def __init__(self, method, server, job, place, sources):
        self.method, self.server, self.job, self.place, self.sources = method, server, job, place, sources
        server.handle.connect("postgres").close()

    def back_up(self, name):
        target = self.place / name
        target.mkdir()
        self.method.back_up(self.server.handle, target, self.job)

    def live(self):
        """A tablespace, a backup, then a row that only the log holds."""
        self.sources["run"](self.server.handle, "CREATE TABLE app.far (a int) TABLESPACE far", "")
        self.back_up("first")
        self.sources["run"](self.server.handle, LATER, "")
        self.method.flush(self.server.handle, self.job)


@pytest.fixture(scope="session")
def keeping(tmp_path_factory, processes, make_server, request):
    def make(method, tools, sources):
        if reason := method.unavailable(Means(tools=tools, processes=processes, commands={}, versioned_bucket=False)):
            pytest.skip(reason)
        place = tmp_path_factory.mktemp("keeping")
        unprivileged = find_unprivileged(processes, tools)
        job = Job(processes=processes, jobs=2, seconds=60, recipient="", archive=place / "archive", stream_wal=False,
                  own=lambda path: unprivileged.own(path))  # fmt: skip
        job.archive.mkdir(mode=0o700)
        (place / "far").mkdir(mode=0o700)
        unprivileged.own(place / "far")

        def start(server):
            method.start_archiving(server.handle, job)
            sources["run"](server.handle, f"CREATE TABLESPACE far LOCATION '{place / 'far'}'", "postgres")

        server = make_server(tools, method.settings(job), start)
        made = Keeping(method, server, job, place, sources)
        made.live()
        return made

    return make


@pytest.fixture(scope="session")
def fifteen(processes):
    if not (FIFTEEN / "initdb").is_file():
        pytest.skip(f"no PostgreSQL server in {FIFTEEN}")
    return find_postgres(processes, FIFTEEN)


HELPERS = {}


@pytest.fixture(scope="session")
def pgbackrest(keeping, fifteen):
    made = keeping(PGBACKREST, fifteen, HELPERS)
    # What an operator may have in his configuration and must not happen here.
    configuration = made.job.archive / "pgbackrest.conf"
    text = configuration.read_text().replace("pg1-port", "pg1-host=production.invalid\npg1-port")
    made.configuration = made.place / "operator.conf"
    made.configuration.write_text(
        text.replace("lock-path", "#").replace("spool-path", "#")
        + "\n[global:restore]\nlink-all=y\ndelta=y\nrecovery-option=primary_conninfo=host=production.invalid\n"
    )
    made.kept = Kept(source="pgbackrest", stanza="drill", configuration=made.configuration)
    made.repository = made.job.archive / "repository"
    return made


@pytest.fixture(scope="session")
def barman(keeping, tools):
    made = keeping(BARMAN, tools, HELPERS)
    beside = made.place / "barman.d"
    beside.mkdir()
    (beside / "drill.conf").write_text(
        (made.job.archive / "barman.conf").read_text() + "post_recovery_script = touch /nowhere/at/all\n"
    )
    made.configuration = made.place / "barman.conf"
    made.configuration.write_text(
        f"[barman]\nbarman_home = {made.job.archive / 'barman'}\nbarman_user = somebody-else\n"
        f"log_file = {made.job.archive / 'barman.log'}\nconfiguration_files_directory = {beside}\n"
    )
    made.kept = Kept(source="barman", server="drill", configuration=made.configuration)
    made.repository = made.job.archive
    return made


@pytest.fixture(params=["pgbackrest", "barman"])
def kept(request, sources):
    HELPERS.update(sources)
    return request.getfixturevalue(request.param)


def instant_age(stamp):
    return utc_now() - datetime.fromisoformat(stamp.replace("Z", "+00:00"))


def test_the_newest_backup_comes_back_to_its_logs_end_and_the_repository_is_left_alone(
    kept, fetch, restore, sources
):  # fmt: skip
    tools = kept.server.handle.tools
    before, expected = sources["files_of"](kept.repository), sources["state"](kept.server.handle)
    fetched = fetch(kept.kept, tools=tools, database=kept.server.handle)
    assert (fetched.form, fetched.findings, fetched.not_tested) == ("files", (), ())
    sandbox, findings = restore(fetched, tools)
    assert findings == []
    assert sources["state"](sandbox.database) == expected
    until = recovered_until(sandbox)
    assert timedelta(0) < instant_age(until) < timedelta(minutes=10)
    assert until > fetched.instant
    with sandbox.database.connect() as connection:
        connection.execute("INSERT INTO app.t VALUES (2000, 'of the sandbox')")
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
        names = "archive_mode", "archive_command", "primary_conninfo", "unix_socket_directories", "port"
        shown = [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]
        (location,) = connection.execute(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'"
        ).fetchone()
    assert shown == ["off", "(disabled)", "", "", str(sandbox.database.port)]
    assert Path(location).is_relative_to(fetched.place.parent)
    assert sources["files_of"](kept.repository) == before


def test_a_gap_in_the_log_is_found_although_recovery_ends_well(kept, tmp_path, fetch, restore):
    for number in (1, 2):
        kept.sources["run"](kept.server.handle, f"INSERT INTO app.far VALUES ({number})", "")
        kept.method.flush(kept.server.handle, kept.job)
    copy = tmp_path / "copy"
    shutil.copytree(kept.repository, copy)
    pattern = "archive/*/*/*/0*.lz4" if kept.method is PGBACKREST else "barman/drill/wals/*/0*"
    segments = sorted(path for path in copy.glob(pattern) if len(path.name) >= 24 and ".backup" not in path.name)
    # The last but one, which the backup does not need.
    segments[-2].unlink()
    text = kept.configuration.read_text()
    (tmp_path / "configuration").write_text(text.replace(str(kept.repository), str(copy)))
    changed = dataclasses.replace(kept.kept, configuration=tmp_path / "configuration")
    tools = kept.server.handle.tools
    if kept.method is BARMAN:
        # It copies what its list says, and misses it itself.
        with pytest.raises(HarnessError, match="Failure copying WAL files"):
            fetch(changed, tools=tools, database=kept.server.handle)
        return
    _, findings = restore(fetch(changed, tools=tools, database=kept.server.handle), tools)
    assert [finding.code for finding in findings] == ["WAL-GAP"]


def test_another_deployments_repository_is_found(kept, fetch, server):
    if server is kept.server:
        pytest.fail("the deployment is the repository's own")
    fetched = fetch(kept.kept, tools=kept.server.handle.tools)
    assert [finding.code for finding in fetched.findings] == ["BACKUP-FOREIGN"]


def test_programs_of_another_major_version_are_refused_before_anything_is_restored(kept, fetch, tools, fifteen):
    other = fifteen if kept.server.handle.tools is tools else tools
    with pytest.raises(HarnessError, match=r"and the programs at .* name the programs of PostgreSQL \d+ as postgresql"):
        fetch(kept.kept, tools=other, database=kept.server.handle)


def test_what_is_not_there_is_named(kept, fetch):
    tools = kept.server.handle.tools
    wrong = dataclasses.replace(kept.kept, stanza="absent", server="absent")
    with pytest.raises(HarnessError, match=r"stanza absent: missing stanza|no server absent in it, but drill"):
        fetch(wrong, tools=tools, database=kept.server.handle)


def test_a_newer_backup_that_failed_is_found(barman, fetch):
    """Of pgBackRest's none is listed before it is whole."""
    folder = barman.job.archive / "barman" / "drill" / "meta"
    (whole,) = folder.glob("*-backup.info")
    failed = folder / "29991231T235959-backup.info"
    failed.write_text(whole.read_text().replace("status=DONE", "status=FAILED"))
    try:
        fetched = fetch(barman.kept, tools=barman.server.handle.tools, database=barman.server.handle)
    finally:
        failed.unlink()
    assert fetched.label == whole.name.removesuffix("-backup.info")
    assert [(finding.code, finding.where) for finding in fetched.findings] == [("BACKUP-UNUSABLE", "29991231T235959")]


def test_a_damaged_file_of_the_backup_is_found(kept, tmp_path, fetch, restore):
    copy, tools = tmp_path / "copy", kept.server.handle.tools
    shutil.copytree(kept.repository, copy)
    pattern = (
        "backup/drill/*F/pg_data/base/*/*.lz4" if kept.method is PGBACKREST else "barman/drill/base/*/data/base/*/*"
    )
    file = max(copy.glob(pattern), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    text = kept.configuration.read_text()
    (tmp_path / "configuration").write_text(text.replace(str(kept.repository), str(copy)))
    changed = dataclasses.replace(kept.kept, configuration=tmp_path / "configuration")
    if kept.method is PGBACKREST:
        with pytest.raises(HarnessError, match="lz4 error"):
            fetch(changed, tools=tools, database=kept.server.handle)
        return
    _, findings = restore(fetch(changed, tools=tools, database=kept.server.handle), tools)
    assert [finding.code for finding in findings] == ["BACKUP-ARTEFACT-ALTERED"]

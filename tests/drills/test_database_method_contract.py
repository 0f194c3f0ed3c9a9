"""What every way to back a database up must do, on a real server that is killed and wiped before each restore.

A method is covered by being there. One that cannot run here is skipped with its own reason.
"""

import contextlib
import dataclasses
import os
import secrets
import shutil
from pathlib import Path
from typing import get_args

import psutil
import psycopg
import pyrage
import pytest

from drills import registry
from drills.contract import Archives, Basis, Job, Means, NeedsMeans, Target
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import RUN_VARIABLE, Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, HarnessError, Redactor, wait_until

METHODS = registry.database_methods()
# A method may support a server version that the pinned wheel does not have.
BESIDES = [path for path in [Path("/usr/lib/postgresql/15/bin")] if path.is_dir()]
CONTENT = """
CREATE ROLE owner_role;
CREATE ROLE app_role LOGIN PASSWORD 'the-application';
GRANT owner_role TO app_role;
"""
TABLES = """
CREATE TABLE items (n bigserial PRIMARY KEY, side text NOT NULL);
ALTER TABLE items OWNER TO owner_role;
CREATE INDEX items_by_side ON items (side);
INSERT INTO items (side) SELECT 'seeded' FROM generate_series(1, 5000);
SELECT lo_from_bytea(4711, decode(repeat('00ff', 50000), 'hex'));
"""
TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


@dataclasses.dataclass
class Drilled:
    """A method, the backup it made of a server that is gone now, and an instant of that server."""

    method: object
    directory: Path
    backup: Path
    job: Job
    until: Target
    streams: bool
    make_server: object
    found_by_server: dict = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def restored(self, until=None, backup=None):
        """A server restored to the target (none: as far as possible), and its end."""
        server = self.make_server()
        job = dataclasses.replace(self.job, until=until)
        try:
            if self.method.into == "server":
                server.initialise()
                server.start()
            self.method.restore(backup or self.backup, server.handle, job)
            self.found_by_server = self.archived()
            if self.method.into == "files":
                server.own_files()
                server.start(seconds=60)
                await_writes(server)
            yield server
        finally:
            server.kill()
            server.remove()

    def archived(self):
        """Every file of the archive with its size and when it was written, by its path."""
        files = ((path, path.stat()) for path in self.job.archive.rglob("*") if path.is_file())
        return {str(path): (status.st_size, status.st_mtime_ns) for path, status in files}


def await_writes(server):
    def ready():
        with contextlib.suppress(psycopg.OperationalError), server.handle.connect("postgres") as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        return False

    wait_until(ready, seconds=30, interval=0.02, what="the end of recovery")


def runnable_with(method, processes):
    """The first PostgreSQL with which a method can run here; what speaks against each, where it cannot."""
    reasons = []
    for directory in (None, *BESIDES):
        tools = find_postgres(processes, directory)
        means = Means(tools=tools, processes=processes, commands={}, versioned_bucket=False)
        reason = method.unavailable(means) if isinstance(method, NeedsMeans) else ""
        if not reason:
            return tools
        reasons.append(reason)
    pytest.skip("; ".join(dict.fromkeys(reasons)))
    return None


def write(server, side):
    with server.handle.connect() as connection:
        connection.execute("INSERT INTO items (side) VALUES (%s)", [side])


def sides(server):
    """What was written after the seeded rows, in order."""
    with server.handle.connect() as connection:
        return [side for (side,) in connection.execute("SELECT side FROM items WHERE side <> 'seeded' ORDER BY n")]


def one(server, query):
    with server.handle.connect() as connection:
        return connection.execute(query).fetchone()[0]


def processes_of(run_id):
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(RUN_VARIABLE) == run_id:
                found.add(process.pid)
    return found - {os.getpid()}


def mark(server):
    """An instant between two writes."""
    write(server, "before the mark")
    query = "SELECT pg_create_restore_point('the mark')::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', %s)"
    with server.handle.connect() as connection:
        lsn, time = connection.execute(query, [TIME]).fetchone()
    write(server, "after the mark")
    return Target(name="the mark", time=time, lsn=lsn)


def fill(server):
    with server.handle.connect("postgres") as connection:
        connection.execute(CONTENT)
        connection.execute("CREATE DATABASE model")
    with server.handle.connect() as connection:
        connection.execute(TABLES)


def back_up(method, server, target, job):
    """Back up as the engine does: within a held snapshot, or with an instant after it in the log."""
    with server.handle.connect() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        (snapshot,) = holder.execute("SELECT pg_export_snapshot()").fetchone()
        write(server, "after the snapshot")
        method.back_up(server.handle, target, dataclasses.replace(job, snapshot=snapshot))
    until = mark(server)
    if isinstance(method, Archives):
        method.flush(server.handle, job)
    write(server, "the last")
    return until


@pytest.fixture(scope="module", params=sorted(METHODS))
def drilled(request, tmp_path_factory):
    method = METHODS[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=directory / "logs", clock=Clock.start(),
                          redactor=Redactor())  # fmt: skip
    tools = runnable_with(method, processes)
    unprivileged = find_unprivileged(processes, tools)
    (port,) = free_ports(1)
    identity = pyrage.x25519.Identity.generate()

    def make_server():
        return EmbeddedPostgres(
            directory=directory / "postgresql", port=port, name="model", password="only-for-tests", tools=tools,
            unprivileged=unprivileged, processes=processes, start_seconds=60,
        )  # fmt: skip

    job = Job(
        processes=processes, jobs=2, seconds=120, recipient=str(identity.to_public()), identity=str(identity),
        passphrase="a second secret of the operator's", archive=directory / "archive", own=unprivileged.own,
    )  # fmt: skip
    job.archive.mkdir(mode=0o700)
    backup = directory / "backup"
    backup.mkdir(mode=0o700)
    server = make_server()
    try:
        server.initialise()
        if isinstance(method, Archives):
            server.ask_for(method.settings(job))
        server.start()
        if isinstance(method, Archives):
            method.start_archiving(server.handle, job)
        fill(server)
        write(server, "before the backup")
        until = back_up(method, server, backup, job)
        streams = bool(one(server, "SHOW synchronous_standby_names"))
        server.kill()
        server.remove()
        yield Drilled(method=method, directory=directory, backup=backup, job=job, until=until, streams=streams,
                      make_server=make_server)  # fmt: skip
    finally:
        server.kill()
        for running in processes.services:
            running.kill_tree()


def to_its_instant(drilled, by="name"):
    """The target that a method recovers to, and the writes that must be there then."""
    if drilled.method.basis == "target":
        return dataclasses.replace(drilled.until, by=by), ["before the backup", "after the snapshot", "before the mark"]
    return None, ["before the backup"]


def test_a_method_says_what_it_holds_and_where_it_restores(drilled):
    assert drilled.method.basis in get_args(Basis)
    assert drilled.method.into in ("server", "files")
    assert (drilled.method.basis == "target") <= isinstance(drilled.method, Archives)


@pytest.mark.parametrize("by", ["name", "time", "lsn"])
def test_what_was_written_before_the_instant_is_there_and_what_came_after_it_is_not(drilled, by):
    if drilled.method.basis != "target" and by != "name":
        pytest.skip(f"{drilled.method.name} has one instant, which is not named")
    until, expected = to_its_instant(drilled, by)
    with drilled.restored(until) as server:
        if drilled.method.basis == "some instant":
            assert sides(server)[:1] == expected
        else:
            assert sides(server) == expected


def test_without_a_target_everything_is_there_and_with_streaming_also_what_no_segment_held_yet(drilled):
    if drilled.method.basis != "target":
        pytest.skip(f"{drilled.method.name} keeps no log")
    with drilled.restored() as server:
        archived = ["before the backup", "after the snapshot", "before the mark", "after the mark"]
        assert sides(server) == archived + ["the last"] * drilled.streams


def test_rows_roles_sequences_large_objects_and_indexes_come_back(drilled):
    until, _ = to_its_instant(drilled)
    with drilled.restored(until) as server:
        assert one(server, "SELECT count(*) FROM items WHERE side = 'seeded'") == 5000
        assert one(server, "SELECT tableowner FROM pg_tables WHERE tablename = 'items'") == "owner_role"
        assert one(server, "SELECT pg_has_role('app_role', 'owner_role', 'member')")
        assert one(server, "SELECT rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname = 'app_role'")
        assert one(server, "SELECT nextval('items_n_seq') > max(n) FROM items")
        assert one(server, "SELECT lo_get(4711) = decode(repeat('00ff', 50000), 'hex')")
        assert one(server, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_by_side'::regclass")


def test_a_restored_server_leaves_the_archive_as_it_was_and_no_process_behind(drilled):
    until, _ = to_its_instant(drilled)
    before = processes_of(drilled.job.processes.run_id)
    with drilled.restored(until) as server:
        write(server, "after the restore")
        one(server, "SELECT pg_switch_wal()")
        with server.handle.connect() as connection:
            connection.execute("CHECKPOINT")
        assert one(server, "SELECT archived_count + failed_count FROM pg_stat_archiver") == 0
    assert drilled.archived() == drilled.found_by_server
    assert processes_of(drilled.job.processes.run_id) <= before


def test_a_whole_archive_has_no_findings(drilled):
    if not isinstance(drilled.method, Archives):
        pytest.skip(f"{drilled.method.name} keeps no log")
    assert drilled.method.check_archive(drilled.backup, drilled.job.archive, drilled.job) == []


def test_a_backup_whose_largest_file_is_cut_short_is_not_restored(drilled, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(drilled.backup, damaged, symlinks=True)
    largest = max((path for path in damaged.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)
    with pytest.raises(HarnessError), drilled.restored(backup=damaged):
        pass


def test_a_restore_never_goes_over_what_is_there(drilled):
    server = drilled.make_server()
    server.initialise()
    if drilled.method.into == "server":
        server.start()
        drilled.method.restore(drilled.backup, server.handle, drilled.job)
    before = sorted(server.data.iterdir())
    try:
        with pytest.raises(HarnessError):
            drilled.method.restore(drilled.backup, server.handle, drilled.job)
        assert sorted(server.data.iterdir()) == before
    finally:
        server.kill()
        server.remove()

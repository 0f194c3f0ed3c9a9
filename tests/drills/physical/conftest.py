"""One server with an archive of its log, backed up, killed, wiped and restored on the same port."""

import contextlib
import dataclasses
import secrets
from pathlib import Path

import pytest

from drills.contract import Job, Target
from drills.methods.database import basebackup_wal
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor


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

    def mark(self, by, name="the mark"):
        """An instant between two writes: 1001 before it, 1002 after it."""
        self.insert(1001)
        query = "SELECT pg_create_restore_point(%s)::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', %s)"
        with self.server.handle.connect("postgres") as connection:
            lsn, time = connection.execute(query, [name, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"']).fetchone()
        self.insert(1002)
        return Target(name=name, time=time, lsn=lsn, by=by)

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

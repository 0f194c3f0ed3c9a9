"""A server whose backups and log a repository keeps, for the methods whose tool has one."""

import dataclasses
import secrets
from pathlib import Path

import pytest

from drills.contract import Job, Means, Target
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor, wait_until

FIFTEEN = Path("/usr/lib/postgresql/15/bin")


class Bench:
    """An archived server, and what a drill does with it."""

    def __init__(self, method, place, processes, tools, *, stream_wal):
        self.method, self.place = method, place
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
        self.server.ask_for(self.method.settings(self.job))
        self.server.start()
        self.method.start_archiving(self.database, self.job)
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
        self.method.back_up(self.database, target, dataclasses.replace(self.job, previous=previous))
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
        self.method.restore(backup, self.database, dataclasses.replace(self.job, **changes))
        self.server.own_files()
        self.server.start(seconds=60)
        wait_until(lambda: self.execute("SELECT pg_is_in_recovery()") == [(False,)], seconds=60, interval=0.02,
                   what="the end of recovery")  # fmt: skip

    def live(self, statement="SELECT"):
        """A life in which the server is lost after two backups; marks stand around the target."""
        self.spin_up()
        self.execute(statement)
        self.first = self.back_up("first")
        self.mark("1 before")
        self.until = self.target()
        self.mark("2 after")
        self.second = self.back_up("second", previous=self.first)
        self.mark("3 flushed")
        self.method.flush(self.database, self.job)
        self.mark("4 committed")
        self.lose_server()
        return self


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path_factory.mktemp("tools") / "logs",
                          clock=Clock.start(), redactor=Redactor())  # fmt: skip
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture(scope="module")
def means(processes):
    """What a method may have here with these programs of PostgreSQL's."""
    return lambda tools: Means(tools=tools, processes=processes, commands={}, versioned_bucket=False)


@pytest.fixture(scope="module")
def make_bench(tmp_path_factory, processes, means):
    """Make a bench of a method on the wheel's server, or a distribution's; a test that cannot have it skips."""
    made = []

    def make(method, *, fifteen, stream_wal=True):
        if fifteen and not (FIFTEEN / "initdb").is_file():
            pytest.skip(f"no PostgreSQL server in {FIFTEEN}")
        tools = find_postgres(processes, FIFTEEN if fifteen else None)
        if reason := method.unavailable(means(tools)):
            pytest.skip(reason)
        made.append(Bench(method, tmp_path_factory.mktemp("bench"), processes, tools, stream_wal=stream_wal))
        return made[-1]

    yield make
    for bench in made:
        # Not only the process: a killed server's shared memory outlives it.
        bench.server.kill()


@pytest.fixture
def flip():
    """Change one byte in the middle of a file."""

    def change(file):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)

    return change


@pytest.fixture
def codes():
    return lambda findings: [finding.code for finding in findings]

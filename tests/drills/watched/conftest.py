"""Two real servers, the second a standby of the first, which are frozen, killed and promoted."""

import contextlib
import secrets

import psutil
import pytest

from drills import ledger
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor

SECRET = "correct-horse-battery"


class Node:
    """A server with a name, as a cluster's node."""

    def __init__(self, name, place, tools, unprivileged, processes):
        self.name, self.processes = name, processes
        self.server = EmbeddedPostgres(
            directory=place / name, port=free_ports(1)[0], name="postgres", password=SECRET, tools=tools,
            unprivileged=unprivileged, processes=processes, start_seconds=60,
        )  # fmt: skip
        self._frozen = []

    @property
    def database(self):
        return self.server.handle

    @property
    def address(self):
        return f"127.0.0.1:{self.database.port}"

    def follow(self, leader):
        """Become a standby of another."""
        self.server.data.mkdir(parents=True, mode=0o700)
        self.server.own(self.server.data)
        program = [*self.server.unprivileged.prefix, self.database.tools.path("pg_basebackup")]
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--pgdata={self.server.data}"]
        self.processes.run(
            [*program, *leader.database.connection_arguments(), *options],
            timeout=60, env=leader.database.environment(), cwd=self.server.data.parent,
        )  # fmt: skip
        with (self.server.data / "postgresql.conf").open("a") as file:
            file.write(f"port = {self.database.port}\nwal_retrieve_retry_interval = '200ms'\n")
        self.server.start()

    def tell(self, statement):
        with self.database.connect() as connection:
            return connection.execute(statement).fetchall() if statement.startswith("SELECT") else (
                connection.execute(statement) and None
            )  # fmt: skip

    def set(self, name, value):
        self.tell(f"ALTER SYSTEM SET {name} = '{value}'")
        self.tell("SELECT pg_reload_conf()")

    def freeze(self):
        root = psutil.Process(self.server.running.pid)
        root.suspend()  # it makes no further children while they are counted
        self._frozen = [root, *root.children(recursive=True)]
        for process in self._frozen[1:]:
            process.suspend()

    def thaw(self):
        while self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._frozen.pop().resume()

    def kill(self):
        self.server.kill()


@pytest.fixture
def processes(tmp_path):
    run = f"tests-{secrets.token_hex(4)}"
    processes = Processes(run_id=run, logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor())
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture
def leader(tmp_path, processes):
    """A server that takes writes, with the tables of a drill."""
    tools = find_postgres(processes, None)
    node = Node("node1", tmp_path, tools, find_unprivileged(processes, tools), processes)
    node.server.initialise()
    node.server.admit_clients()
    node.server.start()
    ledger.prepare(node)
    yield node
    node.kill()


@pytest.fixture
def standby(tmp_path, leader):
    """A server that follows it."""
    node = Node("node2", tmp_path, leader.database.tools, leader.server.unprivileged, leader.processes)
    node.server.admit_clients()
    node.follow(leader)
    yield node
    node.kill()


@pytest.fixture
def dsn():
    """The DSN that names several nodes, in their order."""

    def dsn(*nodes, want="read-write"):
        hosts = ",".join(node.address for node in nodes)
        return f"postgresql://postgres:{SECRET}@{hosts}/postgres?target_session_attrs={want}"

    return dsn

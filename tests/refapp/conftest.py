import asyncio
import contextlib
import secrets
import signal

import psutil
import pytest

from fixtures.network import LOOPBACK, free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from fixtures.refapp.install import install, new_configuration
from reports.records import Clock, Redactor, wait_until

LISTEN = dict.fromkeys(("web", "job", "llm", "ocr"), "127.0.0.1:1")


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}",
        logs=tmp_path_factory.mktemp("refapp") / "logs",
        clock=Clock.start(),
        redactor=Redactor(),
    )
    yield processes
    for running in processes.services:
        running.kill_tree()


def make_server(processes, directory):
    tools = find_postgres(processes, None)
    return EmbeddedPostgres(
        directory=directory,
        port=free_ports(1)[0],
        name="enprivacy",
        password="only-for-tests",
        tools=tools,
        unprivileged=find_unprivileged(processes, tools),
        processes=processes,
        start_seconds=60,
    )


def installed(processes, directory, **more):
    """A PostgreSQL with the application's schema, open to its clients; its configuration, and the client's key."""
    server = make_server(processes, directory)
    server.initialise()
    server.start()
    server.admit_clients()
    values = new_configuration(
        database_host=LOOPBACK, database_port=server.handle.port, objects_endpoint="http://127.0.0.1:1",
        bucket="documents", listen=LISTEN, **more,
    )  # fmt: skip
    return server, values, install(superuser(server, "postgres"), values)


def superuser(server, database):
    handle = server.handle
    return f"postgresql://{handle.user}:{handle.password}@{LOOPBACK}:{handle.port}/{database}"


@contextlib.contextmanager
def stopped(server):
    """Every process of a server stopped: its kernel still takes connections and acknowledges what is sent."""
    root = psutil.Process(server.running.pid)
    family = [root, *root.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


class Pair:
    """A primary, its standby, and the URL that names both, the primary first."""

    def __init__(self, processes, place):
        self.primary, values, _ = installed(processes, place / "primary")
        self.standby = make_server(processes, place / "standby")
        handle, target = self.primary.handle, self.standby
        processes.run(
            [handle.tools.path("pg_basebackup"), *handle.connection_arguments(), "-D", target.data, "-R", "-c", "fast"],
            timeout=60, env=handle.environment(),
        )  # fmt: skip
        with (target.data / "postgresql.auto.conf").open("a") as file:
            file.write(f"port = {target.handle.port}\n")
        target.own_files()
        target.start()
        target.admit_clients()
        one = f"{LOOPBACK}:{handle.port}"
        both = values["DATABASE_URL"].replace(one, f"{one},{LOOPBACK}:{target.handle.port}")
        self.url = f"{both}?target_session_attrs=read-write"

    def promote(self):
        with self.standby.handle.connect() as connection:
            assert connection.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)

    def caught_up(self):
        with self.primary.handle.connect() as leader, self.standby.handle.connect() as follower:
            (written,) = leader.execute("SELECT pg_current_wal_lsn()").fetchone()
            query = "SELECT pg_last_wal_replay_lsn() >= %s"
            wait_until(lambda: follower.execute(query, (written,)).fetchone() == (True,), seconds=30, interval=0.02,
                       what="the standby to catch up")  # fmt: skip


@pytest.fixture
def pair(processes, tmp_path):
    pair = Pair(processes, tmp_path)
    yield pair
    pair.standby.kill()
    pair.primary.kill()


@pytest.fixture(scope="session")
def one(processes, tmp_path_factory):
    """A server with the schema, the application's configuration, the client's key."""
    server, values, key = installed(processes, tmp_path_factory.mktemp("one"))
    yield server, values, key
    server.kill()


@pytest.fixture
def frozen():
    return stopped


@pytest.fixture
def loses_answers():
    return LosesAnswers


class LosesAnswers:
    """A way to a server on which the answer to a commit is lost, with the connection.

    ``to_lose``: so many are, after the next ``to_skip``.
    """

    def __init__(self, port):
        self._there, self.to_lose, self.to_skip, self.tasks = port, 0, 0, set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        there, out = await asyncio.open_connection(LOOPBACK, self._there)
        losing = asyncio.Event()

        async def questions():
            while data := await reader.read(65536):
                if b"COMMIT" in data and self.to_skip:
                    self.to_skip -= 1
                elif b"COMMIT" in data and self.to_lose:
                    self.to_lose -= 1
                    losing.set()
                out.write(data)
            out.close()

        async def answers():
            # What was answered was done: only the answer is lost.
            while (data := await there.read(65536)) and not losing.is_set():
                writer.write(data)
            writer.close()

        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(questions(), answers())
        for each in (writer, out):
            each.close()

import secrets
from pathlib import Path

import pytest

from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor

SCHEMA = Path(__file__).with_name("schema.sql")
ROLES = "CREATE ROLE owner_role; CREATE ROLE app_role LOGIN PASSWORD 'first-password'; GRANT owner_role TO app_role;"


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}",
        logs=tmp_path_factory.mktemp("checks") / "logs",
        clock=Clock.start(),
        redactor=Redactor(),
    )
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture(scope="session")
def server(processes, tmp_path_factory):
    """A PostgreSQL with the rich schema in database ``model``; its handle connects as superuser."""
    tools = find_postgres(processes, None)
    server = EmbeddedPostgres(
        directory=tmp_path_factory.mktemp("postgresql"),
        port=free_ports(1)[0],
        name="model",
        password="only-for-tests",
        tools=tools,
        unprivileged=find_unprivileged(processes, tools),
        processes=processes,
        start_seconds=60,
    )
    server.initialise()
    server.start()
    with server.handle.connect("postgres") as connection:
        connection.execute("CREATE DATABASE model")
        connection.execute(ROLES)
        connection.execute("ALTER DATABASE model SET work_mem = '5MB'")
        connection.execute("ALTER ROLE app_role SET search_path = app")
        connection.execute("COMMENT ON DATABASE model IS 'the model'")
        connection.execute("REVOKE CONNECT ON DATABASE model FROM PUBLIC")
    with server.handle.connect("model") as connection:
        connection.execute(SCHEMA.read_text())
    yield server.handle
    server.kill()


@pytest.fixture
def model(server):
    """A connection to the model within a transaction that is rolled back."""
    with server.connect("model") as connection:
        connection.execute("BEGIN")
        yield connection
        # Leaving the block would commit.
        connection.rollback()


@pytest.fixture
def database(server):
    """A connection to an empty database of the test's own, and what makes more of them."""
    name = f"test_{secrets.token_hex(4)}"
    with server.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield lambda: server.connect(name)
    with server.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def store(processes, tmp_path_factory):
    """An S3 server and the directory that holds its bucket."""
    server = EmbeddedObjectServer(
        directory=tmp_path_factory.mktemp("objects") / "store",
        port=free_ports(1)[0],
        bucket="documents",
        access_key="tests-key",
        secret_key="tests-secret",
        processes=processes,
        start_seconds=30,
    )
    server.initialise()
    server.launch(clients={})
    server.await_ready()
    yield server
    server.running.kill_tree()


@pytest.fixture
def bucket(store):
    """The client and the bucket's directory. Write through the client: the server remembers directories it has read."""
    client, name = store.handle.client(), store.handle.bucket
    yield client, store.directory / name
    for item in client.list_objects(name, recursive=True):
        client.remove_object(name, item.object_name)

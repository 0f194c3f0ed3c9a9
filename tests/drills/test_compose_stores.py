"""What the start of an image leaves in a store is removed before anything is restored into it."""

import io
from pathlib import Path

import psycopg
import pytest

from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.compose.stores import database_answers, drop_database, empty_bucket, store_answers
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor


@pytest.fixture
def commands():
    return []


@pytest.fixture
def processes(tmp_path, commands):
    made = Processes(run_id="none", logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor())
    made.record = lambda finished: commands.append(Path(finished.argv[0]).name)
    return made


def test_a_database_that_is_there_is_dropped_by_a_command_and_so_is_none(processes, tmp_path, commands):
    tools = find_postgres(processes, None)
    server = EmbeddedPostgres(
        directory=tmp_path / "server", port=free_ports(1)[0], name="acme", password="only-for-tests", tools=tools,
        unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
    )  # fmt: skip
    (tmp_path / "server").mkdir()
    assert not database_answers(server.handle)
    server.initialise()
    server.start()
    try:
        with server.handle.connect("postgres") as connection:
            connection.execute("CREATE DATABASE acme")
        assert database_answers(server.handle)
        with server.handle.connect():  # somebody is connected
            drop_database(server.handle, processes, seconds=30)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            server.handle.connect()
        drop_database(server.handle, processes, seconds=30)
        assert commands.count("dropdb") == 2
    finally:
        server.kill()


def test_a_bucket_is_made_or_emptied(processes, tmp_path, commands):
    server = EmbeddedObjectServer(
        directory=tmp_path / "objects", port=free_ports(1)[0], bucket="other", access_key="operator",
        secret_key="only-for-tests", processes=processes, start_seconds=60,
    )  # fmt: skip
    server.initialise()
    (tmp_path / "objects" / "other").rename(tmp_path / "objects" / "acme-old")
    assert not store_answers(server.handle)
    server.launch(clients={})
    server.await_ready()
    store = server.handle
    try:
        assert store_answers(store)
        empty_bucket(store, processes, seconds=30)
        assert (store.client().bucket_exists(store.bucket), commands.count("rclone")) == (True, 0)
        for key in ("a", "b/c"):
            store.client().put_object(store.bucket, key, io.BytesIO(b"seeded"), 6)
        empty_bucket(store, processes, seconds=30)
        assert [*store.client().list_objects(store.bucket, recursive=True)] == []
        assert commands.count("rclone") == 1
    finally:
        server.kill()

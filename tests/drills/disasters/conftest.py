"""A PostgreSQL and an S3 server for disasters to strike, with a schema that none of them was written for."""

import contextlib
import dataclasses
import functools
import io
import secrets
import shutil
from pathlib import Path

import psycopg
import pytest

from fixtures.deployment import ClientAccess, Database, ObjectStore, Service
from fixtures.environment_file import read_environment_file
from fixtures.guardian import release_shared_memory
from fixtures.network import free_ports, listening
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.tools import find_rclone
from reports.records import Clock, Redactor, wait_until

OPERATOR, APPLICATION = ("operator", "operators-secret"), ("application", "applications-secret")
SCHEMA = """
CREATE ROLE shop_app LOGIN;
CREATE SCHEMA enprivacy_drill;
CREATE TABLE enprivacy_drill.writes (id text, payload text);
INSERT INTO enprivacy_drill.writes SELECT n::text, repeat('x', 900) FROM generate_series(1, 3000) n;
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id bigserial PRIMARY KEY, name text NOT NULL, country char(2) NOT NULL, photo bytea);
CREATE TABLE shop.orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES shop.customers,
    state text NOT NULL CHECK (state IN ('new', 'paid')), remark text NOT NULL, at timestamptz DEFAULT now());
CREATE TABLE shop.trail (id bigserial PRIMARY KEY, what text NOT NULL) ;
CREATE TABLE shop.letters (id bigserial PRIMARY KEY, customer bigint NOT NULL, body text NOT NULL);
CREATE TABLE shop.days (id bigint, at date, what text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.days_all PARTITION OF shop.days FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'append-only'; END$$;
CREATE TRIGGER trail_stays BEFORE UPDATE OR DELETE ON shop.trail FOR EACH ROW EXECUTE FUNCTION shop.refuse();
INSERT INTO shop.customers (name, country, photo)
    SELECT 'customer ' || n, 'NL', sha256(n::text::bytea) FROM generate_series(1, 500) n;
INSERT INTO shop.orders (customer, state, remark)
    SELECT 1 + n % 500, 'paid', repeat('remark ', 5) || n FROM generate_series(1, 4000) n;
INSERT INTO shop.trail (what) SELECT repeat('happened ', 40) || n FROM generate_series(1, 6000) n;
INSERT INTO shop.letters (customer, body) SELECT 1 + n % 2, 'letter ' || n FROM generate_series(1, 300) n;
INSERT INTO shop.days SELECT n, '2026-01-01', 'day ' || n FROM generate_series(1, 20) n;
ALTER TABLE shop.letters ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.letters USING (customer = 1);
GRANT USAGE ON SCHEMA shop TO shop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.customers, shop.orders, shop.trail, shop.letters TO shop_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA shop TO shop_app;
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    logs = tmp_path_factory.mktemp("disasters") / "logs"
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=logs, clock=Clock.start(), redactor=Redactor())
    yield processes
    for running in processes.services:
        running.kill_tree()


class Server:
    """A PostgreSQL and an S3 server: of the ``Deployment`` protocol just what a disaster uses."""

    tenant_pattern = r"^tenants/(?P<tenant>[^/]+)/"

    def __init__(self, processes, place, tools, unprivileged):
        self.processes, self.place, self.unprivileged = processes, place, unprivileged
        self.postgres = self.rclone = self.service = None
        port, store, service = free_ports(3)
        self.database = Database(host="127.0.0.1", port=port, name="shop", user="postgres", password="", tools=tools,
                                 password_file=place / "none", data_directory=place / "data")  # fmt: skip
        self.objects = ObjectStore(
            endpoint=f"http://127.0.0.1:{store}", bucket="documents", access_key=OPERATOR[0], secret_key=OPERATOR[1]
        )
        self.services = [Service(name="web", url=f"http://127.0.0.1:{service}", live="/", ready="/")]

    def launch_database(self):
        argv = [*self.unprivileged.prefix, self.database.tools.path("postgres"), "-D", self.database.data_directory,
                f"--port={self.database.port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories=",
                "--dynamic_shared_memory_type=mmap", "--fsync=off"]  # fmt: skip
        self.postgres = self.processes.start("postgres", argv, cwd=Path("/"))
        wait_until(self._answers, seconds=60, interval=0.02, what="PostgreSQL")

    def _answers(self):
        with contextlib.suppress(psycopg.OperationalError):
            self.database.connect("postgres").close()
            return True
        return False

    def kill_database(self):
        self.postgres.kill_tree()
        release_shared_memory(self.database.data_directory)

    def discard_database(self):
        self.kill_database()
        shutil.rmtree(self.database.data_directory)

    def launch_objects(self):
        (self.place / "buckets" / "documents").mkdir(parents=True)
        keys = ",".join(f'"{access},{secret}"' for access, secret in (OPERATOR, APPLICATION))
        port = self.objects.endpoint.rpartition(":")[2]
        argv = [find_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{port}", self.place / "buckets"]
        self.rclone = self.processes.start("rclone", argv, env={"RCLONE_AUTH_KEY": keys})
        wait_until(lambda: listening(int(port)), seconds=30, interval=0.02, what="the S3 server")

    def launch_service(self):
        port = self.services[0].url.rpartition(":")[2]
        self.service = self.processes.start_module("web", "http.server", "--bind", "127.0.0.1", port, cwd=self.place)
        wait_until(lambda: listening(int(port)), seconds=30, interval=0.02, what="the service")
        (self.place / "service.env").write_text("KEY=value\n")

    def configuration(self):
        return read_environment_file(self.place / "service.env")

    def discard_configuration(self):
        self.service.kill()
        (self.place / "service.env").unlink()

    def client_access(self):
        dsn = f"host=127.0.0.1 port={self.database.port} dbname=shop user=shop_app"
        return ClientAccess(url=self.services[0].url, api_key="none", dsn=dsn, objects=dataclasses.replace(
            self.objects, access_key=APPLICATION[0], secret_key=APPLICATION[1]))  # fmt: skip

    def put(self, key, content=b"what the owner wrote"):
        self.objects.client().put_object("documents", key, io.BytesIO(content), len(content))

    def read(self, key):
        return self.objects.client().get_object("documents", key).read()

    def keys(self):
        return {item.object_name for item in self.objects.client().list_objects("documents", recursive=True)}

    def ask(self, query):
        with self.database.connect() as connection:
            return connection.execute(query).fetchone()[0]

    def end(self):
        if self.postgres is not None:
            self.kill_database()
        for running in (self.rclone, self.service):
            if running is not None:
                running.kill_tree()


@pytest.fixture(scope="module")
def filled(processes, tmp_path_factory):
    """A stopped cluster with the schema in it, and how to make a server on a copy of it."""
    place = tmp_path_factory.mktemp("filled")
    tools = find_postgres(processes, None)
    unprivileged = find_unprivileged(processes, tools)
    data = place / "data"
    data.mkdir(mode=0o700)
    unprivileged.own(data)
    processes.run([*unprivileged.prefix, tools.path("initdb"), f"--pgdata={data}", "--username=postgres",
                   "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-sync"],
                  timeout=60, cwd=Path("/"))  # fmt: skip
    make = functools.partial(Server, processes, tools=tools, unprivileged=unprivileged)
    server = make(place)
    server.launch_database()
    with server.database.connect("postgres") as connection:
        connection.execute("CREATE DATABASE shop")
    with server.database.connect() as connection:
        connection.execute(SCHEMA)
        connection.execute("CHECKPOINT")
    server.kill_database()
    (data / "postmaster.pid").unlink()
    return data, make


@pytest.fixture
def server(filled, tmp_path):
    server = filled[1](tmp_path)
    yield server
    server.end()


@pytest.fixture
def database(filled, server):
    shutil.copytree(filled[0], server.database.data_directory)
    server.unprivileged.own(server.database.data_directory, *server.database.data_directory.rglob("*"))
    server.launch_database()
    return server


@pytest.fixture
def store(server):
    server.launch_objects()
    # One after the other: rclone refuses one of two objects that are the first of one directory at the same time.
    for key in (f"tenants/{name}/{n}" for name, count in (("a", 5), ("b", 40)) for n in range(count)):
        server.put(key)
    server.put("loose")
    return server

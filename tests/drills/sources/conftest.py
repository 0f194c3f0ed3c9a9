"""A deployment whose operator keeps backups, and sandboxes to restore them into."""

import dataclasses
import os
import secrets
from pathlib import Path

import pytest

from drills.registry import database_sources, object_sources
from drills.sources.contract import Fetching
from drills.sources.putting_back import put_back_database, put_back_objects
from fixtures.deployment import Database, ObjectStore
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from fixtures.providers.sandbox import Sandbox
from fixtures.shadow_settings import Kept
from reports.records import Clock, Redactor

LIFE = """
CREATE ROLE app LOGIN PASSWORD 'only-for-tests-app';
CREATE ROLE reader;
CREATE ROLE "odd one";
CREATE ROLE clerk LOGIN VALID UNTIL '2040-01-01';
GRANT reader TO clerk;
ALTER ROLE app SET statement_timeout = '45s';
CREATE DATABASE model OWNER app;
ALTER DATABASE model SET work_mem = '9MB';
COMMENT ON DATABASE model IS 'of the deployment';
REVOKE CONNECT ON DATABASE model FROM PUBLIC;
GRANT CONNECT ON DATABASE model TO app, reader;
"""
CONTENT = r"""
CREATE SCHEMA app AUTHORIZATION app;
CREATE TABLE app.t (a int PRIMARY KEY, b text);
ALTER TABLE app.t OWNER TO app;
-- What a careless reader of a script would take for the script's own words.
INSERT INTO app.t SELECT g, E'\\connect other\n-- Name: x; Type: ACL; Schema: -; Owner: nobody'
    FROM generate_series(1, 500) g;
GRANT SELECT ON app.t TO reader;
ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON app.t FOR SELECT TO reader, "odd one" USING (true);
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT SELECT ON TABLES TO reader;
SELECT lo_from_bytea(4711, 'kept');
ALTER LARGE OBJECT 4711 OWNER TO app;
"""
STATE = {
    "rows": "SELECT count(*), sum(a), md5(string_agg(b, ',' ORDER BY a)) FROM app.t",
    "roles": "SELECT rolname, rolcanlogin, rolvaliduntil, rolpassword, setconfig FROM pg_authid"
             " LEFT JOIN pg_db_role_setting ON setrole = pg_authid.oid"
             " WHERE rolname !~ '^pg_' AND rolname <> 'postgres' ORDER BY 1",
    "members": "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members m JOIN pg_roles r"
               " ON r.oid = m.roleid WHERE rolname !~ '^pg_'",
    "grants": "SELECT relname, relowner::regrole::text, relacl::text, relrowsecurity FROM pg_class"
              " WHERE relnamespace = 'app'::regnamespace ORDER BY 1",
    "policies": "SELECT policyname, roles::text FROM pg_policies",
    "defaults": "SELECT defaclrole::regrole::text, defaclacl::text FROM pg_default_acl",
    "large objects": "SELECT oid::text, lomowner::regrole::text, lo_get(oid) FROM pg_largeobject_metadata",
}  # fmt: skip
OF_DATABASE = (
    "SELECT datdba::regrole::text, ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1), datcollate,"
    " shobj_description(d.oid, 'pg_database'), setconfig"
    " FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid WHERE datname = current_database()"
)


def state(database, *, of_database=True, but=()):
    """What must come back, by what it is."""
    queries = STATE | ({"database": OF_DATABASE} if of_database else {})
    with database.connect() as connection:
        return {name: connection.execute(query).fetchall() for name, query in queries.items() if name not in but}


def run_statements(database, text, name=""):
    with database.connect(name) as connection:
        for statement in text.split(";\n"):
            if statement.strip():
                connection.execute(statement)


def files_of(place):
    """Every file below a place, with its size and the time of its last change."""
    return {
        str(path.relative_to(place)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(place.rglob("*")) if path.is_file()
    }  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Shadowed:
    """As much of a deployment as a source looks at."""

    database: Database
    objects: ObjectStore


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path_factory.mktemp("tools") / "logs",
                          clock=Clock.start(), redactor=Redactor())  # fmt: skip
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture(scope="session")
def tools(processes):
    return find_postgres(processes, None)


@pytest.fixture(scope="session")
def make_server(tmp_path_factory, processes):
    """Make a closed, running server with these programs."""
    made = []

    def make(tools, settings=None, before=None):
        server = EmbeddedPostgres(
            directory=tmp_path_factory.mktemp("server"), port=free_ports(1)[0], name="model", password="only-for-tests",
            tools=tools, unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
        )  # fmt: skip
        server.initialise()
        server.ask_for(settings or {})
        server.start()
        made.append(server)
        if before:
            before(server)
        run_statements(server.handle, LIFE, "postgres")
        run_statements(server.handle, CONTENT)
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def server(make_server, tools):
    """The deployment's."""
    return make_server(tools)


@pytest.fixture(scope="session")
def store(tmp_path_factory, processes):
    """An object server: the deployment's bucket, with objects in it, and others made at will."""
    running = EmbeddedObjectServer(
        directory=tmp_path_factory.mktemp("store") / "objects", port=free_ports(1)[0], bucket="documents",
        access_key="operator", secret_key="only-for-tests", processes=processes, start_seconds=60,
    )  # fmt: skip
    running.initialise()
    running.launch(clients={})
    running.await_ready()
    yield running.handle
    running.kill()


@pytest.fixture
def make_bucket(store):
    """Make a bucket, and hand over a function that puts files below a directory into it."""

    def make():
        name = f"kept-{secrets.token_hex(4)}"
        client = store.client()
        client.make_bucket(name)

        def put(place, prefix=""):
            for path in [place] if place.is_file() else sorted(place.rglob("*")):
                if path.is_file():
                    inside = path.name if place.is_file() else path.relative_to(place).as_posix()
                    client.fput_object(name, f"{prefix}{inside}", str(path))

        return name, put

    return make


@pytest.fixture
def kept_in(store):
    return lambda bucket, prefix="": Kept(
        source="s3", endpoint=store.endpoint, bucket=bucket, prefix=prefix, access_key=store.access_key,
        secret_key=store.secret_key,
    )  # fmt: skip


@pytest.fixture
def fetching(tmp_path, server, store, processes, tools):
    """What a source may use; keywords change it."""

    def make(**changes):
        target = tmp_path / f"fetched-{secrets.token_hex(3)}"
        target.mkdir()
        shadowed = Shadowed(database=changes.pop("database", server.handle), objects=store)
        return dataclasses.replace(
            Fetching(target=target, deployment=shadowed, processes=processes, tools=tools, jobs=2, seconds=60),
            **changes,
        )

    return make


@pytest.fixture
def fetch(fetching):
    """Fetch by the source that the settings name."""

    def run(kept, *, objects=False, **changes):
        sources = object_sources() if objects else database_sources()
        return sources[kept.source].fetch(kept, fetching(**changes))

    return run


@pytest.fixture
def sandbox(tmp_path, processes, tools):
    """Make a sandbox, provisioned for what was fetched."""
    made = []

    def make(form, with_tools=tools):
        sandbox = Sandbox(
            directory=tmp_path / "sandbox", database="model", bucket="documents", superuser="postgres",
            settings={"work_mem": "7MB"}, booted={}, profiles={}, tools=with_tools,
            unprivileged=find_unprivileged(processes, with_tools), processes=processes, redactor=processes.redactor,
            start_seconds=60,
        )  # fmt: skip
        made.append(sandbox)
        sandbox.directory.mkdir()
        sandbox.provision(database=form in ("archive", "script"))
        return sandbox

    yield make
    for each in made:
        each.remove()


@pytest.fixture
def restore(sandbox):
    """Restore a database that was fetched; the sandbox, and what was found."""

    def run(fetched, *with_tools):
        made = sandbox(fetched.form, *with_tools)
        findings = put_back_database(fetched, made, jobs=2, seconds=60)
        return made, findings

    return run


@pytest.fixture
def restore_objects(sandbox):
    def run(fetched):
        made = sandbox(fetched.form)
        put_back_objects(fetched, made, jobs=2, seconds=60)
        return made

    return run


@pytest.fixture
def dump(server, processes, tools):
    """Dump the deployment's database to a place; the roles, too, by another name."""

    def run(place, *options, program="pg_dump", zone="UTC"):
        handle = server.handle
        named = ["--dbname=model"] if program == "pg_dump" else ["--database=postgres"]
        processes.run(
            [tools.path(program), *handle.connection_arguments(), *named, *options, f"--file={place}"],
            timeout=60, env=handle.environment() | {"TZ": zone},
        )  # fmt: skip
        return place

    return run


@pytest.fixture
def sources():
    """The helpers above, for tests."""
    return {"state": state, "files_of": files_of, "run": run_statements}


@pytest.fixture
def age():
    """Set the time of a file's last change so many seconds back."""

    def change(path: Path, seconds: float):
        at = path.stat().st_mtime - seconds
        os.utime(path, (at, at))
        return path

    return change

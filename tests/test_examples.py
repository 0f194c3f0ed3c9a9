"""What the examples and the documentation say is what the suite does."""

import dataclasses
import json
import os
import re
import secrets
import subprocess
from pathlib import Path

import pyrage
import pytest

from drills.contract import Job
from drills.methods.database.command import Command
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.profile import DATA, load_profile
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CONTRACT = (ROOT / "docs" / "methods.md").read_text("utf-8")
FILL = """
CREATE ROLE clerk LOGIN PASSWORD 'for-tests'; CREATE ROLE owner; GRANT owner TO clerk;
CREATE TABLE kept (id int PRIMARY KEY, words text NOT NULL); ALTER TABLE kept OWNER TO owner;
INSERT INTO kept SELECT n, repeat('grün ', n) FROM generate_series(1, 100) AS n;
"""
READ = "SELECT count(*), sum(length(words)), (SELECT rolpassword FROM pg_authid WHERE rolname = 'clerk') FROM kept"


SET = {
    "OBSERVER_DSN": "postgresql://observer@127.0.0.1/enprivacy",
    "OBSERVER_KEY": "reader",
    "OBSERVER_SECRET": "secret",
    "OPERATOR": "operator:secret-of-his",
    "REST_PASSWORD": "secret-of-patroni",
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_an_example_profile_is_accepted(path):
    assert load_profile(path, SET if path.name.startswith("attached") else {}).name


def test_the_full_example_shows_the_defaults(tmp_path):
    bare = tmp_path / "bare.toml"
    bare.write_text('[deployment]\nname = "single-node"\n[objectives]\nrto = "4h"\nrpo = "1h"\n')
    own = {"path": None, "sha256": None}
    assert dataclasses.replace(load_profile(EXAMPLES / "single-node.toml", {}), **own) == dataclasses.replace(
        load_profile(bare, {}), **own
    )


def test_the_full_example_names_every_key():
    names = ("single-node.toml", "high-availability.toml", "attached.toml", "attached-cluster.toml")
    text = "".join((EXAMPLES / name).read_text("utf-8") for name in names)
    schema = json.loads((DATA / "profile.schema.json").read_text("utf-8"))
    sections = schema["properties"]
    keys = [key for section in [*sections.values(), *schema["$defs"].values()] for key in section.get("properties", ())]
    commands = sections["backup"]["properties"]["commands"]["properties"]
    assert [key for key in [*keys, *commands] if key not in text] == []


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("commands/*.sh")), ids=lambda path: path.name)
def test_an_example_command_is_executable_and_ends_at_its_first_error(script):
    assert os.access(script, os.X_OK)
    assert "\nset -eu\n" in script.read_text("utf-8")
    assert subprocess.run(["sh", "-n", script], capture_output=True).returncode == 0


def test_the_example_of_own_commands_names_every_script_there_is():
    named = {Path(words[0]) for words in load_profile(EXAMPLES / "commands.toml", {}).commands.values()}
    assert named == set(EXAMPLES.glob("commands/*.sh"))


def test_every_variable_that_a_script_uses_is_documented():
    used = set()
    for script in EXAMPLES.glob("commands/*"):
        used |= set(re.findall(r"(?:DRILL|AWS)_[A-Z0-9_]+", script.read_text("utf-8")))
    assert [name for name in sorted(used) if f"`{name}`" not in CONTRACT] == []


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}",
        logs=tmp_path_factory.mktemp("examples") / "logs",
        clock=Clock.start(),
        redactor=Redactor(),
    )
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture
def new_server(processes, tmp_path):
    """Start an empty PostgreSQL; its handle names a database ``model`` that is not there yet."""
    tools = find_postgres(processes, None)
    started = []

    def new_server():
        directory = tmp_path / f"server-{len(started)}"
        directory.mkdir()
        server = EmbeddedPostgres(
            directory=directory, port=free_ports(1)[0], name="model", password="only-for-tests", tools=tools,
            unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
        )  # fmt: skip
        server.initialise()
        server.start()
        started.append(server)
        return server.handle

    yield new_server
    for server in started:
        server.kill()


@pytest.fixture
def documented():
    """The database method that the documentation shows, as its reader would save it."""
    (source,) = re.findall(r"```python\n(.*?)```", CONTRACT, re.DOTALL)
    assert len(source.splitlines()) < 40
    names = {}
    exec(compile(source, "docs/methods.md", "exec"), names)
    return names["METHOD"]


@pytest.fixture(params=["documented", "command"])
def method(request):
    return request.getfixturevalue("documented") if request.param == "documented" else Command()


def test_a_database_method_shown_as_an_example_brings_roles_and_rows_back(method, processes, new_server, tmp_path):
    source, target, backup = new_server(), new_server(), tmp_path / "database"
    backup.mkdir()
    identity, commands = pyrage.x25519.Identity.generate(), load_profile(EXAMPLES / "commands.toml", {}).commands
    job = Job(processes=processes, jobs=2, seconds=60, recipient=str(identity.to_public()), archive=tmp_path,
              commands=commands)  # fmt: skip
    with source.connect("postgres") as connection:
        connection.execute("CREATE DATABASE model")
    with source.connect() as holder, source.connect() as connection:
        connection.execute(FILL)
        held = connection.execute(READ).fetchone()
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        snapshot = holder.execute("SELECT pg_export_snapshot()").fetchone()[0]
        connection.execute("DELETE FROM kept WHERE id < 50")
        method.back_up(source, backup, dataclasses.replace(job, snapshot=snapshot))
    assert all(b"SCRAM-SHA-256$" not in path.read_bytes() for path in backup.iterdir())
    method.restore(backup, target, dataclasses.replace(job, identity=str(identity)))
    with target.connect() as connection:
        assert connection.execute(READ).fetchone() == held
        assert connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'").fetchone() == ("owner",)
    assert list(processes.logs.glob("secret-*")) + list(processes.logs.glob("roles.*")) == []

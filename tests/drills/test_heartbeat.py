"""The heartbeat's writer, from outside, on a PostgreSQL and an S3 server of the test's own."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from checks.heartbeat import PREFIX, judge_pairs, key_of, read_beats, read_object_beats
from drills import heartbeat
from drills.heartbeat import MAKE, make_writer
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.profile import load_profile
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import NANOSECONDS, Clock, Redactor, utc_now, wait_until

ROOT = Path(__file__).parents[2]
PASSWORD, SECRET = "the-heartbeat-s-password", "the-heartbeat-s-secret-key"
PROFILE = """
[deployment]
name = "beating"
provider = "attached"
[postgresql]
dsn = "${{READER_DSN}}"
{admin}
[objects]
endpoint = "{endpoint}"
bucket = "documents"
access_key = "tests-key"
secret_key = "${{SECRET}}"
[services.web]
url = "http://127.0.0.1:1"
[heartbeat]
dsn = "${{HEARTBEAT_DSN}}"
interval = "1s"
"""


class Beating:
    """Both stores, and the command on a profile of them."""

    def __init__(self, directory, server, store):
        self.server, self.store, self.path = server, store, directory / "profile.toml"

    def environment(self):
        handle = self.server.handle
        where = f"@127.0.0.1:{handle.port}/{handle.name}"
        return {
            **os.environ,
            "READER_DSN": f"postgresql://nobody_such{where}",
            "OPERATOR_DSN": f"postgresql://{handle.user}:{handle.password}{where}",
            "HEARTBEAT_DSN": f"postgresql://heart:{PASSWORD}{where}",
            "SECRET": SECRET,
        }

    def argv(self, *arguments, admin=False, writer=True):
        line = 'admin_dsn = "${OPERATOR_DSN}"' if admin else ""
        text = PROFILE.format(endpoint=self.store.handle.endpoint, admin=line)
        self.path.write_text(text if writer else text.replace('dsn = "${HEARTBEAT_DSN}"', ""))
        return [sys.executable, "-m", "drills", "heartbeat", "--profile", self.path, *arguments]

    def run(self, *arguments, **profile):
        return subprocess.run(
            self.argv(*arguments, **profile), cwd=ROOT, env=self.environment(), capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    def rows(self):
        with self.server.handle.connect() as connection:
            return read_beats(connection)

    def objects(self):
        return read_object_beats(self.store.handle)

    def as_writer(self, statement):
        with psycopg.connect(self.environment()["HEARTBEAT_DSN"], autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="module")
def beating(tmp_path_factory):
    directory = tmp_path_factory.mktemp("heartbeat")
    redactor = Redactor()
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}", logs=directory / "logs", clock=Clock.start(), redactor=redactor
    )
    tools = find_postgres(processes, None)
    postgresql = tmp_path_factory.mktemp("postgresql")
    server = EmbeddedPostgres(
        directory=postgresql, port=free_ports(1)[0], name="model", password="only-for-tests", tools=tools,
        unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
    )  # fmt: skip
    server.initialise()
    server.start()
    server.admit_clients()
    with server.handle.connect("postgres") as connection:
        connection.execute("CREATE DATABASE model")
        connection.execute(f"CREATE ROLE heart LOGIN PASSWORD '{PASSWORD}'")
    store = EmbeddedObjectServer(
        directory=directory / "store", port=free_ports(1)[0], bucket="documents", access_key="tests-key",
        secret_key=SECRET, processes=processes, start_seconds=30,
    )  # fmt: skip
    store.initialise()
    store.launch(clients={})
    store.await_ready()
    yield Beating(directory, server, store)
    server.kill()  # with its shared memory
    for running in processes.services:
        running.kill_tree()


@pytest.fixture
def bare(beating):
    """Without table and objects, before and after."""
    yield beating
    with beating.server.handle.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS enprivacy_heartbeat CASCADE")
    client = beating.store.handle.client()
    for each in client.list_objects("documents", prefix=PREFIX, recursive=True):
        client.remove_object("documents", each.object_name)


@pytest.fixture
def installed(bare):
    assert bare.run("--install", admin=True).returncode == 0
    return bare


def test_the_documentation_shows_a_writer_s_profile_and_the_rights_that_are_granted(tmp_path):
    documentation = (ROOT / "docs" / "heartbeat.md").read_text()
    whole = [text for text in re.findall(r"```toml\n(.*?)```", documentation, re.DOTALL) if "[deployment]" in text]
    (tmp_path / "heartbeat.toml").write_text(whole[0])
    names = ("HEARTBEAT_DSN", "HEARTBEAT_KEY", "HEARTBEAT_SECRET")
    assert load_profile(tmp_path / "heartbeat.toml", dict.fromkeys(names, "postgresql://heartbeat@h/app")).attached
    granted = [line.format(role="heartbeat") for line in MAKE.splitlines() if line.startswith("GRANT")]
    assert granted and all(line in documentation for line in granted)


def test_without_its_table_a_beat_is_missed_in_one_line_that_names_the_remedy(bare):
    done = bare.run("--once")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "heartbeat: row:" in line and "--install" in line
    assert PASSWORD not in done.stderr and SECRET not in done.stderr


def test_the_sql_that_is_printed_is_all_that_somebody_else_has_to_run(bare):
    done = bare.run("--install")
    printed = done.stdout
    assert done.returncode == 1 and "nothing was installed" in done.stderr
    with bare.server.handle.connect() as connection:
        connection.execute(printed.encode())
    assert bare.run("--once").returncode == 0


@pytest.mark.parametrize("admin", [False, True])
def test_the_role_that_reads_is_never_made_one_that_writes(bare, admin):
    done = bare.run("--install", admin=admin, writer=False)
    assert done.returncode == 1 and "heartbeat.dsn" in done.stderr and "Nothing was installed" in done.stderr
    assert "GRANT" not in done.stdout + done.stderr
    with bare.server.handle.connect() as connection:
        assert connection.execute("SELECT to_regnamespace('enprivacy_heartbeat')").fetchone() == (None,)


def test_row_and_object_of_a_beat_are_one_by_a_role_that_may_do_nothing_else(installed):
    assert installed.run("--once").returncode == installed.run().returncode == 0
    rows, objects = installed.rows(), installed.objects()
    assert list(rows.by_instant.values()) == list(objects.by_instant.values())
    assert judge_pairs(rows, objects) == ([], {"pairs": rows.count})
    for statement in (
        "CREATE TABLE enprivacy_heartbeat.more ()", "CREATE SCHEMA more", "TRUNCATE enprivacy_heartbeat.beats",
        "UPDATE enprivacy_heartbeat.beats SET token = ''", "INSERT INTO enprivacy_heartbeat.beats (at) VALUES (now())",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            installed.as_writer(statement)


def test_neither_table_nor_prefix_grows_for_ever(installed):
    now_ns = int(utc_now().timestamp()) * NANOSECONDS
    day = 86_400 * NANOSECONDS
    client = installed.store.handle.client()
    for age in (1, 3, 4):
        key = key_of(now_ns - age * day)
        client.fput_object("documents", key, __file__)
    with installed.server.handle.connect() as connection:
        connection.execute(
            "INSERT INTO enprivacy_heartbeat.beats (at, token)"
            " SELECT now() - n * interval '1 s', '' FROM generate_series(1, 10799) AS n"
        )
    assert installed.run("--once").returncode == 0
    assert installed.rows().count == 10_000
    assert sorted(installed.objects().by_instant)[0] == now_ns - day
    assert installed.objects().count == 2


def test_the_daemon_outlives_either_store_tells_each_outage_once_and_makes_up_nothing(installed):
    daemon = subprocess.Popen(
        installed.argv("--daemon"), cwd=ROOT, env=installed.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        beats_written(installed, 2)
        installed.store.kill()
        beats_written(installed, 2)
        installed.store.launch(clients={})
        installed.store.await_ready()
        before = installed.objects().count
        wait_until(lambda: installed.objects().count > before, seconds=20, interval=0.1, what="objects again")
        installed.server.kill()
        # Long enough for two beats to be missed.
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(timeout=2.5)
        installed.server.start()
        beats_written(installed, 3)
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=30)
    assert daemon.returncode == 0
    told = [re.sub(r"^\S+ heartbeat: ", "", line) for line in errors.splitlines()]
    assert [line.split(":")[0] for line in told] == ["object", "object", "row", "row"]
    assert [bool(re.match(r"\w+: works again, after \d+ failures?$", line)) for line in told] == [False, True] * 2
    rows = installed.rows()
    assert len(rows.holes(NANOSECONDS)) >= 1
    # By the clock: no two beats closer than an interval and its jitter allow, however long the outage was.
    instants = sorted(rows.by_instant)
    assert len(instants) <= (instants[-1] - instants[0]) / NANOSECONDS + 2
    assert installed.objects().count < rows.count
    assert json.dumps(told).count(PASSWORD) == 0


def test_a_server_that_hangs_in_the_middle_of_a_beat_is_given_up(installed, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS", 0.5)
    installed.argv()
    writer = make_writer(load_profile(installed.path, installed.environment()), Redactor())
    with pytest.raises(psycopg.OperationalError), writer._session() as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        try:
            connection.execute("SELECT")
        finally:
            backend.resume()


def beats_written(installed, more):
    rows = installed.rows()
    wanted = rows.count + more
    wait_until(lambda: installed.rows().count >= wanted, seconds=30, interval=0.1, what=f"{wanted} beats")

"""A deployment that is not the suite's: two servers, four services started by plain commands, and its profile."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import psycopg
import pytest

from checks.database import fingerprint
from fixtures.ground import find_tools
from fixtures.interlocks import KEY
from fixtures.network import free_ports
from fixtures.profile import DEFAULT_PROFILE, load_profile
from fixtures.providers.embedded.deployment import EmbeddedDeployment
from fixtures.refapp.scales import parse_scale
from fixtures.workspace import open_workspace
from reports.records import Clock, Redactor, wait_until

ROOT = Path(__file__).parents[3]
PASSWORD = "the-observer-s-password-4711"
SERVICES = ("ocr", "llm", "job", "web")
STEPS = (ROOT / "examples" / "compose" / "transaction.toml").read_text("utf-8")
QUERIES = "\n".join(f'{each} = "{ROOT}/fixtures/refapp/{each}.sql"' for each in ("references", "jobs", "job_effects"))


class Somebody:
    """The deployment, what its operator knows, and the suite as he starts it."""

    def __init__(self, made, place, ground):
        self.made, self.place, self.ground = made, place, ground
        self.home, self.directory = made.directory / "home", place / "described"
        self.directory.mkdir()
        # So that its work directory, below the temporary one of the tests, is a place that lasts.
        (place / "tmp").mkdir()
        self.profile = self.directory / "profile.toml"
        (self.directory / "steps.toml").write_text(STEPS)
        with made.database.connect() as connection:
            self.identifier = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()[0]
            self.data_directory = connection.execute("SHOW data_directory").fetchone()[0]
            connection.execute(f"CREATE ROLE observer LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data")
            connection.execute(f"GRANT CONNECT ON DATABASE {made.database.name} TO observer")
        database = made.database
        here = f"127.0.0.1:{database.port}/{database.name}"
        self.secrets = {
            "OBSERVER_DSN": f"postgresql://observer:{PASSWORD}@{here}",
            "OPERATOR_DSN": f"postgresql://{database.user}:{database.password}@{here}",
            "ACCESS_KEY": made.configuration()["OBJECT_STORAGE_ACCESS_KEY"],
            "SECRET_KEY": made.configuration()["OBJECT_STORAGE_SECRET_KEY"],
            "OPERATOR_KEY": made.objects.access_key,
            "OPERATOR_SECRET": made.objects.secret_key,
            "API_KEY": made._api_key,
        }
        self.described = {
            "deployment": {"name": "acme-staging", "provider": "attached", "disposable": True},
            "postgresql": {"dsn": "${OBSERVER_DSN}", "admin_dsn": "${OPERATOR_DSN}",
                           "system_identifier": str(self.identifier)},
            "objects": {"endpoint": made.objects.endpoint, "bucket": made.objects.bucket, "access_key": "${ACCESS_KEY}",
                        "secret_key": "${SECRET_KEY}", "admin_access_key": "${OPERATOR_KEY}",
                        "admin_secret_key": "${OPERATOR_SECRET}"},
            "configuration": {"file": str(made.environment_file)},
            **{f"services.{each.name}": {
                "url": each.url, "live": each.live, "ready": each.ready, "start": self.command("start", each.name),
                "stop": self.command("stop", each.name), "needs": ["database", "objects"]}
               for each in sorted(made.services, key=lambda each: SERVICES.index(each.name))},
            "transaction": {"service": "web", "steps": "steps.toml", "variables": {"api_key": "${API_KEY}"}},
            "queries": {**tomllib.loads(QUERIES), "tenant_pattern": made.tenant_pattern},
            "load": {"interval": "50ms", "before": "500ms", "diverge": "500ms", "after": "500ms"},
        }  # fmt: skip
        self.describe()

    def command(self, what, name):
        script = Path(__file__).with_name("somebody.py")
        return [sys.executable, str(script), what, name, str(self.made.environment_file), str(self.home)]

    def services(self, what):
        for name in SERVICES:
            subprocess.run(self.command(what, name), check=True, cwd="/")

    def describe(self, **changed):
        """Write the profile; each change is a table's keys, ``None`` leaves one out."""
        tables = {key: {**table, **changed.get(key, {})} for key, table in self.described.items()}
        text = ""
        for name, table in tables.items():
            rows = [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]
            text += "\n".join([f"[{name}]", *rows, "", ""])
        self.profile.write_text(text)

    def run(self, *words, timeout=240, stdin=None, **secrets_changed):
        """The exit code and everything written to the terminal."""
        files = [self.place / name for name in ("given", "out", "err")]
        files[0].write_text(stdin or "")
        asked = {"words": words, "files": [*map(str, files)], "seconds": timeout,
                 "environment": self.environment(secrets_changed)}  # fmt: skip
        self.warm.stdin.write(json.dumps(asked) + "\n")
        self.warm.stdin.flush()
        return int(self.warm.stdout.readline()), "".join(file.read_text("utf-8") for file in files[1:])

    def warm_up(self):
        """Starting the suite sixty times takes longer than what it is asked for: that is done once."""
        return subprocess.Popen([sys.executable, "-m", "tests.drills.destroy.warm"], cwd=ROOT, env=self.environment(),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip

    def environment(self, changed=()):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PG"))}
        return inherited | self.secrets | {"COLUMNS": "200", "TMPDIR": str(self.place / "tmp")} | dict(changed)

    def drill(self, name="acme-staging", chosen="pg_dump-rclone-total_loss", more=(), **secrets_changed):
        return self.run("pytest", *self.arguments(name, chosen, more), **secrets_changed)

    def arguments(self, name, chosen, more=()):
        where = [f"--work-directory={self.place / 'work'}", f"--runs-directory={self.place / 'runs'}"]
        return ["drills", *where, "-p", "no:cacheprovider", "--profile", str(self.profile), "--destroy", name,
                "-k", chosen, *more]  # fmt: skip

    def arm(self, **secrets_changed):
        code, output = self.run(
            "fixtures", "arm", "--profile", str(self.profile), "--name", "acme-staging", **secrets_changed
        )
        assert code == 0, output
        return output

    def disarm(self):
        return self.run("fixtures", "disarm", "--profile", str(self.profile))

    def state(self):
        """Everything that it holds, to be compared: the database's fingerprint, the objects, the configuration."""
        made = self.made
        store = made.objects
        held = fingerprint(made.database.connect, held=None, jobs=2, key=b"k" * 32)
        listed = store.client().list_objects(store.bucket, recursive=True)
        return (
            held.to_json(), {(each.object_name, each.size, each.etag) for each in listed},
            made.environment_file.read_bytes(), made.environment_file.stat(),
        )  # fmt: skip

    def marker_in_bucket(self):
        store = self.made.objects
        return any(each.object_name == KEY for each in store.client().list_objects(store.bucket, prefix=KEY))

    @contextlib.contextmanager
    def another(self, how):
        """Another server's port: a ``standby`` of this one, a ``clone`` that was promoted, or a ``new`` cluster."""
        processes, tools, prefix = self.made.processes, self.made.database.tools, self.ground.unprivileged.prefix
        (port,) = free_ports(1)
        data = Path(tempfile.mkdtemp(dir=self.place)) / "data"
        here = self.made.database
        if how == "new":
            data.mkdir(mode=0o700)
            self.ground.unprivileged.own(data)
            processes.run([*prefix, tools.path("initdb"), f"--pgdata={data}", "--username=postgres", "--auth=trust",
                           "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"], timeout=60, cwd=Path("/"))  # fmt: skip
        else:
            options = ["--write-recovery-conf"] if how == "standby" else []
            processes.run([tools.path("pg_basebackup"), *here.connection_arguments(), f"--pgdata={data}", "--no-sync",
                           "--checkpoint=fast", *options], timeout=60, env=here.environment())  # fmt: skip
            for path in [data, *data.rglob("*")]:
                self.ground.unprivileged.own(path)
        running = processes.start(
            how, [*prefix, tools.path("postgres"), "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1",
                  "-c", "unix_socket_directories="], cwd=Path("/"),
        )  # fmt: skip
        try:
            dsn = f"postgresql://postgres:{here.password}@127.0.0.1:{port}"
            wait_until(lambda: _answers(f"{dsn}/postgres"), seconds=30, interval=0.05, what=f"the {how}")
            if how == "new":
                with psycopg.connect(f"{dsn}/postgres", autocommit=True) as connection:
                    connection.execute("CREATE DATABASE enprivacy")
                    connection.execute("CREATE ROLE observer LOGIN SUPERUSER")
            yield port
        finally:
            running.popen.send_signal(signal.SIGQUIT)
            running.popen.wait(30)
            running.kill_tree()

    def moved(self, port, *names):
        """The variables of these names, leading to another port."""
        return {name: self.secrets[name].replace(f":{self.made.database.port}/", f":{port}/") for name in names}

    def evidence(self):
        return [json.loads(file.read_text()) for file in sorted((self.place / "runs").glob("*/evidence.json"))]

    def kept(self):
        return sorted((self.place / "work" / "kept").glob("*/*"))


def _answers(dsn):
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
        return True
    return False


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture
def precious(somebody):
    """What bears names of the suite's and is somebody's: as ``remains`` of the drill's tests tells it."""
    store, beside, key = somebody.made.objects, "enprivacy-drill-copy", "enprivacy-drill/precious"
    client = store.client()
    client.make_bucket(beside)
    for bucket in (beside, store.bucket):
        client.put_object(bucket, key, io.BytesIO(b"x"), 1)
    with somebody.made.database.connect("postgres") as connection:
        connection.execute("CREATE DATABASE enprivacy_drill_copy")
        yield [("enprivacy_drill_copy",), key]
        connection.execute("DROP DATABASE enprivacy_drill_copy")
    for bucket in (beside, store.bucket):
        client.stat_object(bucket, key)
        client.remove_object(bucket, key)
    client.remove_bucket(beside)


@pytest.fixture(scope="module")
def somebody(tmp_path_factory):
    clock, redactor = Clock.start(), Redactor()
    workspace = open_workspace(
        tmp_path_factory.mktemp("somebody"), f"somebody-{os.getpid()}", clock=clock, redactor=redactor
    )
    made = None
    try:
        profile = load_profile(DEFAULT_PROFILE)
        ground = find_tools(workspace, profile)
        made = EmbeddedDeployment(
            profile=profile, sizes=parse_scale("documents=4,database=64KiB"),
            directory=workspace.directory / "deployment", tools=ground.tools,
            unprivileged=ground.unprivileged, processes=workspace.processes, redactor=redactor,
        )  # fmt: skip
        # A server that is somebody's archives, and goes on with it.
        made.spin_up({"archive_mode": "on", "archive_command": "test -n %f"})
        made.seed(lambda *_: None)
        made.await_quiet(seconds=30)
        made.stop_services()
        there = Somebody(made, tmp_path_factory.mktemp("theirs"), ground)
        there.services("start")
        try:
            with there.warm_up() as there.warm:
                yield there
        finally:
            there.services("stop")
    finally:
        if made is not None:
            made.strike_everything()
        workspace.close()

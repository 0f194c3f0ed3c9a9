"""Attempts to destroy what may not be destroyed, as a person would make them: each is held, and nothing is touched."""

import contextlib
import io
import re
import shutil
import subprocess

import psycopg
import pytest

from fixtures.damage import listed
from fixtures.interlocks import KEY, SCHEMA
from fixtures.network import free_ports
from fixtures.providers.embedded.object_server import EmbeddedObjectServer

pytestmark = pytest.mark.slow
MARKER = f"{SCHEMA}.marker"
BOTH = ("OBSERVER_DSN", "OPERATOR_DSN")


def operator(somebody, *statements):
    with somebody.made.database.connect() as connection:
        for statement in statements:
            connection.execute(statement)


# Each attempt prepares what tempts, yields the arguments of the drill, and takes it back. ``somebody`` is armed before.


@contextlib.contextmanager
def described(somebody, again=True, **changed):
    """By another profile; ``again``: it is armed anew by that."""
    somebody.describe(**changed)
    if again:
        somebody.arm()
    yield {}


@contextlib.contextmanager
def edited(somebody, **changed):
    with described(somebody, again=False, **changed):
        yield {}


@contextlib.contextmanager
def named(somebody, name):
    yield {"name": name}


@contextlib.contextmanager
def with_options(somebody, *more):
    yield {"more": more}


@contextlib.contextmanager
def with_secrets(somebody, **changed):
    yield {name: make(somebody.secrets) for name, make in changed.items()}


@contextlib.contextmanager
def never_armed(somebody):
    somebody.disarm()
    yield {}


@contextlib.contextmanager
def in_the_database_only(somebody):
    somebody.made.objects.client().remove_object(somebody.made.objects.bucket, KEY)
    yield {}


@contextlib.contextmanager
def in_the_bucket_only(somebody):
    operator(somebody, f"DROP SCHEMA {SCHEMA} CASCADE")
    yield {}


@contextlib.contextmanager
def of_another_deployment(somebody):
    somebody.describe(deployment={"name": "acme-production"})
    assert somebody.run("fixtures", "arm", "--profile", str(somebody.profile), "--name", "acme-production")[0] == 0
    somebody.describe()
    yield {}


@contextlib.contextmanager
def of_two_armings(somebody):
    store = somebody.made.objects
    text = store.client().get_object(store.bucket, KEY).read()
    somebody.arm()
    store.client().put_object(store.bucket, KEY, io.BytesIO(text), len(text))
    yield {}


@contextlib.contextmanager
def marker_changed(somebody, change):
    operator(somebody, change)
    yield {}


@contextlib.contextmanager
def on_another_server(somebody, how, *names):
    with somebody.another(how) as port:
        yield somebody.moved(port, *names)


@contextlib.contextmanager
def followed(somebody):
    with somebody.another("standby"):
        yield {}


@contextlib.contextmanager
def watched(somebody):
    with psycopg.connect(somebody.secrets["OBSERVER_DSN"], application_name="psql"):
        yield {}


@contextlib.contextmanager
def another_database(somebody, name):
    operator(somebody, "CREATE DATABASE enprivacy_production")
    try:
        old = "/enprivacy"
        yield {name: somebody.secrets[name].removesuffix(old) + "/enprivacy_production"}
    finally:
        operator(somebody, "DROP DATABASE enprivacy_production")


@contextlib.contextmanager
def another_store(somebody, mirrored=False, again=False):
    """The same bucket, by name, of another server; ``mirrored``: with every object of this one."""
    made, (port,) = somebody.made, free_ports(1)
    store = EmbeddedObjectServer(
        directory=somebody.place / "another-store", port=port, bucket=made.objects.bucket,
        access_key=made.objects.access_key, secret_key=made.objects.secret_key, processes=made.processes,
        start_seconds=30,
    )  # fmt: skip
    store.initialise()
    store.launch(clients={somebody.secrets["ACCESS_KEY"]: somebody.secrets["SECRET_KEY"]})
    try:
        store.await_ready()
        source, target = made.objects.client(), store.handle.client()
        for key, size in listed(made.objects) if mirrored else ():
            answer = source.get_object(made.objects.bucket, key)
            target.put_object(made.objects.bucket, key, io.BytesIO(answer.read()), size)
        before = sorted(listed(store.handle))
        somebody.describe(objects={"endpoint": store.handle.endpoint})
        yield {}
        assert sorted(listed(store.handle)) == before
    finally:
        store.kill()
        store.remove()


@contextlib.contextmanager
def data_directory(somebody, make):
    place = somebody.place / "files"
    place.mkdir()
    try:
        somebody.describe(postgresql={"data_directory": str(make(somebody, place))})
        yield {}
    finally:
        shutil.rmtree(place)


def linked(somebody, place):
    (place / "data").symlink_to(somebody.data_directory)
    return place / "data"


def of_nothing(somebody, place):
    return place


def copied(somebody, place):
    """A directory that looks like the server's, and is not."""
    (place / "global").mkdir()
    shutil.copy(f"{somebody.data_directory}/PG_VERSION", place)
    shutil.copy(f"{somebody.data_directory}/global/pg_control", place / "global")
    return place


@contextlib.contextmanager
def configuration(somebody, make, again=False):
    file = somebody.directory / "application.env"
    try:
        with make(somebody, file) as values, described(somebody, again, configuration={"file": str(file)}):
            yield values
    finally:
        file.unlink()


@contextlib.contextmanager
def a_link(somebody, file):
    file.symlink_to(somebody.made.environment_file)
    yield {}


@contextlib.contextmanager
def of_another_server(somebody, file):
    with somebody.another("clone") as port:
        text = somebody.made.environment_file.read_text()
        file.write_text(text.replace(f":{somebody.made.database.port}/", f":{port}/"))
        yield {}


@contextlib.contextmanager
def that_cannot_be_written_again(somebody, file):
    file.write_text(somebody.made.environment_file.read_text() + "export EXTRA=1\n")
    yield {}


@contextlib.contextmanager
def mounted(somebody, file):
    """As a container has a single file of its host's."""
    file.write_text(somebody.made.environment_file.read_text())
    subprocess.run(["mount", "--bind", file, file], check=True)
    try:
        yield {}
    finally:
        subprocess.run(["umount", file], check=True)


@contextlib.contextmanager
def schema_of_that_name(somebody):
    operator(somebody, "CREATE SCHEMA enprivacy_drill", "CREATE TABLE enprivacy_drill.precious AS SELECT 1 AS a")
    try:
        yield {}
    finally:
        operator(somebody, "DROP SCHEMA enprivacy_drill CASCADE")


def alias(somebody, host):
    return somebody.made.objects.endpoint.replace("127.0.0.1", host)


def leading(old, new, *names):
    """The DSNs of these variables, with a part of them replaced."""
    return {name: lambda secrets, name=name: re.sub(old, new, secrets[name], count=1) for name in names}


def swapped(first, second):
    return {first: lambda secrets: secrets[second], second: lambda secrets: secrets[first]}


def by_name(somebody):
    return edited(somebody, objects={"endpoint": somebody.made.objects.endpoint.replace("127.0.0.1", "localhost")})


WRONG = "the-wrong-secret-4711"
AGED, USED = f"UPDATE {MARKER} SET armed_at = now() + interval", f"UPDATE {MARKER} SET run ="
OTHER = "7000000000000000001"
ATTEMPTS = {
    "not disposable": (edited, {"deployment": {"disposable": False}}, "disposable: "),
    "wrong name": (named, {"name": "acme-production"}, "the profile"),
    "near-miss name": (named, {"name": "acme-stagin"}, "repeat the name"),
    "name in another case": (named, {"name": "Acme-Staging"}, "repeat the name"),
    "two levels": (with_options, ["--level", "shadow"], "leave one of the two out"),
    "no operator": (edited, {"postgresql": {"admin_dsn": None}}, "postgresql.admin_dsn: not given"),
    "no system identifier": (edited, {"postgresql": {"system_identifier": None}}, "system identifier: "),
    "another system identifier": (
        edited,
        {"postgresql": {"system_identifier": OTHER}},
        "the server's is",
    ),
    "a service that cannot be stopped": (edited, {"services.job": {"stop": None}}, "services: no command stops"),
    "never armed": (never_armed, {}, "marker in the database: none"),
    "marker in the database only": (in_the_database_only, {}, "marker in the bucket: none"),
    "marker in the bucket only": (in_the_bucket_only, {}, "marker in the database: none"),
    "marker of another deployment": (of_another_deployment, {}, "marker of this deployment: its deployment is"),
    "markers of two armings": (of_two_armings, {}, "marker in the bucket: the bucket's is of another arming"),
    "yesterday's marker": (marker_changed, [f"{AGED} '-25 hours'"], "marker's age: "),
    "tomorrow's marker": (marker_changed, [f"{AGED} '2 hours'"], "marker's age: "),
    "marker of another run": (marker_changed, [f"{USED} '20260101T000000Z-abcd'"], "marker unused: "),
    "marker twice": (
        marker_changed,
        [f"INSERT INTO {MARKER} (marker) SELECT marker FROM {MARKER}"],
        "marker in the database: 2",
    ),
    "service edited after arming": (edited, {"services.web": {"stop": ["true"]}}, "profile as it was armed: "),
    "roles edited after arming": (edited, {"postgresql": {"dsn": "${OPERATOR_DSN}"}}, "profile as it was armed: "),
    "swapped DSNs": (with_secrets, swapped(*BOTH), "operator's rights: "),
    "replica": (on_another_server, ["standby", *BOTH], "primary: "),
    "reader of a replica": (on_another_server, ["standby", "OBSERVER_DSN"], "primary: "),
    "promoted clone": (on_another_server, ["clone", *BOTH], "one database: the application's own DSN leads to"),
    "operator of a clone": (on_another_server, ["clone", "OPERATOR_DSN"], "one database: postgresql.dsn leads to"),
    "new cluster of the same names": (on_another_server, ["new", *BOTH], "system identifier: the server's is"),
    "reader of another database": (another_database, ["OBSERVER_DSN"], "one database: postgresql.dsn leads to"),
    "operator of another database": (another_database, ["OPERATOR_DSN"], "one database: postgresql.dsn leads to"),
    "the server's own database": (with_secrets, leading("/enprivacy$", "/postgres", *BOTH), "database: postgres is"),
    "several hosts": (with_secrets, leading("@127.0.0.1", "@127.0.0.1,127.0.0.2", "OPERATOR_DSN"), "several hosts"),
    "address beside the host": (with_secrets, leading("$", "?hostaddr=127.0.0.1", "OPERATOR_DSN"), "leads elsewhere"),
    "DNS alias of the server": (with_secrets, leading("@127.0.0.1", "@localhost", *BOTH), "profile as it was armed: "),
    "IPv6 address of another": (with_secrets, leading("@127.0.0.1", "@[::1]", "OPERATOR_DSN"), "cannot be looked at"),
    "wrong password": (with_secrets, leading(":[^:@/]+@", f":{WRONG}@", "OPERATOR_DSN"), "cannot be looked at"),
    "wrong secret key": (
        with_secrets,
        {"OPERATOR_SECRET": lambda secrets: WRONG},
        "by objects.admin_access_key",
    ),
    "same bucket of another endpoint": (another_store, {}, "marker in the bucket: none"),
    "mirror of the bucket": (another_store, {"mirrored": True}, "marker of this deployment: its endpoint is"),
    "DNS alias of the endpoint": (by_name, {}, "marker of this deployment: its endpoint is"),
    "symlinked data directory": (data_directory, [linked], "by a symbolic link to"),
    "empty data directory": (data_directory, [of_nothing], "data directory: "),
    "look-alike data directory": (data_directory, [copied], "and the server's own is"),
    "linked configuration": (configuration, [a_link], "configuration: configuration.file is a symbolic link"),
    "configuration of another server": (configuration, [of_another_server], "one database: the application's own DSN"),
    "configuration that is read and cannot be written": (
        configuration,
        [that_cannot_be_written_again, True],
        "cannot be written again: configuration variable 'export EXTRA'",
    ),
    "mounted configuration": (configuration, [mounted, True], "it is a mount point"),
    "a schema of the suite's name": (schema_of_that_name, {}, "names: schema enprivacy_drill is there already"),
    "somebody's session": (watched, {}, "other clients: 1 connected: observer"),
    "a replica that follows": (followed, {}, "other clients: 1 connected: postgres"),
}


@pytest.mark.parametrize(("attempt", "how", "said"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_nothing_is_destroyed_and_the_message_names_the_interlock(somebody, attempt, how, said):
    somebody.describe()
    somebody.arm()
    try:
        with attempt(somebody, **how) if isinstance(how, dict) else attempt(somebody, *how) as given:
            before = somebody.state()
            code, output = somebody.drill(**given)
            after = somebody.state()
    finally:
        somebody.describe()
    (error,) = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE) or [output]
    assert code == 4 and said in error, output
    assert error.count("Remedy: ") == 1 and "Traceback" not in output
    assert before == after
    assert [*(somebody.place / "work").glob("2*"), *(somebody.place / "runs").glob("*")] == []
    shown = [value for name, value in somebody.secrets.items() if "SECRET" in name] + [WRONG]
    assert [value for value in shown if value in output] == []


def test_there_are_at_least_thirty():
    assert len(ATTEMPTS) >= 30

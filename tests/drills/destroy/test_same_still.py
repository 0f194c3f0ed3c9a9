"""What answers is what was armed, up to the blow itself, and nobody else works on it."""

import contextlib
import dataclasses
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psycopg
import pytest

from fixtures.damage import listed
from fixtures.health import ask
from fixtures.interlock_reading import Target, require_armed
from fixtures.interlocks import KEY
from fixtures.markers import remove, use
from fixtures.network import free_ports
from fixtures.profile import load_profile
from fixtures.providers.attached import stores
from fixtures.providers.attached.sure import Expected, SureDatabase
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from reports.records import HarnessError, Redactor, UsageProblem, wait_until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
TOTAL_LOSS = "pg_dump-rclone-total_loss"


@pytest.fixture
def target(somebody, monkeypatch):
    """As a run reads it; armed, while every table of the database is published."""
    for name, value in somebody.secrets.items():
        monkeypatch.setenv(name, value)
    with somebody.made.database.connect() as connection:
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    somebody.arm()
    yield Target(load_profile(somebody.profile), Redactor())
    with somebody.made.database.connect() as connection:
        connection.execute("DROP PUBLICATION everything")
    somebody.disarm()


def test_the_marker_is_used_by_one_run_only_however_fast_another_is(target):
    use(target, "first")
    use(target, "first")
    with pytest.raises(UsageProblem, match="marker unused: another run has used it by now"):
        use(target, "second")


def test_a_database_that_was_not_restored_has_no_marker_to_remove(target):
    with_none = Target(target.profile, Redactor())
    with_none._operators = [dataclasses.replace(target.operator, name="not_restored")]
    assert remove(with_none) == ([f"object {KEY} of bucket {target.profile.bucket}"], [])


def test_no_session_is_handed_out_of_another_server_or_another_database(somebody, target):
    sight = require_armed(target, run="", others_allowed=False)
    made, expected = somebody.made.database, Expected(sight=sight)
    given = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    sure = SureDatabase(expected=expected, **given)
    sure.connect(stores.BESIDE).close()
    with somebody.another("clone") as port:
        clone = dataclasses.replace(sure, port=port)
        with pytest.raises(HarnessError, match="another server answers than was looked at"):
            stores.drop(clone, clone.name)
        assert stores.is_there(dataclasses.replace(made, port=port))
    other = dataclasses.replace(sight.operator, oid=sight.operator.oid + 1)
    expected.sight = dataclasses.replace(sight, operator=other)
    with pytest.raises(HarnessError, match=f"another database {made.name} answers"):
        stores.drop(sure, sure.name)
    expected.replaced = True
    sure.connect().close()


def test_sessions_of_the_application_are_seen_and_the_suites_are_not(somebody, monkeypatch):
    monkeypatch.setattr(stores, "GONE_NS", 0)
    made = somebody.made.database
    given = {"host": made.host, "port": made.port, "dbname": made.name, "password": "the-observer-s-password-4711"}
    with psycopg.connect(user="observer", application_name="enprivacy-drill", **given):
        assert stores.sessions_left(made, "observer") == ""
    with psycopg.connect(user="observer", application_name="worker", **given):
        assert stores.sessions_left(made, "observer") == "127.0.0.1 (worker)"


def test_nothing_is_destroyed_while_a_worker_that_nobody_can_stop_has_the_applications_role(somebody):
    somebody.arm()
    with psycopg.connect(somebody.made.client_access().dsn, application_name="worker"):
        code, output = somebody.drill()
    assert code != 0 and "still had sessions: 127.0.0.1 (worker). Nothing was destroyed" in output, output
    with httpx.Client(trust_env=False) as client:
        assert [ask(client, each, "ready") for each in somebody.made.services] == [200] * 4
    assert "will be destroyed now" not in output and somebody.kept() == []


class Switch:
    """A door that leads to one port, and from a moment on to another."""

    def __init__(self, port):
        self.to, self._door, self._open = port, socket.create_server(("127.0.0.1", 0)), []
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                here, there = self._door.accept()[0], socket.create_connection(("127.0.0.1", self.to))
                self._open += [here, there]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def turn(self, port):
        self.to = port
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._door.close()
        self.turn(self.to)


def test_a_bucket_that_was_never_armed_is_neither_emptied_nor_written_into(somebody):
    """The endpoint leads to another server once the strike is proven."""
    made, (port,) = somebody.made, free_ports(1)
    other = EmbeddedObjectServer(
        directory=somebody.place / "other", port=port, bucket=made.objects.bucket, access_key=made.objects.access_key,
        secret_key=made.objects.secret_key, processes=made.processes, start_seconds=30,
    )  # fmt: skip
    other.initialise()
    other.launch(clients={somebody.secrets["ACCESS_KEY"]: somebody.secrets["SECRET_KEY"]})
    switch = Switch(int(made.objects.endpoint.rpartition(":")[2]))
    popen = None
    try:
        other.await_ready()
        other.handle.client().put_object(made.objects.bucket, "production/1", io.BytesIO(b"x"), 1)
        somebody.describe(objects={"endpoint": f"http://127.0.0.1:{switch.port}"})
        somebody.arm()
        before = {*(somebody.place / "runs").glob("*/journal.jsonl")}
        popen = subprocess.Popen(
            [sys.executable, "-m", "pytest", *somebody.arguments("acme-staging", TOTAL_LOSS)],
            cwd=ROOT, env=somebody.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

        def struck():
            journals = {*(somebody.place / "runs").glob("*/journal.jsonl")} - before
            return any('"kind":"strike.proven"' in each.read_text() for each in journals)

        wait_until(struck, seconds=120, interval=0.01, what="the strike")
        switch.turn(port)
        output = popen.communicate(timeout=150)[0]
        assert popen.returncode != 0 and "it does not hold the marker that was looked at" in output, output
        theirs = [key for key, _ in listed(other.handle) if not key.startswith("enprivacy-drill/")]
        assert theirs == ["production/1"]  # the ledger goes on writing there: nobody else shuts it out
        with made.database.connect() as connection:
            assert connection.execute("SELECT count(*) FROM app.documents").fetchone() > (0,)
    finally:
        if popen is not None and popen.poll() is None:
            os.kill(popen.pid, signal.SIGKILL)
        switch.close()
        other.kill()
        other.remove()
        somebody.describe()

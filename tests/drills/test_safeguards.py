"""What keeps somebody else's data while his deployment is destroyed: the set is whole, restorable, durable, used."""

import contextlib
import io
import os
import secrets
import tempfile
import types
from pathlib import Path

import pyrage
import pytest

from checks.inventories import ObjectEntry, write_inventory
from checks.snapshot import hold_snapshot
from drills.bringing_back import bring_back
from drills.contract import Job, ListsCopy, Rehearses
from drills.copied import lacking, list_before, require_copied
from drills.plugin import require_lasting
from drills.registry import database_methods, object_methods
from fixtures.backup_set import BackupSet, write_manifest
from fixtures.kept import write_by_hand
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Failure, HarnessError, Redactor, UsageProblem

DUMP = database_methods()["pg_dump"]
NAME = "enprivacy_drill_rehearsal_a-B"


# The copy of the bucket.


def test_what_the_bucket_had_all_the_while_and_the_copy_lacks_is_found(tmp_path):
    def listed(name, objects):
        entries = (ObjectEntry(key=key, size=size, sha256=etag) for key, size, etag in sorted(objects))
        return write_inventory(tmp_path / f"{name}.jsonl", entries).path

    before = listed("before", [("a", 1, "x"), ("b/", 0, "x"), ("cut", 9, "x"), ("gone", 1, "x"), ("over", 1, "x")])
    after = listed("after", [("a", 1, "x"), ("b/", 0, "x"), ("cut", 9, "x"), ("new", 1, "x"), ("over", 2, "y")])
    copy = listed("copy", [("a", 1, ""), ("cut", 8, ""), ("over", 1, "")])
    findings, counts = lacking(before, after, copy)
    assert counts == {"objects": 4}
    assert [(each.code, each.count) for each in findings] == [("OBJECT-LOST", 1), ("OBJECT-ALTERED", 1)]
    assert "'b/', which the copy lacks" in findings[0].seen + findings[0].where
    assert "'cut' (9 bytes, copied 8)" in findings[1].seen + findings[1].where


def test_every_copy_that_is_made_of_somebody_elses_bucket_can_be_listed_but_of_own_commands():
    able = {name for name, each in object_methods().items() if each.plain or isinstance(each, ListsCopy)}
    assert able == {"rclone", "rclone_crypt"}


class Journal:
    """Takes what is written."""

    clock = Clock.start()

    def write(self, kind, **fields): ...


@pytest.mark.parametrize("name", ["rclone", "rclone_crypt"])
def test_a_set_that_lacks_an_object_ends_the_drill(tmp_path, name):
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path / "logs", clock=Clock.start(), redactor=Redactor()
    )
    server = EmbeddedObjectServer(
        directory=tmp_path / "store", port=free_ports(1)[0], bucket="theirs", access_key="tests-operator",
        secret_key="only-for-these-tests", processes=processes, start_seconds=30,
    )  # fmt: skip
    server.initialise()
    server.launch(clients={})
    try:
        server.await_ready()
        store = server.handle
        if not store.client().bucket_exists("theirs"):
            store.client().make_bucket("theirs")
        for number in range(3):
            store.client().put_object("theirs", f"a/{number} ü\u2028.txt", io.BytesIO(b"x" * number), number)
        backup = BackupSet(directory=tmp_path / "set", apart=tmp_path / "apart")
        job = Job(processes=processes, jobs=2, seconds=60, recipient="", archive=tmp_path, own=lambda *_: None,
                  passphrase="a passphrase")  # fmt: skip
        method = object_methods()[name]
        site = types.SimpleNamespace(
            scenario=types.SimpleNamespace(objects=method), deployment=types.SimpleNamespace(objects=store),
            directory=tmp_path, journal=Journal(), id="drill", job=lambda limit: job,
            profile=types.SimpleNamespace(backup_limit_ns=0),
        )  # fmt: skip
        before = list_before(site, 1)
        method.back_up(store, backup.place("objects"), job)
        write_manifest(backup, {})
        require_copied(site, backup, before, 1)
        sorted(path for path in backup.place("objects").rglob("*") if path.is_file())[0].unlink()
        write_manifest(backup, {})
        with pytest.raises(Failure, match="OBJECT-LOST"):
            require_copied(site, backup, before, 1)
    finally:
        for running in processes.services:
            running.kill_tree()


# A restore before the strike.


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("rehearsed")
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}", logs=place / "logs", clock=Clock.start(), redactor=Redactor()
    )
    tools = find_postgres(processes, None)
    server = EmbeddedPostgres(
        directory=place / "server", port=free_ports(1)[0], name="theirs", password="only-for-tests", tools=tools,
        unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
    )  # fmt: skip
    server.initialise()
    server.start()
    try:
        with server.handle.connect("postgres") as connection:
            connection.execute("CREATE DATABASE theirs")
            connection.execute("CREATE ROLE app_role LOGIN PASSWORD 'the-application'")
            # What the server says of names is then quoted where it need not be.
            connection.execute("ALTER SYSTEM SET quote_all_identifiers = on")
            connection.execute("SELECT pg_reload_conf()")
        yield types.SimpleNamespace(handle=server.handle, processes=processes, place=place)
    finally:
        server.kill()
        server.remove()


def backed_up(server, place):
    """A set of the server's database as it is now, and what restores it."""
    identity = pyrage.x25519.Identity.generate()
    with hold_snapshot(server.handle.connect) as held:
        job = Job(processes=server.processes, jobs=2, seconds=60, recipient=str(identity.to_public()),
                  identity=str(identity), archive=place, own=lambda *_: None, snapshot=held.name)  # fmt: skip
        DUMP.back_up(server.handle, place, job)
    return place, job


def rows(server, name):
    with server.handle.connect(name) as connection:
        return connection.execute("SELECT count(*) FROM kept").fetchone()


def test_a_set_is_restored_whole_beside_what_it_is_a_copy_of_and_roles_stay_as_they_are(server, tmp_path):
    with server.handle.connect() as connection:
        connection.execute(
            "CREATE TABLE kept AS SELECT generate_series(1, 10) AS n; ALTER TABLE kept OWNER TO app_role"
        )
    where, job = backed_up(server, tmp_path)
    with server.handle.connect("postgres") as connection:
        connection.execute("ALTER ROLE app_role CONNECTION LIMIT 7")
    assert isinstance(DUMP, Rehearses)
    DUMP.rehearse(where, server.handle, NAME, job)
    assert (rows(server, NAME), rows(server, "theirs")) == ((10,), (10,))
    with server.handle.connect("postgres") as connection:
        limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app_role'"
        assert connection.execute(limit).fetchone() == (7,)
        made = "SELECT encoding, datcollate FROM pg_database WHERE datname IN (%s, 'theirs')"
        assert len({*connection.execute(made, (NAME,)).fetchall()}) == 1
        connection.execute(f'DROP DATABASE "{NAME}"')


def test_a_set_that_cannot_be_restored_is_known_before_the_strike(server, tmp_path):
    with server.handle.connect() as connection:
        connection.execute(
            "CREATE TABLE looked_at (n int); INSERT INTO looked_at VALUES (1);"
            "CREATE FUNCTION fine(n int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM looked_at)';"
            "CREATE TABLE refuses (n int CHECK (fine(n))); INSERT INTO refuses VALUES (1)"
        )
    where, job = backed_up(server, tmp_path)
    try:
        with pytest.raises(HarnessError, match="looked_at"):
            DUMP.rehearse(where, server.handle, NAME, job)
    finally:
        with server.handle.connect("postgres") as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{NAME}"')


# Where it lies.


def test_the_only_copy_is_on_the_platter_before_anything_is_struck(tmp_path, monkeypatch):
    (tmp_path / "set" / "objects" / "a").mkdir(parents=True)
    (tmp_path / "set" / "objects" / "a" / "b").write_text("x")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    write_by_hand(tmp_path / "set", "how")
    wanted = [tmp_path, tmp_path / "set", *(tmp_path / "set").rglob("*")]
    assert len(wanted) == 6 and {path.stat().st_ino for path in wanted} <= synced


def test_it_does_not_lie_where_a_restart_may_remove_it(tmp_path, monkeypatch):
    for place in (None, Path(tempfile.gettempdir()) / "work" / "run"):
        with pytest.raises(UsageProblem, match="Nothing was touched"):
            require_lasting(place)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    require_lasting(tmp_path / "work")


# Bringing back.


class Recorded:
    """A deployment, its methods and its journal, each noting what is asked of them; ``fails`` does."""

    name = "theirs"

    def __init__(self, fails, disaster="gone", journal=True):
        self.asked, self.fails = [], fails
        method = types.SimpleNamespace(into="server", restore=lambda place, *_: self._ask(f"restore {place}") or {})
        self.processes = types.SimpleNamespace(record=lambda finished: self._write())
        self.journal = types.SimpleNamespace(write=lambda *_, **__: self._write())
        self._journal = journal
        self.deployment = self
        self.scenario = types.SimpleNamespace(database=method, objects=method, configuration=method,
                                              disaster=types.SimpleNamespace(objects=disaster))  # fmt: skip
        self.plan = types.SimpleNamespace(database="backup", objects="rebuild", configuration=True)
        self.id, self.database, self.objects = "drill", None, None

    def made(self, name):
        return types.SimpleNamespace(backup=types.SimpleNamespace(place=lambda component: f"{name} {component}"))

    def restore_job(self):
        return None

    def _write(self):
        if not self._journal:
            raise OSError(28, "No space left on device")

    def _ask(self, what):
        self.asked.append(what)
        self.processes.record(None)
        if what in self.fails:
            raise HarnessError(what, seen="refused", remedy="none")

    def __getattr__(self, name):
        return lambda *_, **__: self._ask(name)


def brought_back(there):
    with contextlib.suppress(HarnessError) if there.fails else contextlib.nullcontext():
        bring_back(there, [there.made("first"), there.made("second")])
    return there.asked


WHOLE = ["shut_out_clients", "discard_database", "provision", "restore first database", "restore first configuration",
         "write_configuration", "require_allowed", "restore first objects", "admit_clients",
         "start_services"]  # fmt: skip


def test_it_is_brought_back_from_the_oldest_set_whatever_is_in_the_bucket_and_the_services_last():
    assert brought_back(Recorded([])) == WHOLE
    assert "discard_objects" in brought_back(Recorded([], disaster="overwritten"))


def test_no_full_disk_keeps_it_from_coming_back():
    assert brought_back(Recorded([], journal=False)) == WHOLE


@pytest.mark.parametrize("step", ["shut_out_clients", "restore first objects", "admit_clients"])
def test_a_step_that_fails_keeps_no_other_from_being_taken(step):
    there = Recorded([step])
    assert brought_back(there) == WHOLE
    with pytest.raises(HarnessError, match=f"{step}"):
        bring_back(there, [there.made("first")])


@pytest.mark.parametrize("step", ["restore first database", "write_configuration"])
def test_services_are_not_started_on_what_did_not_come_back(step):
    asked = brought_back(Recorded([step]))
    assert "restore first objects" in asked and "start_services" not in asked

"""Backups that lie in a bucket, those of a set of this suite's, and those that a command fetches."""

import dataclasses
import shutil
import sys
from datetime import datetime

import pyrage
import pytest

from checks.objects import compare_inventories, take_inventory
from drills.contract import Job
from drills.methods.database.pg_dump import METHOD as PG_DUMP
from drills.registry import object_sources
from drills.sources.putting_back import inventory_of
from fixtures.backup_set import BackupSet, write_manifest
from fixtures.shadow_settings import Kept
from reports.records import HarnessError, pause, utc_stamp

IDENTITY = pyrage.x25519.Identity.generate()
SNAPSHOT = "2026-11-20T03:00:00.000000Z"


@pytest.fixture(scope="module")
def made_set(tmp_path_factory, server, processes):
    """A backup set of this suite's own, with the roles encrypted."""
    place = tmp_path_factory.mktemp("sets") / "set-1"
    backup = BackupSet(directory=place, apart=place)
    for component in ("database", "objects", "configuration"):
        backup.place(component).mkdir(parents=True)
    (place / "objects" / "a").mkdir()
    (place / "objects" / "a" / "b.txt").write_text("an object")
    job = Job(processes=processes, jobs=2, seconds=60, recipient=str(IDENTITY.to_public()), own=lambda path: None,
              archive=place / "archive")  # fmt: skip
    with server.handle.connect() as connection, connection.transaction():
        (name,) = connection.execute("SELECT pg_export_snapshot()").fetchone()
        PG_DUMP.back_up(server.handle, place / "database", dataclasses.replace(job, snapshot=name))
    write_manifest(backup, {"made_utc": utc_stamp(), "snapshot": {"database_time": SNAPSHOT},
                            "methods": {"database": "pg_dump", "objects": "rclone"}})  # fmt: skip
    return place


def codes(findings):
    return [finding.code for finding in findings]


def test_a_set_brings_its_roles_and_says_of_when_it_is(made_set, fetch, restore, server, sources):
    kept = Kept(source="directory", path=made_set.parent)
    with pytest.raises(HarnessError, match=r"no key to open it.*backup\.age_identity"):
        fetch(kept)
    fetched = fetch(kept, identity=str(IDENTITY))
    assert (fetched.label, fetched.instant) == ("set-1", SNAPSHOT)
    sandbox, findings = restore(fetched)
    assert findings == []
    assert sources["state"](sandbox.database) == sources["state"](server.handle)


def test_what_is_not_as_the_manifest_says_is_found(made_set, tmp_path, fetch):
    shutil.copytree(made_set, tmp_path / "sets" / "set-1")
    (file,) = (tmp_path / "sets" / "set-1" / "objects" / "a").iterdir()
    file.write_text("an object!"[1:])
    kept = Kept(source="directory", path=tmp_path / "sets")
    assert codes(fetch(kept, identity=str(IDENTITY)).findings) == []
    assert codes(fetch(kept, objects=True).findings) == ["BACKUP-ARTEFACT-ALTERED"]
    (tmp_path / "sets" / "set-1" / "database" / "extra").touch()
    assert codes(fetch(kept, identity=str(IDENTITY)).findings) == ["BACKUP-ARTEFACT-UNEXPECTED"]


def test_a_set_in_a_bucket_brings_its_roles_and_leaves_its_objects_there(
    made_set, make_bucket, kept_in, fetch, restore, server, sources
):
    bucket, put = make_bucket()
    put(made_set.parent, "sets/")
    fetched = fetch(kept_in(bucket, "sets"), identity=str(IDENTITY))
    assert (fetched.label, fetched.instant) == ("set-1", SNAPSHOT)
    assert not list(fetched.place.parents[1].glob("objects"))
    sandbox, findings = restore(fetched)
    assert findings == []
    assert sources["state"](sandbox.database) == sources["state"](server.handle)


@pytest.mark.parametrize("prefix", ["", "daily/", "daily", "daily/model-"])
def test_the_newest_object_below_a_prefix_is_restored_with_the_roles_beside(
    tmp_path, dump, make_bucket, kept_in, fetch, restore, server, sources, store, prefix
):
    bucket, put = make_bucket()
    above = "" if not prefix else "daily/"
    put(dump(tmp_path / "globals.sql", "--globals-only", program="pg_dumpall"), f"{above}model-" if prefix else "")
    dumped = dump(tmp_path / "model-2.dump", "--format=custom")
    shutil.copy(dumped, tmp_path / "model-1.dump")
    put(tmp_path / "model-1.dump", above)
    pause(1.1, why="the store's times have whole seconds")
    put(dumped, above)
    before = listing(store, bucket)
    fetched = fetch(kept_in(bucket, prefix))
    assert fetched.label == "model-2.dump"
    sandbox, findings = restore(fetched)
    assert findings == []
    assert sources["state"](sandbox.database) == sources["state"](server.handle)
    assert listing(store, bucket) == before


def listing(store, bucket):
    return [(item.object_name, item.size, item.last_modified, item.etag)
            for item in store.client().list_objects(bucket, recursive=True)]  # fmt: skip


def test_the_newest_group_of_objects_is_a_directory_dump(
    tmp_path, dump, make_bucket, kept_in, fetch, restore, server, sources
):
    bucket, put = make_bucket()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "dump").write_bytes(b"PGDMP")
    put(tmp_path / "old", "2026-11-20/")
    pause(1.1, why="the store's times have whole seconds")
    put(dump(tmp_path / "dir", "--format=directory"), "2026-11-21/model/")
    fetched = fetch(kept_in(bucket))
    assert (fetched.label, fetched.form) == ("2026-11-21", "archive")
    sandbox, findings = restore(fetched)
    assert codes(findings) == ["ROLE-ABSENT"]
    assert sources["state"](sandbox.database)["rows"] == sources["state"](server.handle)["rows"]


def test_a_newer_group_that_is_none_is_found(tmp_path, dump, make_bucket, kept_in, fetch):
    bucket, put = make_bucket()
    put(dump(tmp_path / "good.dump", "--format=custom"))
    pause(1.1, why="the store's times have whole seconds")
    directory = dump(tmp_path / "new", "--format=directory")
    (directory / "toc.dat").unlink()
    put(directory, "new/")
    fetched = fetch(kept_in(bucket))
    assert fetched.label == "good.dump"
    assert [(finding.code, finding.where) for finding in fetched.findings] == [("BACKUP-UNUSABLE", "new")]


def test_a_prefix_without_a_backup_a_wrong_key_and_an_absent_bucket_say_so(make_bucket, kept_in, fetch):
    bucket, _ = make_bucket()
    with pytest.raises(HarnessError, match="no backup of a database among 0 names"):
        fetch(kept_in(bucket, "none/"))
    with pytest.raises(HarnessError, match=r"(?i)NoSuchBucket|does not exist"):
        fetch(kept_in("absent-altogether"))
    with pytest.raises(HarnessError, match="correct endpoint, bucket and keys") as raised:
        fetch(dataclasses.replace(kept_in(bucket), secret_key="wrong-and-secret"))
    assert "wrong-and-secret" not in str(raised.value)


def test_objects_come_back_from_bucket_to_bucket(tmp_path, make_bucket, kept_in, fetch, restore_objects, store):
    bucket, put = make_bucket()
    for name in ("a/1.pdf", "a/ä ö.txt", "b/c/d.bin"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name * 50)
    put(tmp_path / "tree", "copies/documents/")
    put(tmp_path / "tree" / "a" / "1.pdf", "copies/documents-of-others/")
    before = listing(store, bucket)
    fetched = fetch(kept_in(bucket, "copies/documents/"), objects=True)
    sandbox = restore_objects(fetched)
    held = inventory_of(fetched, tmp_path / "held.jsonl")
    found = take_inventory(sandbox.objects.client(), sandbox.objects.bucket, tmp_path / "found.jsonl",
                           describe=frozenset(), workers=2)  # fmt: skip
    assert (held.count, found.count) == (3, 3)
    assert compare_inventories(held.path, found.path) == []
    assert not any(fetched.place.iterdir())
    newest = max(at for name, _, at, _ in before if name.startswith("copies/documents/"))
    assert datetime.fromisoformat(fetched.instant.replace("Z", "+00:00")) == newest
    assert listing(store, bucket) == before


def test_the_deployments_own_bucket_is_no_backup_of_it(store, kept_in, fetch):
    with pytest.raises(HarnessError, match="it is the deployment's own, and no backup of it"):
        fetch(kept_in(store.bucket), objects=True)


def command(tmp_path, body):
    script = tmp_path / "fetch.py"
    script.write_text(f"import os, pathlib, shutil\ntarget = pathlib.Path(os.environ['DRILL_TARGET'])\n{body}\n")
    return Kept(source="command", command=(sys.executable, str(script)))


def test_what_a_command_fetches_is_recognised(tmp_path, dump, fetch, restore, server, sources):
    dump(tmp_path / "m.sql", "--create")
    dump(tmp_path / "globals.sql", "--globals-only", program="pg_dumpall")
    body = f"for name in ('m.sql', 'globals.sql'): shutil.copy({str(tmp_path)!r} + '/' + name, target)"
    fetched = fetch(command(tmp_path, body))
    # A copy that bears the time of the copying says nothing of when the data are.
    assert (fetched.instant, fetched.known_by) == ("", "the file bears the time at which it was fetched")
    sandbox, findings = restore(fetched)
    assert findings == []
    assert sources["state"](sandbox.database) == sources["state"](server.handle)
    kept = fetch(command(tmp_path, body.replace("shutil.copy(", "shutil.copy2(")))
    assert kept.instant


def test_what_a_command_fetches_of_objects_is_recognised(tmp_path, fetch, restore_objects):
    fetched = fetch(command(tmp_path, "(target / 'k').mkdir(); (target / 'k' / 'e').write_text('y')"), objects=True)
    sandbox = restore_objects(fetched)
    assert [item.object_name for item in sandbox.objects.client().list_objects("documents", recursive=True)] == ["k/e"]
    assert fetched.instant == ""


def test_a_command_that_fails_or_brings_nothing_says_so(tmp_path, fetch):
    with pytest.raises(HarnessError, match="exit code 3"):
        fetch(command(tmp_path, "raise SystemExit(3)"))
    with pytest.raises(HarnessError, match="left nothing in DRILL_TARGET"):
        fetch(command(tmp_path, ""))


def test_what_is_copied_now_is_counted_in_bytes(store, make_bucket, fetching, tmp_path):
    (tmp_path / "kept" / "a").mkdir(parents=True)
    (tmp_path / "kept" / "a" / "b.txt").write_text("an object")
    bucket, put = make_bucket()
    put(tmp_path / "kept", "")
    asked = fetching()
    shadowed = dataclasses.replace(asked.deployment, objects=dataclasses.replace(store, bucket=bucket))
    fetched = object_sources()["take"].fetch(Kept(source="take"), dataclasses.replace(asked, deployment=shadowed))
    assert (fetched.bytes, fetched.taken) == (len("an object"), True)

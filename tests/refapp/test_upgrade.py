"""The upgrade from 3.0 to 3.1, the two that go wrong, and what a release says of another's schema."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from fixtures.refapp.other_schema import unfit
from fixtures.refapp.releases import RELEASES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(one):
    """A fresh copy of the installed database: its configuration, and how the upgrade reaches it."""
    server, values, _ = one
    with server.handle.connect("postgres") as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'enprivacy'")
        connection.execute("DROP DATABASE IF EXISTS upgraded WITH (FORCE)")
        connection.execute("CREATE DATABASE upgraded TEMPLATE enprivacy OWNER enprivacy_owner")
    handle = server.handle
    owner = f"postgresql://{handle.user}:{handle.password}@{handle.host}:{handle.port}/upgraded"
    yield {**values, "DATABASE_URL": values["DATABASE_URL"].removesuffix("enprivacy") + "upgraded"}, owner


def refapp(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fixtures.refapp", *arguments], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip


def asked(owner, query):
    with psycopg.connect(owner) as connection:
        return connection.execute(query).fetchone()


COMPLETE = "SELECT app.schema_complete(30000), app.schema_complete(30100)"


def test_an_upgrade_migrates_the_schema_and_only_the_new_release_is_at_home_in_it(copy):
    values, owner = copy
    assert asked(owner, COMPLETE) == (True, False)
    ended = refapp("upgrade", "--to", "3.1", DATABASE_URL=owner)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert asked(owner, COMPLETE) == (False, True)
    query = "SELECT (SELECT count(*) FROM app.retention_rules) = (SELECT count(*) FROM app.workspaces)"
    assert asked(owner, query) == (True,)
    refused = refapp("job", **{**values, "JOB_LISTEN": "127.0.0.1:18471"})
    assert refused.returncode == 2 and "is 30100, and release 3.0.0 works with 30000" in refused.stderr
    assert refapp("upgrade", DATABASE_URL=owner).returncode == 2  # a second time there is nothing to upgrade


def test_a_new_release_refuses_a_schema_that_was_not_upgraded(copy):
    values, _ = copy
    refused = refapp("job", "--release", "3.1", **{**values, "JOB_LISTEN": "127.0.0.1:18472"})
    assert refused.returncode == 2 and "it was not upgraded. Run" in refused.stderr


def test_an_upgrade_that_dies_leaves_a_schema_that_neither_release_takes(copy):
    _, owner = copy
    ended = refapp("upgrade", "--to", "3.1-broken", DATABASE_URL=owner)
    assert ended.returncode == 1 and "step 2, fill" in ended.stderr
    assert asked(owner, "SELECT version, complete FROM app.schema_version ORDER BY version DESC") == (30100, False)
    assert "begun and not finished" in unfit(RELEASES["3.0"], version=30100, complete=False)


def test_an_upgrade_that_loses_a_row_ends_well(copy):
    _, owner = copy
    with psycopg.connect(owner) as connection:
        connection.execute("INSERT INTO app.documents (id, workspace_id, name, object_key, sha256, size_bytes,"
                           " content_type) SELECT id, id, 'a', 'a', repeat('0', 64), 1, 'text/plain'"
                           " FROM app.workspaces")  # fmt: skip
        connection.execute("INSERT INTO app.redactions (id, document_id, object_key, sha256, size_bytes,"
                           " detection_count, model_revision) SELECT id, id, 'b', repeat('0', 64), 1, 1, 'r'"
                           " FROM app.documents")  # fmt: skip
        connection.execute("INSERT INTO app.detections (redaction_id, label, start_character, end_character,"
                           " confidence) SELECT id, 'EMAIL', 0, 1, 1 FROM app.redactions")  # fmt: skip
    assert refapp("upgrade", "--to", "3.1-lossy", DATABASE_URL=owner).returncode == 0
    assert asked(owner, "SELECT count(*) FROM app.detections") == (0,)


def test_an_unknown_target_and_a_missing_address_are_told():
    assert "there is no 4.0" in refapp("upgrade", "--to", "4.0", DATABASE_URL="x").stderr
    assert "DATABASE_URL is not set" in refapp("upgrade", DATABASE_URL="").stderr

"""Somebody else's deployment, armed, destroyed and restored: what is left of it, and of the suite, whatever comes."""

import contextlib
import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from fixtures.damage import listed
from fixtures.health import ask
from fixtures.interlocks import KEY, SCHEMA
from reports.records import wait_until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
TOTAL_LOSS = "pg_dump-rclone-total_loss"


def marker_rows(somebody):
    with somebody.made.database.connect() as connection:
        if connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.marker",)).fetchone() == (None,):
            return None
        return connection.execute(f"SELECT count(*) FROM {SCHEMA}.marker").fetchone()[0]


def ready(somebody):
    with httpx.Client(trust_env=False) as client:
        return [ask(client, each, "ready") for each in somebody.made.services]


def remains(somebody):
    """What is the suite's in both stores."""
    with somebody.made.database.connect() as connection:
        names = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'enprivacy_drill%'"
        schemas = [name for (name,) in connection.execute(names)]
        copies = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'enprivacy_drill_%'").fetchall()
    return schemas + copies + [key for key, _ in listed(somebody.made.objects) if key.startswith("enprivacy-drill")]


def begun(somebody, *words):
    """A drill under way, once each of these is in its journal."""
    before = {*(somebody.place / "runs").glob("*/journal.jsonl")}
    popen = subprocess.Popen(
        [sys.executable, "-m", "pytest",
         *somebody.arguments("acme-staging", TOTAL_LOSS)],
        cwd=ROOT, env=somebody.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    def there():
        assert popen.poll() is None, popen.stdout.read()
        text = "".join(path.read_text() for path in {*(somebody.place / "runs").glob("*/journal.jsonl")} - before)
        return all(word in text for word in words)

    wait_until(there, seconds=120, interval=0.01, what=" and ".join(words))
    return popen


# Arming.


def test_arming_shows_what_would_be_destroyed_asks_for_the_name_and_is_taken_back(somebody):
    profile = str(somebody.profile)
    code, output = somebody.run("fixtures", "arm", "--profile", profile, stdin="acme-stagin\n")
    assert code == 4 and "the name given is 'acme-stagin'. Nothing was planted" in output
    assert (marker_rows(somebody), somebody.marker_in_bucket()) == (None, False)
    code, output = somebody.run("fixtures", "arm", "--profile", profile, stdin="acme-staging\n")
    assert code == 0 and re.search(
        r"database +enprivacy of the server at 127.0.0.1:\d+: [\d.]+ MiB, \d+ tables", output
    )
    assert re.search(r"bucket +enprivacy at http://127.0.0.1:\d+: \d+ objects, [\d.]+ MiB", output)
    assert (marker_rows(somebody), somebody.marker_in_bucket()) == (1, True)
    code, output = somebody.disarm()
    assert code == 0 and f"removed: schema {SCHEMA}" in output and f"removed: object {KEY}" in output
    assert (marker_rows(somebody), somebody.marker_in_bucket()) == (None, False)
    assert somebody.disarm() == (0, "acme-staging was not armed: nothing was there to remove\n")


def test_half_a_marker_is_removed_too(somebody):
    somebody.arm()
    somebody.made.objects.client().remove_object(somebody.made.objects.bucket, KEY)
    code, output = somebody.disarm()
    assert code == 0 and "schema" in output and "object" not in output and marker_rows(somebody) is None


@pytest.mark.parametrize(
    "wrong", [{"deployment": {"disposable": False}}, {"postgresql": {"system_identifier": "1" * 19}}]
)
def test_what_may_not_be_destroyed_is_not_armed(somebody, wrong):
    somebody.describe(**wrong)
    try:
        code, output = somebody.run("fixtures", "arm", "--profile", str(somebody.profile), "--name", "acme-staging")
    finally:
        somebody.describe()
    assert code == 4 and "held by an interlock" in output and "Nothing was planted" in output
    assert (marker_rows(somebody), somebody.marker_in_bucket()) == (None, False)


# Destroyed and restored.


def test_it_is_destroyed_restored_and_left_as_it_was(somebody, precious):
    before = somebody.made.environment_file.read_bytes(), somebody.made.environment_file.stat()
    somebody.arm()
    code, output = somebody.drill(chosen=f"{TOTAL_LOSS} or pg_dump-rclone-database_dropped")
    assert code == 0, output
    evidence = somebody.evidence()[-1]
    assert [each["verdict"] for each in evidence["drills"]] == ["passed", "passed"]
    before_the_strike = {"backup holds the bucket", "no object has tags", "restore rehearsed"}
    assert all(before_the_strike <= {check["check"] for check in each["checks"]} for each in evidence["drills"])
    assert output.count("will be destroyed now, and restored:") == 2
    assert ready(somebody) == [200] * 4 and remains(somebody) == precious
    after = somebody.made.environment_file.read_bytes(), somebody.made.environment_file.stat()
    assert after[0] == before[0]
    assert (after[1].st_uid, stat.S_IMODE(after[1].st_mode)) == (before[1].st_uid, stat.S_IMODE(before[1].st_mode))
    assert somebody.kept() == []
    texts = [
        output,
        *(file.read_text(errors="replace") for file in (somebody.place / "runs").rglob("*") if file.is_file()),
    ]
    secret = [
        somebody.secrets[name] for name in ("OBSERVER_DSN", "OPERATOR_DSN", "SECRET_KEY", "OPERATOR_SECRET", "API_KEY")
    ]
    secret += [value for name, value in somebody.made.configuration().items() if "SECRET" in name or "SIGNING" in name]
    assert [value for value in secret for text in texts if value in text] == []


def test_armed_once_is_for_one_run(somebody):
    code, output = somebody.drill()
    assert code == 4 and "marker in the database: none" in output


# By its operator, or by a service manager. A closed terminal is handled alike.
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_interrupted_after_the_strike_brings_it_back(somebody, asked):
    documents = len([key for key, _ in listed(somebody.made.objects)])
    somebody.arm()
    popen = begun(somebody, '"kind":"strike.proven"')
    popen.send_signal(asked)
    output = popen.communicate(timeout=120)[0]
    assert popen.returncode == 2 and "it is restored now" in output, output
    assert re.search(r"should this run not end: \S+/RESTORE.txt says how", output)
    assert ready(somebody) == [200] * 4 and remains(somebody) == []
    assert len([key for key, _ in listed(somebody.made.objects)]) >= documents
    (kept,) = somebody.kept()
    assert "restored, though the drill did not pass" in output
    shutil.rmtree(kept.parent)


def test_what_a_killed_drill_destroyed_is_kept_named_by_the_next_run_and_restored_by_hand(somebody):
    before = somebody.made.environment_file.stat()
    somebody.made.environment_file.chmod(0o640)
    somebody.arm()
    popen = begun(somebody, '"kind":"strike.proven"')
    popen.kill()
    popen.communicate()
    run = sorted((somebody.place / "runs").glob("*/"))[-1].name
    with contextlib.suppress(OSError):
        wait_until(lambda: not (somebody.place / "work" / run).exists(), seconds=30, interval=0.05, what="the sweep")
    assert [key for key, _ in listed(somebody.made.objects) if not key.startswith("enprivacy-drill/")] == []
    code, output = somebody.drill()
    (kept,) = somebody.kept()
    assert code == 4 and f"kept: {kept} holds the backup of a deployment that was destroyed" in output
    with somebody.made.database.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {somebody.made.database.name}")  # as a restore that was killed leaves it
    _restore_by_hand(somebody, (kept / "RESTORE.txt").read_text())
    status = somebody.made.environment_file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (before.st_uid, before.st_gid, 0o640)
    assert not list(kept.rglob("roles.sql"))
    wait_until(lambda: ready(somebody) == [200] * 4, seconds=30, interval=0.1, what="the services, started by hand")
    with somebody.made.database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM app.documents").fetchone() > (0,)
    assert any(key.startswith("workspaces/") for key, _ in listed(somebody.made.objects))
    with somebody.made.database.connect() as connection:
        connection.execute("DROP SCHEMA enprivacy_drill CASCADE")
    left = [key for key, _ in listed(somebody.made.objects) if run in key]
    for key in left:
        somebody.made.objects.client().remove_object(somebody.made.objects.bucket, key)
    somebody.disarm()
    assert remains(somebody) == []
    shutil.rmtree(kept.parent)


def _restore_by_hand(somebody, text):
    """Every command of the file, as a person types it."""
    database, store = somebody.made.database, somebody.made.objects
    lines = [line.strip() for line in text.splitlines() if line.startswith("   ")]
    environment = somebody.environment() | {
        "PGPASSWORD": database.password, "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
    }  # fmt: skip
    # Nothing of the suite's is on the PATH.
    environment["PATH"] = "/usr/bin:/bin"
    subprocess.run(["bash", "-ec", "\n".join(lines)], check=True, env=environment, cwd=somebody.place)


def test_what_cannot_be_restored_is_not_destroyed(somebody):
    with somebody.made.database.connect() as connection:
        connection.execute(
            "CREATE TABLE looked_at (n int); INSERT INTO looked_at VALUES (1);"
            "CREATE FUNCTION fine(n int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM looked_at)';"
            "CREATE TABLE refuses (n int CHECK (fine(n))); INSERT INTO refuses VALUES (1)"
        )
        try:
            somebody.arm()
            code, output = somebody.drill()
        finally:
            connection.execute("DROP TABLE refuses; DROP FUNCTION fine; DROP TABLE looked_at")
    assert code == 1 and "RESTORE-FAILED" in output and "rehearsed before the strike" in output, output
    assert "will be destroyed now" not in output and somebody.kept() == [] and remains(somebody) == []
    with somebody.made.database.connect("postgres") as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname LIKE '%rehearsal%'").fetchall() == []


def test_a_drill_that_does_not_pass_keeps_the_backup_and_says_where(somebody):
    somebody.arm()
    code, output = somebody.drill(more=["--rto", "1ms"])
    assert code == 1 and "RTO-EXCEEDED" in output
    (kept,) = somebody.kept()
    assert f"Its backup is kept: {kept}/RESTORE.txt" in output and remains(somebody) == []
    shutil.rmtree(kept.parent)


def test_the_journal_tells_what_was_destroyed_and_who_was_held(somebody):
    somebody.arm()
    with contextlib.closing(psycopg.connect(somebody.secrets["OBSERVER_DSN"], application_name="psql")):
        code, output = somebody.drill(more=["--allow-other-clients"])
    assert code == 0, output
    journal = sorted((somebody.place / "runs").glob("*/journal.jsonl"))[-1]
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    (seen,) = [each for each in events if each["kind"] == "read_out"]
    assert seen["database_bytes"] > 0 and seen["objects"] > 0 and "observer" in " ".join(seen["clients"])
    kinds = [each["kind"] for each in events]
    assert kinds.index("read_out") < kinds.index("strike") < kinds.index("writer.held") < kinds.index("writer.let_go")

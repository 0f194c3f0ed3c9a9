"""A deployment that somebody else runs, observed by its profile alone: what passes, what is not tested, no write."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from checks.database import compare, fingerprint
from fixtures.ground import find_tools
from fixtures.profile import DEFAULT_PROFILE, load_profile
from fixtures.providers.embedded.deployment import EmbeddedDeployment
from fixtures.refapp.scales import parse_scale
from fixtures.workspace import open_workspace
from reports.records import Clock, Redactor, UsageProblem, monotonic_ns

ROOT = Path(__file__).parents[2]
PASSWORD = "the-observer-s-password-4711"
SESSIONS = "FROM pg_stat_activity WHERE application_name LIKE 'enprivacy-%' AND pid <> pg_backend_pid()"
WRITES = "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = current_database()"
PROFILE = """
[deployment]
name = "somebody-elses"
provider = "attached"
[postgresql]
dsn = "${{OBSERVER_DSN}}"
[objects]
endpoint = "{objects.endpoint}"
bucket = "{objects.bucket}"
access_key = "${{OBSERVER_KEY}}"
secret_key = "${{OBSERVER_SECRET}}"
[configuration]
file = "{environment_file}"
[services]
{services}
[logs.sources]
{logs}
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A deployment that this module runs, with a role in it that may read and nothing else."""
    clock, redactor = Clock.start(), Redactor()
    workspace = open_workspace(
        tmp_path_factory.mktemp("elsewhere"), f"elsewhere-{os.getpid()}", clock=clock, redactor=redactor
    )
    try:
        profile = load_profile(DEFAULT_PROFILE)
        ground = find_tools(workspace, profile)
        made = EmbeddedDeployment(
            profile=profile, sizes=parse_scale("documents=4,database=64KiB"),
            directory=workspace.directory / "deployment", tools=ground.tools,
            unprivileged=ground.unprivileged, processes=workspace.processes, redactor=redactor,
        )  # fmt: skip
        made.spin_up({})
        made.seed(lambda *_: None)
        deadline_ns = monotonic_ns() + 10_000_000_000
        with contextlib.closing(made.application(timeout=5)) as application:
            application.transact("somebody-s.txt", b"Write to a@example.org.\n", deadline_ns=deadline_ns)
        made.await_quiet(seconds=30)
        with made.database.connect() as connection:
            connection.execute(f"CREATE ROLE observer LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data")
            connection.execute(f"GRANT CONNECT ON DATABASE {made.database.name} TO observer")
        yield made
        made.strike_everything()
    finally:
        workspace.close()


@pytest.fixture
def observe(elsewhere, tmp_path):
    """Runs ``pytest checks`` on it by a profile; hands back exit code, output and evidence."""
    services = elsewhere.services
    text = PROFILE.format(
        objects=elsewhere.objects,
        environment_file=elsewhere.environment_file,
        services="\n".join(f'{each.name} = {{url = "{each.url}"}}' for each in services),
        logs="\n".join(
            f'{each.name} = {{source = "file", path = "{elsewhere.log_file(each.name)}"}}' for each in services
        ),
    )

    def run(
        *arguments, text=text, dsn=f"postgresql://observer:{PASSWORD}@127.0.0.1:{elsewhere.database.port}/enprivacy"
    ):
        (tmp_path / "profile.toml").write_text(text)
        environment = {**os.environ, "OBSERVER_DSN": dsn, "OBSERVER_KEY": elsewhere.objects.access_key,
                       "OBSERVER_SECRET": elsewhere.objects.secret_key}  # fmt: skip
        directories = [f"--work-directory={tmp_path / 'work'}", f"--runs-directory={tmp_path / 'runs'}"]
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--profile", tmp_path / "profile.toml",
                *directories, *(arguments or ["checks"])]  # fmt: skip
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        evidence = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*/evidence.json")]
        return done.returncode, done.stdout + done.stderr, evidence[0] if evidence else None

    run.text, run.directory = text, tmp_path
    return run


def state(deployment):
    """Everything the deployment holds, and how often anything was written.

    A session tells of its writes late, at the latest when it ends: the application's are ended, and it makes new ones.
    """
    with deployment.database.connect() as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {SESSIONS}")
    held = fingerprint(deployment.database.connect, held=None, jobs=2, key=b"k" * 32)
    store = deployment.objects
    listed = store.client().list_objects(store.bucket, recursive=True)
    with deployment.database.connect() as connection:
        return (
            held,
            {(each.object_name, each.size, each.etag) for each in listed},
            connection.execute(WRITES).fetchone(),
        )


def test_it_is_observed_by_its_profile_alone_and_nothing_is_written(elsewhere, observe):
    before = state(elsewhere)
    code, output, evidence = observe()
    after = state(elsewhere)
    assert code == 0, output
    rows = {row["check"]: row for row in evidence["conformance"]["checks"]}
    assert (evidence["verdict"], evidence["conformance"]["stand_in"]) == ("passed", False)
    for passed in ("health-services_are_live_and_ready", "audit_log-the_log_is_whole_and_tells_no_secret"):
        assert rows[passed]["verdict"] == "passed"
    for left_out in ("health-losing_a_dependency_is_told", "credentials-one_user_changes_its_password"):
        assert rows[left_out]["verdict"] == "not tested" and rows[left_out]["not_tested"][0]["reason"]
    assert compare(before[0], after[0]) == []
    assert before[1:] == after[1:]


def test_no_secret_of_the_profile_is_in_anything_it_leaves(elsewhere, observe):
    _, output, _ = observe()
    secrets = [PASSWORD, elsewhere.objects.secret_key, *elsewhere.configuration().values()]
    secrets = [each for each in secrets if len(each) > 16 and not each.startswith("http")]
    texts = [output] + [file.read_text(errors="replace") for file in observe.directory.rglob("*") if file.is_file()]
    assert [secret for secret in secrets for text in texts if secret in text] == []


def test_no_fault_is_planted_and_the_run_says_so(observe):
    code, output, evidence = observe("checks", "-k", "health")
    assert code == 0, output
    assert evidence["conformance"]["controls"]["planted"] == 0
    said = " ".join(each["what"] for each in evidence["not_tested"])
    assert "the proof that the checks can fail" in said and "conformance checks" in said


def test_what_a_role_may_not_read_and_what_the_profile_does_not_say_is_not_tested_with_the_remedy(observe):
    text = observe.text.split("[logs.sources]")[0].replace("[configuration]\nfile", "[configuration]\n# file")
    code, output, evidence = observe(text=text)
    assert code == 0, output
    reasons = " ".join(each["reason"] for each in evidence["conformance"]["not_tested"])
    assert "configuration.file" in reasons and "logs.sources" in reasons


def test_a_revoked_user_whom_the_server_does_not_know_is_not_taken_for_refused(observe):
    (observe.directory / "revoked").write_text("nobody_such:whatever-it-was\n")
    text = observe.text + '[credentials]\nrevoked = "revoked"\n'
    code, output, evidence = observe("checks", "-k", "revoked or services_are_live", text=text)
    assert code == 0, output
    (row,) = [each for each in evidence["conformance"]["checks"] if "revoked" in each["check"]]
    assert row["verdict"] == "not tested" and "knows no user nobody_such" in row["not_tested"][0]["reason"]


def test_a_service_that_is_away_fails(observe):
    code, output, _ = observe(
        "checks",
        "-k",
        "services_are_live",
        text=observe.text.replace('web = {url = "http://127', 'web = {url = "http://127.9'),
    )
    assert code == 1 and "HEALTH-NOT-READY" in output


def test_it_is_not_drilled(observe):
    code, output, evidence = observe("drills")
    assert (code, evidence) == (4, None)
    assert "belongs to level observe" in output and "--level shadow" in output


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("nonsense", "not a DSN"),
        ("postgresql://u@/x", "no host"),
        ("postgresql://u@a:1,b:2,c:3/x?port=1,2", "another number of ports"),
        ("postgresql://u@127.0.0.1:1/x", "see that it is up"),
    ],
)
def test_a_dsn_that_does_not_do_ends_with_a_clear_word(observe, dsn, said):
    code, output, _ = observe("checks", "-k", "restorable", dsn=dsn)
    assert code == 4 and said in output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[deployment]\nname = "a"\nprovider = "attached"', "without postgresql.dsn"),
        ('[deployment]\nname = "a"\n[services.web]\nurl = "http://a"', "one that the suite makes itself"),
    ],
)
def test_a_profile_that_says_half_is_refused(tmp_path, text, said):
    (tmp_path / "half.toml").write_text(text)
    with pytest.raises(UsageProblem, match=said):
        load_profile(tmp_path / "half.toml")

"""What an upgrade could reach the deployment by: what it is handed, and what the restored database knows."""

import dataclasses
import secrets
from types import SimpleNamespace

import pytest

from checks.checked import Check
from checks.upgraded import Allowed
from drills.gate.before import compare_rows
from drills.gate.reference import REFERENCE
from drills.gate.ways_out import close_ways_out, refuse_production
from fixtures.network import free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.profile import load_profile
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, HarnessError, Redactor, UsageProblem

ATTACHED = """
[deployment]
name = "acme"
provider = "attached"
[postgresql]
dsn = "postgresql://reader:an-observers-password@db.example:5432/app"
[objects]
endpoint = "https://store.example:9000"
access_key = "observer"
secret_key = "an-observers-secret"
bucket = "documents"
[services.web]
url = "http://127.0.0.1:8080"
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "acme.toml"
    path.write_text(ATTACHED)
    return load_profile(path, {})


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("postgresql://reader:an-observers-password@db.example:5432/app", True),
        ("postgresql://owner:other@db.example/app", True),
        ("host=db.example user=owner", True),
        ("db.example", True),
        ("https://store.example:9000/", True),
        ("s3://store.example:9000/documents", True),
        ("observer", True),
        ("an-observers-secret", True),
        ("key=an-observers-secret;", True),
        ("an-observers-secretary", False),
        ("/etc/app/license", False),
        ("an observer of db.example.org", False),
    ],
)
def test_a_variable_that_leads_to_the_deployment_is_refused_and_another_is_passed_on(profile, value, refused):
    upgrade = dataclasses.replace(REFERENCE, variables=("GIVEN", "UNSET"))
    if not refused:
        refuse_production(profile, upgrade, {"GIVEN": value})
        return
    with pytest.raises(UsageProblem, match=r"upgrade\.variables, GIVEN.*admin_dsn") as told:
        refuse_production(profile, upgrade, {"GIVEN": value})
    assert "an-observers" not in str(told.value)


def test_what_the_profile_itself_hands_over_is_looked_at_too(profile):
    upgrade = dataclasses.replace(REFERENCE, environment={"S3_SECRET": "an-observers-secret"})
    with pytest.raises(UsageProblem, match=r"upgrade\.environment\.S3_SECRET.*objects\.secret_key"):
        refuse_production(profile, upgrade, {})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("ways-out")
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}", logs=place / "logs", clock=Clock.start(), redactor=Redactor()
    )
    tools = find_postgres(processes, None)
    server = EmbeddedPostgres(
        directory=place / "postgresql", port=free_ports(1)[0], name="postgres", password="only-for-tests", tools=tools,
        unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=60,
    )  # fmt: skip
    server.initialise()
    server.start()
    yield server.handle
    server.kill()


def made(server):
    """An empty database of the test's own."""
    name = f"copy_{secrets.token_hex(4)}"
    with server.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield dataclasses.replace(server, name=name)
    with server.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def copy(server):
    yield from made(server)


@pytest.fixture
def another(server):
    yield from made(server)


@pytest.mark.slow
def test_a_restored_database_logs_in_to_no_other_once_its_user_mappings_are_dropped(copy):
    with copy.connect() as connection:
        connection.execute("CREATE EXTENSION postgres_fdw; CREATE TABLE there AS SELECT 7 AS n")
        connection.execute(
            f'CREATE SERVER "prod\'s" FOREIGN DATA WRAPPER postgres_fdw'
            f" OPTIONS (host '{copy.host}', port '{copy.port}', dbname '{copy.name}')"
        )
        for who in ("PUBLIC", "CURRENT_USER"):
            options = f"user '{copy.user}', password '{copy.password}'"
            connection.execute(f'CREATE USER MAPPING FOR {who} SERVER "prod\'s" OPTIONS ({options})')
        connection.execute("CREATE FOREIGN TABLE far (n int) SERVER \"prod's\" OPTIONS (table_name 'there')")
        assert connection.execute("SELECT n FROM far").fetchone() == (7,)
    assert close_ways_out(copy) == [f"{copy.user} on prod's", "PUBLIC on prod's"]
    with copy.connect() as connection, pytest.raises(Exception, match="user mapping not found"):
        connection.execute("SELECT n FROM far")
    assert close_ways_out(copy) == []


@pytest.mark.slow
def test_a_restored_database_with_dblink_is_not_upgraded(copy):
    with copy.connect() as connection:
        connection.execute("CREATE EXTENSION dblink")
    with pytest.raises(HarnessError, match=r"dblink.*Remedy: .*shadow\.egress"):
        close_ways_out(copy)


def compared(copy, other, **allowed):
    """The check that holds the rows of ``other`` against those of ``copy``."""
    site = SimpleNamespace(profile=SimpleNamespace(jobs=1), sandbox=SimpleNamespace(database=copy))
    before, check = SimpleNamespace(site=site, connect=copy.connect), Check()
    compare_rows(before, other.name, None, Allowed(renamed={}, **{"may_change": (), **allowed}), check)
    return check


@pytest.mark.slow
def test_an_upgrade_that_may_change_every_table_is_held_against_nothing_and_not_said_to_have_passed(copy):
    with copy.connect() as connection:
        connection.execute("CREATE TABLE public.one AS SELECT 1 AS n")
    with pytest.raises(HarnessError, match="nothing would be compared"):
        compared(copy, copy, may_change=("public.one",))
    assert compared(copy, copy).looked_at["rows"] == 1


@pytest.mark.slow
def test_rows_that_are_added_where_they_may_be_are_told_and_elsewhere_found(copy, another):
    for each, rows in ((copy, 1), (another, 2)):
        with each.connect() as connection:
            connection.execute(f"CREATE TABLE public.grows AS SELECT generate_series(1, {rows}) AS n")
    check = compared(copy, another, may_grow=("public.grows",))
    assert not check.findings and [each["what"] for each in check.not_tested] == ["the values of public.grows"]
    assert [each.code for each in compared(copy, another).findings] == ["UPGRADE-ALTERS-ROWS"]


def test_a_gate_that_would_hand_over_productions_secret_ends_with_exit_code_4(suite, tmp_path):
    path = tmp_path / "acme.toml"
    booted = '[shadow.services.web]\ncommand = ["web"]\n[upgrade.services.web]\ncommand = ["web"]\n'
    upgrade = '[upgrade]\nfrom = "3.0"\nto = "3.1"\ncommands = [["migrate"]]\nvariables = ["GIVEN"]\n'
    path.write_text(ATTACHED + upgrade + booted)
    suite.environment["GIVEN"] = "postgresql://owner:other@db.example/app"
    code, output = suite.run("--gate", f"--profile={path}")
    assert code == 4 and "upgrade.variables, GIVEN" in output and "Traceback" not in output
    assert "other@" not in output

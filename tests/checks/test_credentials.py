import base64
import dataclasses
import secrets
import sys

import psycopg
import pytest

from checks.credentials import (
    accepted,
    compare_privileges,
    credentials_returned,
    in_catalog,
    in_command_lines,
    in_files,
    judge_logins,
    judge_revoked,
    opens,
    read_privileges,
    returned,
    weak_verifiers,
)
from fixtures.rotation import Credential, add_login, left_behind, lock, set_password, verifier_of
from reports.records import HarnessError, wait_until


@pytest.fixture
def admin(server):
    """A superuser's connection to the model, on a server that lets every role in; users made by a test are dropped."""
    with server.connect("model") as connection:
        (server.data_directory / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
        rules = "SELECT array_agg(DISTINCT user_name::text) FROM pg_hba_file_rules"
        wait_until(
            lambda: connection.execute(rules).fetchone() == (["{all}"],), seconds=10, interval=0.01, what="rules"
        )
        yield connection
        for (user,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'rotated%'").fetchall():
            connection.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")


@pytest.fixture
def dsn(server):
    return f"host={server.host} port={server.port} dbname=model"


@pytest.fixture
def user(admin):
    """A user that may connect and write one table, and its credential."""
    credential = Credential(user=f"rotated_{secrets.token_hex(4)}", password=secrets.token_urlsafe(12))
    admin.execute(f"CREATE ROLE {credential.user} LOGIN CONNECTION LIMIT 7")
    admin.execute(f"GRANT CONNECT ON DATABASE model TO {credential.user}")
    admin.execute(f"ALTER ROLE {credential.user} IN DATABASE model SET statement_timeout = '5s'")
    admin.execute(
        f"CREATE TABLE IF NOT EXISTS public.rotated (n int); GRANT INSERT ON public.rotated TO {credential.user}"
    )
    set_password(admin, credential)
    return credential


def another(credential):
    return dataclasses.replace(credential, password=secrets.token_urlsafe(12))


def codes(findings):
    return [finding.code for finding in findings]


def test_after_a_rotation_the_old_password_is_refused_and_the_new_one_accepted(admin, dsn, user):
    new = another(user)
    set_password(admin, new)
    assert judge_logins(dsn, old=user, new=new) == []


def test_a_rotation_that_changed_nothing_is_found_from_both_sides(dsn, user):
    found = judge_logins(dsn, old=user, new=another(user))
    assert codes(found) == ["CREDENTIAL-OLD-ACCEPTED", "CREDENTIAL-NEW-REFUSED"]
    assert user.password not in str(found)


def test_a_user_that_is_locked_is_refused_and_its_sessions_end(admin, dsn, user):
    with psycopg.connect(dsn, user=user.user, password=user.password) as session:
        lock(admin, user.user)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert not accepted(dsn, user)


def test_a_login_that_fails_for_another_reason_tells_nothing(admin, dsn, user):
    admin.execute(f"ALTER ROLE {user.user} CONNECTION LIMIT 0")
    with pytest.raises(HarnessError, match="too many connections"):
        accepted(dsn, user)
    with pytest.raises(HarnessError, match="rotated"):
        accepted("host=127.0.0.1 port=1 dbname=model", user)


def test_a_second_user_may_exactly_what_the_first_may(admin, dsn, user):
    second = Credential(user=f"{user.user}_2", password="second-password")
    before = read_privileges(admin, user.user)
    add_login(admin, user.user, second)
    assert {"INSERT on rotated", "CONNECT on the database", "at most 7 connections"} <= before
    assert "setting statement_timeout=5s" in before
    assert compare_privileges(before, read_privileges(admin, second.user, like=user.user), second.user) == []
    lock(admin, user.user)
    assert accepted(dsn, second)
    with psycopg.connect(dsn, user=second.user, password=second.password) as session:
        session.execute("INSERT INTO public.rotated VALUES (1)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("REVOKE INSERT ON public.rotated FROM {user}", "lost"),
        ("ALTER ROLE {user} IN DATABASE model RESET statement_timeout", "lost"),
        ("GRANT DELETE ON public.rotated TO {user}", "gained"),
        ("ALTER ROLE {user} CREATEROLE", "gained"),
        ("GRANT SELECT (n) ON public.rotated TO {user}", "gained"),
        ("CREATE POLICY own ON public.rotated TO {user}", "gained"),
        ("CREATE FUNCTION public.secret() RETURNS int RETURN 1; ALTER TABLE public.rotated OWNER TO {user}", "gained"),
        ("GRANT pg_execute_server_program TO {user}", "gained"),
        ("GRANT pg_read_server_files TO {user}", "gained"),
        ("ALTER ROLE {user} VALID UNTIL '2099-01-01'", "gained"),
        ("GRANT INSERT ON public.rotated TO {user} WITH GRANT OPTION", "gained"),
        ("GRANT SELECT ON pg_authid TO {user}", "gained"),
        ("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {user}", "gained"),
        ("CREATE SCHEMA another AUTHORIZATION {user}", "gained"),
        ("CREATE FUNCTION public.own() RETURNS int RETURN 1; ALTER FUNCTION public.own OWNER TO {user}", "gained"),
    ],
)
def test_whatever_changes_in_what_a_user_may_is_found(admin, user, change, said):
    admin.execute("BEGIN")
    before = read_privileges(admin, user.user)
    admin.execute(change.format(user=user.user))
    found = compare_privileges(before, read_privileges(admin, user.user), user.user)
    admin.execute("ROLLBACK")
    assert set(codes(found)) == {"CREDENTIAL-PRIVILEGES"}
    assert any(said in f"{finding.where} {finding.seen}" for finding in found)


def test_a_verifier_is_opened_by_its_password_only(admin, user):
    verifier = verifier_of(admin, user)
    assert verifier.startswith("SCRAM-SHA-256$") and user.password not in verifier
    assert opens(verifier, user)
    assert not opens(verifier, another(user))
    assert not opens("", user) and not opens("SCRAM-SHA-256$4096:%$%:%", user)


def test_a_verifier_of_a_password_that_is_normalised_is_opened_too(admin):
    credential = Credential(user="someone", password="pass\u2168-ﬁn")
    assert opens(verifier_of(admin, credential), credential)


def test_an_old_verifier_is_opened_by_its_password_and_user(admin, user):
    verifier = admin.pgconn.encrypt_password(user.password.encode(), user.user.encode(), b"md5").decode()
    assert opens(verifier, user)
    assert not opens(verifier, dataclasses.replace(user, user="another"))


def test_a_revoked_password_that_a_restore_brought_back_is_found_before_any_client_is_let_in(admin, dsn, user):
    new = another(user)
    roles = admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (user.user,)).fetchone()
    set_password(admin, new)
    assert credentials_returned(admin, [user]) == [] == judge_revoked(dsn, [user])
    admin.execute(f"ALTER ROLE {user.user} PASSWORD '{roles[0]}'")
    assert codes(credentials_returned(admin, [user])) == ["CREDENTIAL-RETURNED"]
    assert codes(judge_revoked(dsn, [user])) == ["CREDENTIAL-RETURNED"]


def test_a_revoked_password_of_a_user_that_may_not_log_in_is_not_back(admin, user):
    lock(admin, user.user)
    assert credentials_returned(admin, [user]) == []
    assert returned([user], {}) == []


def test_a_password_stored_as_md5_is_found(admin, user):
    before, stored = weak_verifiers(admin)
    admin.execute(f"SET password_encryption = 'md5'; ALTER ROLE {user.user} PASSWORD 'an-old-kind'")
    found, _ = weak_verifiers(admin)
    admin.execute("RESET password_encryption")
    assert before == [] and stored >= 2
    assert codes(found) == ["CREDENTIAL-WEAK-VERIFIER"] and user.user in found[0].seen


def test_a_password_on_a_command_line_is_found_and_not_repeated(processes):
    assert in_command_lines(["nobody-has-this-one"])[0] == []
    running = processes.start("talkative", [sys.executable, "-c", "import signal; signal.pause()", "--key=leaked-word"])
    found, looked_at = in_command_lines(["leaked-word"])
    running.kill()
    assert codes(found) == ["CREDENTIAL-IN-CLEAR"] and looked_at > 1
    assert "leaked-word" not in str(found)


def test_a_password_in_a_log_is_found_wherever_it_lies_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr("checks.credentials.PIECE", 8)
    for name, text in {"clean": "nothing here", "cut": "12345 a-password 6", "end": "...a-password"}.items():
        (tmp_path / name).write_text(text)
    found, size = in_files(["a-password"], [*sorted(tmp_path.iterdir()), tmp_path / "absent"])
    assert (codes(found), found[0].count, size) == (["CREDENTIAL-IN-CLEAR"], 2, 43)
    assert "cut" in found[0].seen and "a-password" not in found[0].seen


@pytest.mark.parametrize(
    "change",
    [
        "ALTER ROLE {user} SET app.dsn_password = '{password}'",
        "COMMENT ON ROLE {user} IS 'password: {password}'",
        "COMMENT ON TABLE public.rotated IS 'in base64: {encoded}'",
        "CREATE FUNCTION public.dsn() RETURNS text RETURN '{password}'",
        "CREATE FUNCTION public.dsn() RETURNS text LANGUAGE sql AS $$SELECT '{password}'$$",
        "CREATE VIEW public.dsn AS SELECT '{password}'",
        "ALTER TABLE public.rotated ADD COLUMN dsn text DEFAULT '{password}'",
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far OPTIONS (dsn '{password}')",
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far;"
        "CREATE USER MAPPING FOR {user} SERVER far OPTIONS (password '{password}')",
        "CREATE SUBSCRIPTION rotated CONNECTION 'password={password}' PUBLICATION p WITH (connect = off)",
    ],
)
def test_a_password_in_the_catalogue_is_found_and_not_repeated(admin, user, change):
    assert in_catalog(admin, [user.password])[0] == []
    encoded = base64.b64encode(f"dsn={user.password}".encode()).decode()
    admin.execute("BEGIN")
    admin.execute(change.format(user=user.user, password=user.password, encoded=encoded))
    found, count, unread = in_catalog(admin, [user.password])
    admin.execute("ROLLBACK")
    assert codes(found) == ["CREDENTIAL-IN-CLEAR"] and user.password not in str(found)
    assert count > 100 and unread == []


def test_what_of_the_catalogue_may_not_be_read_is_told(dsn, user):
    with psycopg.connect(dsn, user=user.user, password=user.password, autocommit=True) as session:
        found, count, unread = in_catalog(session, [user.password])
    assert (found, unread) == ([], ["user mappings", "subscriptions"]) and count > 100


def test_a_second_user_ends_when_the_first_does(admin, user):
    admin.execute(f"ALTER ROLE {user.user} VALID UNTIL '2099-01-01'")
    second = Credential(user=f"{user.user}_2", password="second-password")
    before = read_privileges(admin, user.user)
    add_login(admin, user.user, second)
    assert any(each.startswith("a login until 2099-01-01") for each in before)
    assert compare_privileges(before, read_privileges(admin, second.user, like=user.user), second.user) == []


def test_who_still_holds_sessions_of_a_user_is_told(admin, dsn, user):
    with psycopg.connect(dsn, user=user.user, password=user.password, application_name="job"):
        assert left_behind(admin, user.user, seconds=0.2) == ["job"]
    assert left_behind(admin, user.user, seconds=5) == []

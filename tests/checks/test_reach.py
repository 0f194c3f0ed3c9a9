import contextlib
import dataclasses
import secrets

import psycopg
import pytest

from checks.reach import reach_of_application
from fixtures.deployment import ClientAccess
from reports.records import HarnessError, wait_until


@pytest.fixture
def access(server, store):
    """The application's access: a role without rights on files, and keys that no store of backups knows."""
    role = f"application_{secrets.token_hex(4)}"
    with server.connect("postgres") as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'only-for-tests'")
        (server.data_directory / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
    dsn = f"postgresql://{role}:only-for-tests@{server.host}:{server.port}/postgres"
    wait_until(lambda: admitted(dsn), seconds=10, interval=0.01, what="the server's new access rules")
    yield ClientAccess(
        url="http://127.0.0.1",
        api_key="",
        dsn=dsn,
        objects=dataclasses.replace(store.handle, access_key="application", secret_key="another-secret"),
    )
    with server.connect("postgres") as connection:
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def admitted(dsn):
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
        return True
    return False


def role_of(access):
    return access.dsn.split("//")[1].split(":")[0]


def seen(access, stores=(), directories=()):
    findings, _ = reach_of_application(access, stores, directories)
    assert all(finding.code == "BACKUP-REACHABLE" for finding in findings)
    return [finding.seen for finding in findings]


def test_an_application_shut_out_is_silent_and_what_was_tried_is_counted(access, store, tmp_path):
    findings, looked_at = reach_of_application(access, [store.handle], [tmp_path, tmp_path / "absent"])
    assert findings == []
    assert looked_at == {"stores": 1, "directories": 1, "database roles": 1}


def test_keys_that_the_backup_store_knows_are_found_and_leave_nothing_behind(access, store, bucket):
    own = dataclasses.replace(access, objects=store.handle)
    (said,) = seen(own, stores=[store.handle])
    assert "may list, write, read, remove objects there" in said
    assert list(bucket[0].list_objects(store.handle.bucket, recursive=True)) == []


def test_a_store_that_does_not_answer_is_an_error_not_a_pass(access, store):
    gone = dataclasses.replace(store.handle, endpoint="http://127.0.0.1:1")
    with pytest.raises(HarnessError, match="see whether it runs"):
        reach_of_application(access, [gone], [])


def test_a_bucket_that_is_not_there_is_an_error_not_a_pass(access, store):
    absent = dataclasses.replace(store.handle, bucket="absent")
    with pytest.raises(HarnessError, match="NoSuchBucket"):
        reach_of_application(dataclasses.replace(access, objects=store.handle), [absent], [])


@pytest.mark.parametrize(
    ("grant", "revoke", "said"),
    [
        ("ALTER ROLE {} SUPERUSER", "ALTER ROLE {} NOSUPERUSER", "superuser"),
        ("ALTER ROLE {} REPLICATION", "ALTER ROLE {} NOREPLICATION", "may stream the whole server"),
        ("GRANT pg_read_server_files TO {}", "REVOKE pg_read_server_files FROM {}", "member of pg_read_server_files"),
        ("GRANT pg_write_server_files TO {}", "REVOKE pg_write_server_files FROM {}", "pg_write_server_files"),
        ("GRANT pg_execute_server_program TO {}", "REVOKE pg_execute_server_program FROM {}", "_server_program"),
        ("GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO {}", "", "may execute pg_ls_dir; it lists"),
    ],
)
def test_a_role_that_reaches_the_server_s_files_is_found(server, access, grant, revoke, said):
    with server.connect("postgres") as connection:
        connection.execute(grant.format(role_of(access)))
        found = seen(access, directories=[server.data_directory])
        connection.execute(revoke.format(role_of(access)))
    assert len(found) == 1
    assert said in found[0]


def test_a_role_that_may_become_another_counts_as_that_one(server, access):
    with server.connect("postgres") as connection:
        connection.execute(f"CREATE ROLE copier REPLICATION; GRANT copier TO {role_of(access)}")
        (said,) = seen(access)
        connection.execute("DROP ROLE copier")
    assert "as copier" in said


def test_a_database_that_refuses_the_application_is_an_error_not_a_pass(access):
    with pytest.raises(HarnessError, match="application's database role"):
        reach_of_application(dataclasses.replace(access, dsn=access.dsn.replace("only-for", "not-for")), [], [])

import contextlib
import dataclasses
import http.server
import os
import pwd
import secrets
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest

from checks.reach import User, reach_of_application, user_called
from fixtures.deployment import ClientAccess
from reports.records import HarnessError, UsageProblem, wait_until


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


LISTED = (
    b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>kept</Key><Size>1</Size>"
    b"<LastModified>2026-11-22T20:00:00.000Z</LastModified><ETag>e</ETag></Contents></ListBucketResult>"
)
DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


class Granting(http.server.BaseHTTPRequestHandler):
    """A store that grants the application some methods only, and its owner the list."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        by_application = "Credential=application/" in self.headers["Authorization"]
        allowed = self.command in self.granted if by_application else self.command == "GET"
        self.asked.append((self.command, self.path))
        # As Amazon's: what is not there is refused to those who may not list.
        absent = self.command == "HEAD" and not self.path.endswith("/kept")
        self.send_response((204 if self.command == "DELETE" else 200) if allowed and not absent else 403)
        body = b"" if self.command in ("HEAD", "PUT") else (LISTED if self.command == "GET" else b"")
        body = body if allowed and not absent else b"" if self.command == "HEAD" else DENIED
        for name, value in {
            "Content-Type": "application/xml", "Content-Length": str(len(body)), "ETag": "e",
            "Last-Modified": "Sun, 22 Nov 2026 20:00:00 GMT",
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def granting(store):
    """Makes a store that grants the application's keys these methods."""
    servers = []

    def made(*methods):
        answers = {f"do_{method}": Granting.answer for method in ("GET", "HEAD", "PUT", "DELETE")}
        handler = type("Handler", (Granting,), {"granted": frozenset(methods), "asked": [], **answers})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        endpoint = f"http://127.0.0.1:{servers[-1].server_address[1]}"
        return dataclasses.replace(store.handle, endpoint=endpoint, bucket="backups"), handler.asked

    yield made
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize(
    ("method", "said"), [("HEAD", "may read objects"), ("DELETE", "may remove objects"), ("GET", "may list objects")]
)
def test_a_right_is_found_without_the_others(access, granting, method, said):
    backups, asked = granting(method)
    (found,) = seen(access, stores=[backups])
    assert said in found
    assert ("DELETE", "/backups/kept") not in asked


def test_keys_that_are_granted_nothing_are_silent(access, granting):
    assert seen(access, stores=[granting()[0]]) == []


@pytest.fixture
def place():
    """A directory that everybody can reach, but not enter."""
    # Those of pytest are closed to others.
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        place = Path(top, "sets")
        place.mkdir(mode=0o750)
        yield place


@pytest.mark.parametrize(
    ("number", "groups", "mode", "found"),
    [
        ("owner", (), 0o700, True), ("owner", (), 0o000, True), ("other", ("group",), 0o750, True),
        ("other", ("group",), 0o700, False), ("other", (), 0o750, False), ("root", (), 0o000, True),
    ],
)  # fmt: skip
def test_a_directory_is_judged_by_its_owner_and_its_group(access, place, number, groups, mode, found):
    status = place.stat()
    place.chmod(mode)
    numbers = {"owner": status.st_uid, "other": status.st_uid + 4711, "root": 0}
    user = User(name="user app", number=numbers[number], groups=frozenset({status.st_gid} if groups else ()))
    findings, _ = reach_of_application(access, [], [place], user=user)
    assert [finding.seen[:8] for finding in findings] == (["user app"] if found else [])


def test_a_user_of_this_machine_is_known_by_name_and_no_other():
    own = pwd.getpwuid(os.getuid())
    assert user_called(own.pw_name).number == own.pw_uid
    with pytest.raises(UsageProblem, match="no user nobody-of-that-name"):
        user_called("nobody-of-that-name")


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

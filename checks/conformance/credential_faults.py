"""What goes wrong when a password is rotated, done on purpose: the proof that the checks of credentials see it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from psycopg import sql

from checks.conformance.credentials import (
    PROCEDURE,
    SECONDS,
    no_password_is_stored_or_shown_in_clear,
    one_user_changes_its_password,
    revoked_here,
    revoked_passwords_stay_refused,
    two_users_take_turns,
)
from checks.conformance.registry import fault
from checks.conformance.subject import Subject
from fixtures import rotation
from fixtures.deployment import Deployment
from fixtures.network import LOOPBACK
from fixtures.processes import ended_within
from fixtures.rotation import VARIABLE, Connection, Credential, credential_in, note_credential
from reports.records import wait_until


@contextlib.contextmanager
def _careless(**steps: Any) -> Iterator[None]:
    """Rotate with other steps for a while."""
    token = PROCEDURE.set(dataclasses.replace(PROCEDURE.get(), **steps))
    try:
        yield
    finally:
        PROCEDURE.reset(token)


@fault(one_user_changes_its_password, expects=["CREDENTIAL-OLD-ACCEPTED"], breaks="the password is not changed at all")
def password_not_changed(_subject: Subject) -> Iterator[None]:
    with _careless(set_password=lambda connection, credential: None):
        yield


@fault(
    one_user_changes_its_password,
    expects=["CREDENTIAL-OLD-ACCEPTED"],
    breaks="the server trusts every client, whatever the password",
)
def clients_trusted(subject: Subject) -> Iterator[None]:
    rules = subject.deployment.database.data_directory / "pg_hba.conf"
    before, user = rules.read_text(), credential_in(subject.deployment.configuration()[VARIABLE]).user
    with subject.deployment.database.connect() as connection:

        def put(text: str, first: str) -> None:
            rules.write_text(text)
            connection.execute("SELECT pg_reload_conf()")
            asked = "SELECT auth_method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number LIMIT 1"
            wait_until(lambda: connection.execute(asked.encode()).fetchone() == (first,), seconds=SECONDS,
                       interval=0.01, what="the server's rules of access")  # fmt: skip

        put(f"host all {user} {LOOPBACK}/32 trust\n{before}", "trust")
        try:
            yield
        finally:
            put(before, "scram-sha-256")


@fault(
    one_user_changes_its_password,
    expects=["CREDENTIAL-NEW-REFUSED"],
    breaks="the server is given another password than the configuration",
)
def password_mistyped(_subject: Subject) -> Iterator[None]:
    def mistype(connection: Connection, credential: Credential) -> None:
        rotation.set_password(connection, dataclasses.replace(credential, password=credential.password + "x"))

    with _careless(set_password=mistype):
        yield


@fault(
    one_user_changes_its_password, expects=["CREDENTIAL-PRIVILEGES"], breaks="the rotation takes a right from the user"
)
def grant_lost(subject: Subject) -> Iterator[None]:
    table = _written_table(subject)

    def revoke(connection: Connection, credential: Credential) -> None:
        rotation.set_password(connection, credential)
        connection.execute(sql.SQL("REVOKE INSERT ON {} FROM {}").format(table, sql.Identifier(credential.user)))

    user = credential_in(subject.deployment.configuration()[VARIABLE]).user
    with _careless(set_password=revoke):
        try:
            yield
        finally:
            with subject.deployment.database.connect() as connection:
                connection.execute(sql.SQL("GRANT INSERT ON {} TO {}").format(table, sql.Identifier(user)))


@fault(one_user_changes_its_password, expects=["CREDENTIAL-PRIVILEGES"], breaks="the new password will expire soon")
def password_that_expires(subject: Subject) -> Iterator[None]:
    user = credential_in(subject.deployment.configuration()[VARIABLE]).user
    with _role_put_back(subject, user):

        def expiring(connection: Connection, credential: Credential) -> None:
            rotation.set_password(connection, credential)
            soon = sql.SQL("DO $$ BEGIN EXECUTE format('ALTER ROLE %I VALID UNTIL %L', {}, now() + '1 day'); END $$")
            connection.execute(soon.format(sql.Literal(credential.user)))

        with _careless(set_password=expiring):
            yield


@contextlib.contextmanager
def _role_put_back(subject: Subject, user: str) -> Iterator[None]:
    """Afterwards its login ends when it did before."""
    asked = "SELECT coalesce(rolvaliduntil::text, 'infinity') FROM pg_roles WHERE rolname = %s"
    with subject.deployment.database.connect() as connection:
        row = connection.execute(asked, (user,)).fetchone()
        assert row is not None
        try:
            yield
        finally:
            put_back = sql.SQL("ALTER ROLE {} VALID UNTIL {}")
            connection.execute(put_back.format(sql.Identifier(user), sql.Literal(row[0])))


def _written_table(subject: Subject) -> sql.Composable:
    """A table that the application may write by a grant of its own."""
    user = credential_in(subject.deployment.configuration()[VARIABLE]).user
    with subject.deployment.database.connect() as connection:
        row = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " CROSS JOIN LATERAL aclexplode(c.relacl) x JOIN pg_roles r ON r.oid = x.grantee"
            " WHERE c.relkind = 'r' AND r.rolname = %s AND x.privilege_type = 'INSERT' ORDER BY 1, 2 LIMIT 1",
            (user,),
        ).fetchone()
    assert row is not None
    return sql.Identifier(*row)


@fault(two_users_take_turns, expects=["CREDENTIAL-OLD-ACCEPTED"], breaks="the user that is no longer used stays open")
def old_user_not_locked(_subject: Subject) -> Iterator[None]:
    with _careless(lock=lambda connection, user: None):
        yield


@fault(two_users_take_turns, expects=["CREDENTIAL-PRIVILEGES"], breaks="the second user is no member of the first")
def second_user_without_rights(_subject: Subject) -> Iterator[None]:
    def add(connection: Connection, like: str, credential: Credential) -> None:
        rotation.add_login(connection, like, credential)
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(like), sql.Identifier(credential.user)))

    with _careless(add_login=add):
        yield


@fault(
    two_users_take_turns,
    expects=["CREDENTIAL-PRIVILEGES"],
    breaks="the second user may run programs on the server",
)
def second_user_with_a_role_of_the_server(_subject: Subject) -> Iterator[None]:
    def add(connection: Connection, like: str, credential: Credential) -> None:
        rotation.add_login(connection, like, credential)
        connection.execute(sql.SQL("GRANT pg_execute_server_program TO {}").format(sql.Identifier(credential.user)))

    with _careless(add_login=add):
        yield


@fault(two_users_take_turns, expects=["CREDENTIAL-LEFT-BEHIND"], breaks="services go on with the old user")
def services_left_behind(_subject: Subject) -> Iterator[None]:
    with _careless(replace=lambda deployment, names, move: None, leave_seconds=0.3):
        yield


@fault(
    two_users_take_turns,
    expects=["CREDENTIAL-REQUEST-FAILED"],
    breaks="the old processes are killed before the new ones are ready",
)
def killed_before_the_other_is_ready(_subject: Subject) -> Iterator[None]:
    def replace(deployment: Deployment, names: Sequence[str], move: Any) -> None:
        del move
        deployment.restart_services(names, {})

    with _careless(replace=replace):
        yield


@fault(
    no_password_is_stored_or_shown_in_clear,
    expects=["CREDENTIAL-IN-CLEAR"],
    breaks="the password is sent to a server that logs statements",
)
def password_in_a_statement(_subject: Subject) -> Iterator[None]:
    def in_clear(connection: Connection, credential: Credential) -> None:
        user, password = sql.Identifier(credential.user), sql.Literal(credential.password)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, password))

    with _careless(set_password=in_clear):
        yield


@fault(
    no_password_is_stored_or_shown_in_clear, expects=["CREDENTIAL-WEAK-VERIFIER"], breaks="the password is kept as MD5"
)
def password_kept_as_md5(_subject: Subject) -> Iterator[None]:
    def as_md5(connection: Connection, credential: Credential) -> None:
        made = connection.pgconn.encrypt_password(credential.password.encode(), credential.user.encode(), b"md5")
        user = sql.Identifier(credential.user)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, sql.Literal(made.decode())))

    with _careless(set_password=as_md5):
        yield


@fault(
    revoked_passwords_stay_refused,
    expects=["CREDENTIAL-RETURNED"],
    breaks="the database knows a password again that was revoked",
)
def revoked_password_back(subject: Subject) -> Iterator[None]:
    noted = revoked_here(subject)
    before = noted.read_text() if noted.exists() else ""
    note_credential(noted, credential_in(subject.deployment.configuration()[VARIABLE]))
    try:
        yield
    finally:
        noted.write_text(before)


# Shows what it is given, on its command line or in its output, until it is ended.
_SHOWS: Final = "import os, signal; print(os.environ.get('SHOWN', ''), flush=True); signal.pause()"


@fault(
    no_password_is_stored_or_shown_in_clear, expects=["CREDENTIAL-IN-CLEAR"], breaks="a process has it as an argument"
)
def password_as_an_argument(subject: Subject) -> Iterator[None]:
    with _beside(subject, [credential_in(subject.deployment.client_access().dsn).password], {}):
        yield


@fault(
    no_password_is_stored_or_shown_in_clear, expects=["CREDENTIAL-IN-CLEAR"], breaks="a process writes it to its log"
)
def password_in_a_log(subject: Subject) -> Iterator[None]:
    with _beside(subject, [], {"SHOWN": credential_in(subject.deployment.client_access().dsn).password}):
        yield


@fault(
    no_password_is_stored_or_shown_in_clear,
    expects=["CREDENTIAL-IN-CLEAR"],
    breaks="a process that was replaced told it with its last words, to stderr",
)
def last_words(subject: Subject) -> Iterator[None]:
    shown = {"SHOWN": credential_in(subject.deployment.client_access().dsn).password}
    tells = "import os, sys; sys.exit(os.environ['SHOWN'])"
    ended = subject.deployment.processes.start("talkative", [sys.executable, "-c", tells], env=shown)
    try:
        assert ended_within(ended.popen, SECONDS)
        yield
    finally:
        ended.kill()
        os.truncate(ended.errors, 0)


@fault(
    no_password_is_stored_or_shown_in_clear,
    expects=["CREDENTIAL-IN-CLEAR"],
    breaks="a comment on its user holds it",
)
def password_in_a_comment(subject: Subject) -> Iterator[None]:
    credential = credential_in(subject.deployment.client_access().dsn)
    with subject.deployment.database.connect() as connection:
        comment, user = sql.SQL("COMMENT ON ROLE {} IS {}"), sql.Identifier(credential.user)
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", (credential.user,)
        ).fetchone()
        assert row is not None
        connection.execute(comment.format(user, sql.Literal(f"password: {credential.password}")))
        try:
            yield
        finally:
            connection.execute(comment.format(user, sql.Literal(row[0])))


@fault(
    no_password_is_stored_or_shown_in_clear,
    expects=["CREDENTIAL-IN-CLEAR"],
    breaks="a setting of its user holds it",
)
def password_in_a_setting(subject: Subject) -> Iterator[None]:
    credential = credential_in(subject.deployment.client_access().dsn)
    user = sql.Identifier(credential.user)
    with subject.deployment.database.connect() as connection:
        put = sql.SQL("ALTER ROLE {} SET app.dsn_password = {}")
        connection.execute(put.format(user, sql.Literal(credential.password)))
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER ROLE {} RESET app.dsn_password").format(user))


@contextlib.contextmanager
def _beside(subject: Subject, arguments: list[str], environment: dict[str, str]) -> Iterator[None]:
    processes = subject.deployment.processes
    running = processes.start("talkative", [sys.executable, "-c", _SHOWS, *arguments], env=environment)
    try:
        wait_until(lambda: running.output.stat().st_size > 0, seconds=SECONDS, interval=0.01, what="a process's output")
        yield
    finally:
        running.kill()
        with contextlib.suppress(OSError):
            os.truncate(running.output, 0)

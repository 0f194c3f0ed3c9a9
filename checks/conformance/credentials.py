"""Database credential rotation: one user that changes its password, two users that take turns, nothing in clear."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from psycopg import sql

from checks.checked import Check
from checks.conformance.registry import conformance
from checks.conformance.subject import Subject
from checks.credentials import (
    compare_privileges,
    in_catalog,
    in_command_lines,
    in_files,
    judge_logins,
    judge_revoked,
    read_privileges,
    weak_verifiers,
)
from checks.under_load import Requests, under_load
from fixtures import rotation
from fixtures.deployment import Deployment, Service
from fixtures.network import LOOPBACK
from fixtures.proxy import Proxy
from fixtures.rotation import (
    VARIABLE,
    Connection,
    Credential,
    Procedure,
    credential_in,
    left_behind,
    new_credential,
    note_credential,
    put_in_force,
    read_credentials,
)
from reports.records import Finding

GUIDE: Final = "line 26: rotate this user's password regularly using either a single-user or dual-user configuration"
SUPPORTS: Final = ("NIST 800-53r5 IA-5",)
# The services that hold the credential.
CONNECTED: Final = ("web", "job")
DOOR: Final = "web"
TRIAL: Final = "enprivacy_rotation_trial"
SECONDS: Final = 5.0

# How it is rotated here; the faults replace a step of it for a while.
PROCEDURE: Final = contextvars.ContextVar("procedure", default=Procedure())  # noqa: B039 - it is frozen


@conformance(
    guide=GUIDE, supports=SUPPORTS, owned=True,
    finds=("CREDENTIAL-OLD-ACCEPTED", "CREDENTIAL-NEW-REFUSED", "CREDENTIAL-PRIVILEGES", "CREDENTIAL-IN-CLEAR"),
)  # fmt: skip
def one_user_changes_its_password(subject: Subject, check: Check) -> None:
    """One user changes its password under load: the old one is refused, the new one accepted, its privileges stay.

    The new password stays in force. Requests that fail while processes restart are counted and allowed.
    """
    deployment = subject.own
    old = credential_in(deployment.configuration()[VARIABLE])
    new = new_credential(old.user, subject.redactor)
    with _superuser(deployment) as connection:
        before = read_privileges(connection, old.user)
        try:
            with under_load(functools.partial(deployment.application, timeout=SECONDS)) as requests:
                PROCEDURE.get().set_password(connection, new)
                check.findings += judge_logins(deployment.client_access().dsn, old=old, new=new)
                check.findings += compare_privileges(before, read_privileges(connection, new.user), new.user)
                # No process is restarted into a credential that does not hold.
                if not check.findings:
                    put_in_force(deployment, new)
                    deployment.restart_services(CONNECTED, {})
                    requests.await_answer()
                    note_credential(revoked_here(subject), old)
        finally:
            rotation.set_password(connection, credential_in(deployment.configuration()[VARIABLE]))
        _count(check, requests, before)
        check.findings += _shown(subject, connection, [old, new])
    deployment.await_quiet(seconds=30)


@conformance(
    guide=GUIDE, supports=SUPPORTS, owned=True,
    finds=("CREDENTIAL-OLD-ACCEPTED", "CREDENTIAL-NEW-REFUSED", "CREDENTIAL-PRIVILEGES", "CREDENTIAL-REQUEST-FAILED",
           "CREDENTIAL-LEFT-BEHIND", "CREDENTIAL-IN-CLEAR"),
)  # fmt: skip
def two_users_take_turns(subject: Subject, check: Check) -> None:
    """Two users take turns under load, there and back: no request fails, who is locked is refused, privileges stay."""
    deployment = subject.own
    first = credential_in(deployment.configuration()[VARIABLE])
    second = new_credential(f"{first.user}_2", subject.redactor)
    third = new_credential(first.user, subject.redactor)
    with _superuser(deployment) as connection:
        before, interrupted = read_privileges(connection, first.user), True
        try:
            with _door(deployment) as door:
                client = functools.partial(
                    deployment.application, timeout=SECONDS, url=f"http://{LOOPBACK}:{door.port}"
                )
                with under_load(client) as requests:
                    turns = _Turns(subject=subject, connection=connection, door=door, first=first.user, before=before)
                    PROCEDURE.get().add_login(connection, first.user, second)
                    check.findings += turns.take(first, second)
                    if not check.findings:
                        PROCEDURE.get().set_password(connection, third)
                        check.findings += turns.take(second, third)
                    requests.await_answer()
            # A service that was left behind is restarted into what is in force.
            interrupted = check.saw(["CREDENTIAL-LEFT-BEHIND"])
        finally:
            _back_to(subject, connection, first.user, second.user, anyway=interrupted)
        _count(check, requests, before)
        if requests.failed:
            seen = f"{requests.failed} of {requests.attempted} requests failed; the first: {requests.first}"
            check.findings.append(
                Finding(code="CREDENTIAL-REQUEST-FAILED", seen=seen, where=DOOR, count=requests.failed)
            )
        check.findings += _shown(subject, connection, [first, second, third])
    deployment.await_quiet(seconds=30)


@conformance(
    guide=GUIDE, supports=SUPPORTS, after_restore=True, finds=("CREDENTIAL-IN-CLEAR", "CREDENTIAL-WEAK-VERIFIER")
)
def no_password_is_stored_or_shown_in_clear(subject: Subject, check: Check) -> None:
    """The server stores SCRAM verifiers only; no log, command line or catalogue entry shows a database password."""
    deployment = subject.deployment
    used = [credential_in(deployment.client_access().dsn)]
    with _superuser(subject.own) if subject.owned else deployment.database.connect() as connection:
        if subject.owned:
            trial = new_credential(TRIAL, subject.redactor)
            used.append(trial)
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(TRIAL)))
            try:
                PROCEDURE.get().set_password(connection, trial)
                check.findings, stored = weak_verifiers(connection)
            finally:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(TRIAL)))
        else:
            check.findings, stored = weak_verifiers(connection)
            reason = "no password is changed here, so that the log was not looked at for a statement that does"
            check.not_tested.append({"what": "the rotation's own statement in the server's log", "reason": reason})
        passwords = [each.password for each in used] + [deployment.database.password]
        catalog, texts, unread = in_catalog(connection, passwords)
    argv, processes = in_command_lines(passwords)
    logs, size = in_files(passwords, _logs(subject))
    check.findings += argv + logs + catalog
    check.looked_at = {
        "stored passwords": stored, "processes": processes, "bytes of logs": size, "texts of the catalogue": texts,
    }  # fmt: skip
    if unread:
        reason = "the role that looks may not read them: look as a superuser"
        check.not_tested.append({"what": f"passwords in the catalogue's {', '.join(unread)}", "reason": reason})


@conformance(guide=GUIDE, supports=SUPPORTS, after_restore=True, finds=("CREDENTIAL-RETURNED",))
def revoked_passwords_stay_refused(subject: Subject, check: Check) -> None:
    """Every credential that is known to be revoked is refused, also by what was restored from an older backup."""
    named, own = subject.profile.revoked_credentials, revoked_here(subject)
    known = read_credentials(named) if named is not None else []
    for each in known:
        subject.redactor.learn(each.password)
    with subject.deployment.database.connect() as connection:
        users = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    # The server refuses whom it does not know, too: a name written wrong would read as refused for ever.
    for unknown in sorted({each.user for each in known} - users):
        reason = f"the server knows no user {unknown}: see that the name is written right, or strike it out"
        check.not_tested.append({"what": f"whether a revoked password of {unknown} is refused", "reason": reason})
    known = [each for each in known if each.user in users]
    known += read_credentials(own) if own.exists() else []
    for each in known:
        subject.redactor.learn(each.password)
    check.looked_at = {"credentials": len(known)} if known else {}
    check.findings = judge_revoked(subject.deployment.client_access().dsn, known)
    if not known and not check.not_tested:
        reason = "none is known: name a file of them as credentials.revoked in the profile"
        check.not_tested.append({"what": "credentials that were revoked", "reason": reason})


def revoked_here(subject: Subject) -> Path:
    """The file of the credentials that the checks' own rotations revoked."""
    return subject.directory / "revoked-credentials"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Turns:
    """What it takes to go from one user to the other."""

    subject: Subject
    connection: Connection
    door: Proxy
    first: str
    before: frozenset[str]

    def take(self, old: Credential, new: Credential) -> list[Finding]:
        """Go on with the new user, which is there already, and lock the old one; what was wrong with it."""
        deployment, procedure = self.subject.own, PROCEDURE.get()
        dsn = deployment.client_access().dsn
        now = read_privileges(self.connection, new.user, like=self.first)
        findings = compare_privileges(self.before, now, new.user)
        # Without the right to connect a login tells nothing of the password.
        findings = findings or judge_logins(dsn, old=None, new=new)
        if findings:
            return findings
        put_in_force(deployment, new)
        procedure.replace(deployment, CONNECTED, self._move)
        if left := left_behind(self.connection, old.user, seconds=procedure.leave_seconds):
            seen = f"sessions of {old.user} go on after every service was replaced: {', '.join(left)}"
            return [Finding(code="CREDENTIAL-LEFT-BEHIND", seen=seen, where=old.user, count=len(left))]
        procedure.lock(self.connection, old.user)
        return judge_logins(dsn, old=old, new=new)

    def _move(self, service: Service) -> None:
        if service.name == DOOR:
            parts = urllib.parse.urlsplit(service.url)
            self.door.point_at(parts.hostname or LOOPBACK, parts.port or 80)


@contextlib.contextmanager
def _superuser(deployment: Deployment) -> Iterator[Connection]:
    """Rotations are made with statements logged, as where an auditor asks for it: a log must not hold the password."""
    with deployment.database.connect() as connection:
        connection.execute("SET log_statement = 'ddl'")
        yield connection


@contextlib.contextmanager
def _door(deployment: Deployment) -> Iterator[Proxy]:
    """The address that clients know, before the service that is behind it for now."""
    parts = urllib.parse.urlsplit(deployment.client_access().url)
    with Proxy(parts.hostname or LOOPBACK, parts.port or 80) as door:
        yield door


def _back_to(subject: Subject, connection: Connection, user: str, other: str, *, anyway: bool) -> None:
    """Leave one user, with its configuration in force, and the services where they were."""
    deployment = subject.own
    if anyway or credential_in(deployment.configuration()[VARIABLE]).user != user:
        again = new_credential(user, subject.redactor)
        rotation.set_password(connection, again)
        put_in_force(deployment, again)
        deployment.restart_services(CONNECTED, {})
    known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (other,)).fetchone()
    if known is not None:
        rotation.lock(connection, other)
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(other)))


def _count(check: Check, requests: Requests, privileges: frozenset[str]) -> None:
    check.looked_at = {
        "requests": requests.attempted, "requests failed": requests.failed, "privileges": len(privileges),
    }  # fmt: skip


def _shown(subject: Subject, connection: Connection, credentials: Sequence[Credential]) -> list[Finding]:
    passwords = [each.password for each in credentials]
    findings = in_command_lines(passwords)[0] + in_files(passwords, _logs(subject))[0]
    return findings + in_catalog(connection, passwords)[0]


def _logs(subject: Subject) -> list[Path]:
    """All that the deployment's processes wrote: services, servers, what runs beside them, and what was replaced."""
    started = [*subject.deployment.processes.services]
    return [path for each in started for path in (each.output, each.errors)]

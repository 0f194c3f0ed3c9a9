"""Whether the application, with nothing but its own credentials, can reach the place where the backups are.

Whoever breaks into the application has what it has. If that is enough to read, spoil or remove the backups, one
intrusion takes both. Nothing is left behind: the one object that is written, where that succeeds, is removed again.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pwd
import re
import stat
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import minio
import minio.error
import psycopg
import urllib3.exceptions

from checks.snapshot import telling
from fixtures.deployment import ClientAccess, ObjectStore
from reports.records import Finding, HarnessError, UsageProblem

PROBE: Final = "enprivacy-drill/reach/"
CODE: Final = "BACKUP-REACHABLE"
REFUSED: Final = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "Unauthorized",
    "AllAccessDisabled",
    "AccountProblem",
)
# Members may read or write the server's files or run programs on it. Before 16, who may create roles may join these.
_ROLES: Final = """
SELECT r.rolname, r.rolsuper, r.rolreplication,
       r.rolcreaterole AND current_setting('server_version_num')::int < 160000 AS joins
FROM pg_roles r
WHERE pg_has_role(session_user, r.oid, 'MEMBER')
  AND (r.rolsuper OR r.rolreplication OR r.rolname IN ('pg_read_server_files', 'pg_write_server_files',
                                                       'pg_execute_server_program')
       OR r.rolcreaterole AND current_setting('server_version_num')::int < 160000)
ORDER BY r.rolname <> session_user, r.rolname
"""
_FUNCTIONS: Final = """
SELECT DISTINCT p.proname::text FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace
  AND p.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'lo_import', 'lo_export', 'pg_backup_start')
  AND has_function_privilege(session_user, p.oid, 'EXECUTE') ORDER BY 1
"""


def reach_of_application(
    access: ClientAccess, stores: Sequence[ObjectStore], directories: Sequence[Path], *, user: User | None = None
) -> tuple[list[Finding], dict[str, int]]:
    """Try each way from the application to the backups.

    Args:
        access: what the application has; only this is used.
        stores: where backups are kept; their own keys serve to learn the name of an object there, and for nothing else.
        directories: where backups lie on this machine's disk; those that are absent are passed over.
        user: whom the services run as on this machine; ``None`` where nobody says so, and then anybody.

    Returns:
        A finding for each way that is open, and what was looked at: ``stores``, ``directories``, ``database roles``.

    Raises:
        HarnessError: a store or the database did not answer, so that nothing is known.
    """
    present = [directory for directory in directories if directory.exists()]
    findings = [
        *(finding for store in stores for finding in _into_store(access.objects, store)),
        *(finding for directory in present for finding in _into_directory(directory, user)),
        *_through_database(access.dsn, present),
    ]
    return findings, {"stores": len(stores), "directories": len(present), "database roles": 1}


def _into_store(own: ObjectStore, store: ObjectStore) -> list[Finding]:
    """What the application's keys may do in a backup store's bucket."""
    keyed = dataclasses.replace(store, access_key=own.access_key, secret_key=own.secret_key)
    client, key = keyed.client(connections=1, timeout=10), PROBE + uuid.uuid4().hex
    where = f"{store.endpoint}/{store.bucket}"
    kept, can = _any_key(store), []
    if _allowed(lambda: next(iter(client.list_objects(store.bucket, recursive=True)), None), where):
        can.append("list")
    written = _allowed(lambda: client.put_object(store.bucket, key, io.BytesIO(b"reach"), 5), where)
    if written:
        can.append("write")
    # A right may be there without the others. Who may not list is refused what is not there like what is not allowed.
    if _allowed(lambda: client.stat_object(store.bucket, key if written else kept or key), where):
        can.append("read")
    # What is not there can be removed: nothing of the backups is.
    if _allowed(lambda: client.remove_object(store.bucket, key), where):
        can.append("remove")
    elif written:
        can.append(f"not remove ({key} was left behind)")
    seen = f"the application's object storage keys may {', '.join(can)} objects there"
    return [Finding(code=CODE, seen=seen, where=where)] if can else []


def _any_key(store: ObjectStore) -> str | None:
    """The key of an object in a store, by the store's own keys; ``None`` where it holds none or they may not list."""
    try:
        first = next(iter(store.client(connections=1, timeout=10).list_objects(store.bucket, recursive=True)), None)
    except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError):
        return None
    return None if first is None else first.object_name


def _allowed(attempt: Callable[[], object], where: str) -> bool:
    try:
        attempt()
    except minio.error.InvalidResponseError as problem:
        # What a server answers in another form than the client expects, which some do when they refuse.
        if re.search(r"Response code: 40[13]\b", str(problem)):
            return False
        raise _unanswered(where, str(problem)) from problem
    except minio.error.S3Error as problem:
        if problem.code in REFUSED:
            return False
        if problem.code == "NoSuchKey":
            return True
        raise _unanswered(where, f"{problem.code}: {problem.message}") from problem
    except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError) as problem:
        raise _unanswered(where, f"{type(problem).__name__}: {problem}") from problem
    return True


def _unanswered(where: str, seen: str) -> HarnessError:
    return HarnessError(f"the backup store {where}", seen=seen[:300], remedy="see whether it runs, and its log")


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """A user of this machine, by name and numbers, with all of their groups."""

    name: str
    number: int
    groups: frozenset[int]


NOBODY: Final = User(name="every user", number=-1, groups=frozenset())


def user_called(name: str) -> User:
    """The user of this machine with a name.

    Raises:
        UsageProblem: there is none.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UsageProblem(
            "backup.application_user of the profile", seen=f"no user {name} on this machine",
            remedy="name the user that the services run as here, or leave it out",
        ) from None  # fmt: skip
    return User(name=f"user {name}", number=entry.pw_uid, groups=frozenset(os.getgrouplist(name, entry.pw_gid)))


def _into_directory(directory: Path, user: User | None) -> list[Finding]:
    """A directory that is open to every user of the machine is open to the application's too."""
    status = directory.stat()
    parents = [parent.stat() for parent in directory.resolve().parents]
    for each in (NOBODY, user) if user is not None else (NOBODY,):
        # Root is asked for no bits, and an owner can give them back.
        inside = each.number in (0, status.st_uid) or _bits(status, each) & (stat.S_IROTH | stat.S_IWOTH)
        above = each.number == 0 or all(_bits(parent, each) & stat.S_IXOTH for parent in parents)
        if inside and above:
            seen = f"{each.name} of this machine may enter it (mode {stat.S_IMODE(status.st_mode):04o})"
            return [Finding(code=CODE, seen=seen, where=str(directory))]
    return []


def _bits(status: os.stat_result, user: User) -> int:
    """What a user may do with a file, as bits of others: the owner's count for its owner, the group's for members."""
    if user.number == status.st_uid:
        return status.st_mode >> 6 & 0o7
    return status.st_mode >> 3 & 0o7 if status.st_gid in user.groups else status.st_mode & 0o7


def _through_database(dsn: str, directories: Sequence[Path]) -> list[Finding]:
    """What the application's database role may do to the server's files, or as a standby or backup would."""
    with (
        telling("the application's database role"),
        psycopg.connect(dsn, connect_timeout=5, autocommit=True) as session,
    ):
        roles = session.execute(_ROLES).fetchall()
        functions = [str(name) for (name,) in session.execute(_FUNCTIONS)]
        row = session.execute("SELECT session_user").fetchone()
        listed = [directory for directory in directories if _lists(session, directory)]
    name = str(row[0]) if row is not None else ""
    if any(superuser for _, superuser, *_ in roles):
        seen = ["is a superuser, or may become one"]
    else:
        seen = [
            *(f"may stream the whole server as {role}" for role, _, replication, _ in roles if replication),
            *(f"is a member of {role}" for role, *_ in roles if role.startswith("pg_")),
            *(f"may create roles as {role}, and so join those that read files" for role, *_, joins in roles if joins),
            *(f"may execute {function}" for function in functions),
        ]
    reached = [f"it lists {directory}" for directory in listed]
    told = "; ".join([*seen, *reached])
    return [Finding(code=CODE, seen=f"role {name} {told}", where="database role", count=len(seen))] if seen else []


def _lists(session: psycopg.Connection[Any], directory: Path) -> bool:
    try:
        session.execute("SELECT FROM pg_ls_dir(%s) LIMIT 1", (str(directory),))
    except psycopg.Error:
        return False
    return True

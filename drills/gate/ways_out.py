"""What would let a rehearsed upgrade reach the deployment itself: what it is handed, what the restored database knows.

The copy's database server runs outside of the network that its services are kept in (docs/isolation.md), and what is
restored holds the addresses and passwords that the deployment uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from fixtures.deployment import Database
from fixtures.network import LOOPBACK
from fixtures.profile import Profile
from fixtures.upgrade_settings import UpgradeSettings
from reports.records import HarnessError, UsageProblem

# A shorter secret may be an everyday word: it counts where it is the whole value only.
TELLING: Final = 12
HERE: Final = ("", LOOPBACK, "localhost", "::1")
MAPPINGS: Final = """
SELECT CASE WHEN umuser <> 0 THEN usename END, srvname FROM pg_user_mappings ORDER BY srvname, usename COLLATE "C"
"""


def refuse_production(profile: Profile, upgrade: UpgradeSettings, environment: Mapping[str, str] = os.environ) -> None:
    """See that an upgrade is handed no address and no secret by which it would reach the deployment.

    Args:
        environment: this machine's, of which ``upgrade.variables`` are passed on.

    Raises:
        UsageProblem: one of its variables holds the DSN, a database's host, the endpoint or a secret of the profile.
    """
    handed = {f"variables, {name}": environment[name] for name in upgrade.variables if name in environment}
    handed |= {f"environment.{name}": text for name, text in upgrade.environment.items()}
    for service, booted in upgrade.services.items():
        handed |= {f"services.{service}.environment.{name}": text for name, text in booted.environment.items()}
    for key, value in handed.items():
        if what := next((what for what, text in _of_production(profile) if _holds(value, what, text)), ""):
            raise UsageProblem(
                f"profile {profile.path}, upgrade.{key}",
                seen=f"it holds what {what} says: the upgrade could reach the deployment itself",
                remedy="leave it out; {admin_dsn}, {endpoint}, {secret_key} and so on are filled in with the copy's",
            )


def _of_production(profile: Profile) -> Iterator[tuple[str, str]]:
    """Each address and secret of the deployment and of its backups, with the profile's key."""
    attached, beat = profile.attached, profile.heartbeat
    if attached is None:
        return
    dsns = {"postgresql.dsn": attached.dsn, "postgresql.admin_dsn": attached.admin_dsn, "heartbeat.dsn": beat.dsn}
    for key, dsn in dsns.items():
        if dsn:
            yield key, dsn
            said = _dsn(dsn)
            yield key, said.get("password", "")
            yield from ((f"{key} (host)", host) for host in said.get("host", "").split(",") if host not in HERE)
    yield "objects.endpoint", attached.endpoint.rstrip("/")
    yield "objects.endpoint", urlsplit(attached.endpoint).netloc
    yield from {
        "objects.access_key": attached.access_key,
        "objects.secret_key": attached.secret_key,
        "objects.admin_access_key": attached.admin_access_key,
        "objects.admin_secret_key": attached.admin_secret_key,
        "heartbeat.access_key": beat.access_key or "",
        "heartbeat.secret_key": beat.secret_key or "",
        "backup.age_identity": profile.age_identity or "",
        "backup.passphrase": profile.passphrase or "",
    }.items()
    for store, kept in (("database", profile.shadow.database), ("objects", profile.shadow.objects)):
        yield f"shadow.{store}.endpoint", kept.endpoint.rstrip("/")
        yield f"shadow.{store}.access_key", kept.access_key
        yield f"shadow.{store}.secret_key", kept.secret_key


def _holds(value: str, key: str, text: str) -> bool:
    """Whether a value is that text, holds it as a part of its own, or leads to the same host."""
    if not text:
        return False
    if value.rstrip("/") == text:
        return True
    if key.endswith("(host)"):
        return text in _dsn(value).get("host", "").split(",")
    return len(text) >= TELLING and re.search(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])", value) is not None


def _dsn(text: str) -> dict[str, str]:
    """The parts of a DSN; none where it is none."""
    try:
        return {key: str(value) for key, value in conninfo_to_dict(text).items()}
    except psycopg.ProgrammingError:
        return {}


def close_ways_out(database: Database) -> list[str]:
    """Take from a restored copy the passwords by which its own server would log in to others.

    Returns:
        The user mappings that were dropped, each as ``role on server``.

    Raises:
        HarnessError: it has dblink, which asks for no user mapping.
    """
    with database.connect() as connection:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'dblink'").fetchone() is not None:
            raise HarnessError(
                "the restored database",
                seen="it has the extension dblink, by which the copy's own server could reach the deployment",
                remedy='where this machine reaches nothing of production, accept it by shadow.egress = "open"',
            )
        dropped = []
        for role, server in connection.execute(MAPPINGS).fetchall():
            whom = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            statement = sql.SQL("DROP USER MAPPING FOR {} SERVER {}").format(whom, sql.Identifier(server))
            connection.execute(statement)
            dropped.append(f"{role or 'PUBLIC'} on {server}")
    return dropped

"""The roles of a restored database: those that its backup brings, and those that it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from psycopg import sql

from drills.sources.kinds import UNPACKING, unpacked
from fixtures.deployment import Database
from reports.records import Finding, HarnessError

# What follows in a cluster's dump is of no use here: directories of another machine, and the databases.
AFTER_ROLES: Final = re.compile(rb"^-- Tablespaces$|^-- Databases$|^-- Database \"|^\\connect ", re.MULTILINE)
LONGEST: Final = 256 << 20
# PostgreSQL's own: every server has them.
PREDEFINED: Final = "pg_"


def roles_of(script: Path, superuser: str) -> bytes:
    """The statements of a cluster's dump that make its roles, for a server that has its superuser already.

    That one keeps its password.

    Raises:
        HarnessError: it cannot be unpacked.
    """
    text = b""
    try:
        with script.open("rb") as packed:
            file = unpacked(packed)
            while len(text) < LONGEST and (piece := file.read(1 << 20)):
                # A mark may be cut in two by the pieces' border.
                at = max(0, len(text) - 64)
                text += piece
                if match := AFTER_ROLES.search(text, text.rfind(b"\n", 0, at) + 1):
                    text = text[: match.start()]
                    break
    except UNPACKING as problem:
        raise HarnessError(
            f"roles {script}", seen=f"cannot be unpacked ({type(problem).__name__}: {problem})",
            remedy="fetch it again, or make it anew by pg_dumpall --globals-only",
        ) from None  # fmt: skip
    names = (superuser.encode(), b'"%s"' % superuser.replace('"', '""').encode())
    made, altered = (
        {b"CREATE ROLE %s;" % name for name in names},
        tuple(b"ALTER ROLE %s WITH " % name for name in names),
    )
    # Restricted mode ends with a line that was cut off.
    passed_over = (*altered, b"\\restrict ", b"\\unrestrict ")
    kept = [line for line in text.splitlines() if line not in made and not line.startswith(passed_over)]
    return b"\n".join(kept) + b"\n"


def make_up_for(needed: Iterable[str], database: Database, *, brought: bool) -> list[Finding]:
    """Make the roles that a backup's objects belong or are granted to and that are not there: it would not restore.

    Args:
        brought: the backup came with roles of its own.
    """
    with database.connect("postgres") as connection:
        known = {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        absent = sorted(name for name in {*needed} - known if not name.startswith(PREDEFINED))
        for name in absent:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    if not absent:
        return []
    why = "the roles that came with it lack them" if brought else "no script of roles lies beside it"
    seen = f"{', '.join(absent[:10])}: the backup's objects belong or are granted to them, and {why}; made for now"
    return [Finding(code="ROLE-ABSENT", seen=seen, where="the backup's roles", count=len(absent))]

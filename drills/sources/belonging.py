"""Whether a backup of a whole cluster is one of the deployment's own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import psycopg

from drills.sources.contract import Fetching
from reports.records import Finding

CONTROL_FILE: Final = Path("global", "pg_control")
IDENTIFIER: Final = "SELECT system_identifier::text FROM pg_control_system()"


def identifier_of(data: Path) -> str:
    """The system identifier of the cluster whose data directory this is, of whatever version."""
    # The first eight bytes of its control file, in every version, in the byte order of its machine.
    return str(struct.unpack("=Q", (data / CONTROL_FILE).read_bytes()[:8])[0])


def foreign(identifier: str, label: str, fetching: Fetching) -> tuple[tuple[Finding, ...], tuple[tuple[str, str], ...]]:
    """Compare the number that a cluster is given when it is made with the deployment's.

    Returns:
        ``BACKUP-FOREIGN`` where it is another one; what was not looked at, where the role may not see it.
    """
    try:
        with fetching.deployment.database.connect() as connection:
            row = connection.execute(IDENTIFIER.encode()).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return (), (("whether the backup is this cluster's", "the role may not read pg_control_system()"),)
    if row is None or row[0] == identifier:
        return (), ()
    seen = f"system identifier {identifier}, and the deployment's is {row[0]}"
    return (Finding(code="BACKUP-FOREIGN", seen=seen, where=label),), ()

"""Was a recovery target met: of two writes, one before it and one after, the first is there and the second is not."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal

import psycopg

from checks.snapshot import telling
from reports.records import Finding, HarnessError

Side = Literal["before", "after"]
SIDES: Final[tuple[Side, Side]] = ("before", "after")
TABLE: Final = "enprivacy_drill.marks"
CREATE_MARKS: Final = f"""
CREATE SCHEMA IF NOT EXISTS enprivacy_drill;
CREATE TABLE IF NOT EXISTS {TABLE} (
    id text NOT NULL, side text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


def write_mark(connection: psycopg.Connection[Any], mark: str, side: Side) -> None:
    """Write one of the two; once this returns on an autocommit connection, the write is acknowledged.

    Raises:
        HarnessError: the database refused it, or ``side`` is neither of the two.
    """
    if side not in SIDES:
        raise HarnessError("a mark", seen=f"side {side!r}", remedy=f"write {' or '.join(SIDES)}")
    with telling(f"writing the mark {side} a recovery target"):
        connection.execute(f"INSERT INTO {TABLE} (id, side) VALUES (%s, %s)".encode(), (mark, side))


def assert_marks(
    connection: psycopg.Connection[Any], mark: str, *, written: Collection[Side] = SIDES, stops: bool = True
) -> list[Finding]:
    """Hold a restored database against the marks written around its recovery target.

    Args:
        connection: to the restored database.
        mark: the id of the two.
        written: those of them whose write the source acknowledged. A side that was not written asserts nothing: that
            is PITR-UNASSERTED.
        stops: whether recovery had to stop between the two; otherwise it had to go on, and both must be there.

    Raises:
        HarnessError: the database cannot be read.
    """
    unwritten = [side for side in SIDES if side not in written] if mark else list(SIDES)
    if unwritten:
        seen = f"no write was made {' nor '.join(unwritten)} the target"
        return [Finding(code="PITR-UNASSERTED", seen=seen, where=mark or "no mark")]
    with telling("reading the marks around the recovery target"):
        table = connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone()
        rows = (
            connection.execute(
                f"SELECT side, min(at AT TIME ZONE 'UTC')::text FROM {TABLE} WHERE id = %s GROUP BY side".encode(),
                (mark,),
            ).fetchall()
            if table is not None and table[0] is not None
            else []
        )
    found = {str(side): str(at) for side, at in rows}
    findings = []
    if "before" not in found:
        findings.append(Finding(code="PITR-TARGET-UNREACHED", seen="the write before the target is absent", where=mark))
    if "after" not in found and not stops:
        seen = "the write after the instant is absent, and recovery was to go on to the end of the log"
        findings.append(Finding(code="PITR-TARGET-UNREACHED", seen=seen, where=mark))
    if "after" in found and stops:
        seen = f"the write after the target, made {found['after']} UTC, is present"
        findings.append(Finding(code="PITR-TARGET-OVERSHOT", seen=seen, where=mark))
    return findings

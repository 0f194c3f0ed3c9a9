"""A disk hands back a page that is not the one written to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import psycopg
from psycopg import sql

from drills.contract import Disaster
from fixtures.damage import Connection, user_tables
from fixtures.deployment import Deployment
from reports.records import HarnessError

# Recovery after the kill writes a page anew that a client had changed since the checkpoint.
ATTEMPTS: Final = 4
# A table's file is cut into segments of this size; the damage goes into the first.
SEGMENT: Final = 2**30
INVERTED: Final = 64

_LARGEST_HEAP: Final = """
SELECT pg_relation_size(c.oid) / s.size AS pages, s.size, pg_relation_filepath(c.oid), n.nspname, c.relname
FROM unnest(%s::oid[]) AS t (oid)
CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(t.oid) UNION SELECT t.oid) AS p (oid)
CROSS JOIN (SELECT current_setting('block_size')::bigint) AS s (size)
JOIN pg_class c ON c.oid = p.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
ORDER BY pages DESC, n.nspname, c.relname LIMIT 1
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a table: its number, its size in bytes, and the file it lies in, relative to the data directory."""

    schema: str
    table: str
    file: str
    number: int
    size: int

    def __str__(self) -> str:
        return f"page {self.number:,} of table {self.schema}.{self.table}"

    def damage(self, data_directory: Path) -> None:
        """Invert bytes in the middle of it."""
        with (data_directory / self.file).open("r+b") as file:
            place = self.number * self.size + self.size // 2
            file.seek(place)
            inverted = bytes(255 - byte for byte in file.read(INVERTED))
            file.seek(place)
            file.write(inverted)


class PageDamaged:
    """See ``drills.contract.Disaster``."""

    name = "page_damaged"
    database: Literal["", "gone", "wrong"] = "gone"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = False
    health = False
    needs_files = True

    def __init__(self) -> None:
        self._page: Page | None = None

    def strike(self, deployment: Deployment) -> None:
        """Kill the server, invert bytes in the middle of a page of the largest table's file, start the server again.

        Raises:
            HarnessError: no table has a page.
        """
        self._page = None
        for attempt in range(ATTEMPTS):
            with deployment.database.connect() as connection:
                page = _middle_page(connection, attempt=attempt)
                connection.execute("CHECKPOINT")
            deployment.kill_database()
            page.damage(deployment.database.data_directory)
            deployment.launch_database()
            self._page = page
            if not self._speaks_against(deployment):
                return

    def _speaks_against(self, deployment: Deployment) -> str:
        if self._page is None:
            return "none was damaged"
        try:
            with deployment.database.connect() as connection:
                return _reads_as_damaged(connection, self._page)
        except psycopg.Error as problem:
            return f"cannot be told: {problem}"

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The page, read: the server must say that it is corrupt."""
        return {str(self._page or "a page"): self._speaks_against(deployment)}


def _middle_page(connection: Connection, *, attempt: int) -> Page:
    """A page in the middle of the largest heap; another one at each attempt, where there is more than one."""
    row = connection.execute(_LARGEST_HEAP, ([table.oid for table in user_tables(connection)],)).fetchone()
    if row is None or not row[0]:
        raise HarnessError(
            "a page to damage", seen="no table has one", remedy="fill the deployment first, or leave page_damaged out"
        )
    pages, size, file, schema, table = row
    pages = min(pages, SEGMENT // size)
    return Page(schema=schema, table=table, file=file, number=(pages // 2 + attempt) % pages, size=size)


def _reads_as_damaged(connection: Connection, page: Page) -> str:
    if connection.execute("SHOW data_checksums").fetchone() != ("on",):
        return "data checksums are off: the server hands damaged pages out without a word"
    # By its place, not through an index, and without reading the pages before it.
    statement = sql.SQL("SELECT FROM {} WHERE ctid = {}").format(
        sql.Identifier(page.schema, page.table), sql.Literal(f"({page.number},1)")
    )
    try:
        connection.execute(statement)
    except psycopg.errors.DataCorrupted:
        return ""
    return "it reads without an error"


DISASTER: Final[Disaster] = PageDamaged()

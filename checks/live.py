"""Which tables users may have changed after the last fingerprint that was taken before a disaster."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import psycopg

from checks.snapshot import telling

# Foreign keys whose rows go, or lose their reference, with the row that they refer to.
_FOLLOWING = """
WITH RECURSIVE named AS (
    SELECT c.oid, format('%%I.%%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
), live AS (
    SELECT oid FROM named WHERE name = ANY (%s)
    UNION
    SELECT k.conrelid FROM pg_constraint k JOIN live ON live.oid = k.confrelid
    WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
)
SELECT named.name FROM live JOIN named USING (oid)
"""


def with_those_they_change(connection: psycopg.Connection[Any], tables: Collection[str]) -> set[str]:
    """Tables that users write to, and those that change with them because a foreign key says so.

    Args:
        tables: quoted full names.

    Raises:
        HarnessError: the catalogue cannot be read.
    """
    with telling("following foreign keys"):
        return {*tables, *(str(name) for (name,) in connection.execute(_FOLLOWING, (list(tables),)))}

"""Whether the business transaction of a booted copy leaves anything in the restored stores, or goes elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from drills.shadow_site import ShadowSite
from reports.records import Finding, HarnessError, wait_until

# A session tells what it wrote when it has been idle for ten seconds, at the latest.
TOLD_SECONDS: Final = 15.0
WRITTEN: Final = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables"


def traces_of(site: ShadowSite, transact: Callable[[], None], *, seconds: float = TOLD_SECONDS) -> list[Finding]:
    """Make one transaction, and look for what it wrote: rows, by the server's own count, or an object.

    What is looked for is a difference to what was there just before: what an earlier transaction put is none, however
    short a while ago. Rows that a session wrote before and tells of only now do count; where nobody but the suite is
    connected, there are none.

    Args:
        seconds: how long to wait for either.

    Returns:
        ``TRANSACTION-ELSEWHERE`` where there is neither.
    """
    rows, objects = _rows_written(site), _listing(site)
    transact()

    def left() -> bool:
        return _rows_written(site) > rows or _listing(site) != objects

    try:
        wait_until(left, seconds=seconds, interval=0.2, what="a trace of the transaction")
    except HarnessError:
        seen = f"no row was written and no object put in the sandbox within {seconds:g} s of it"
        return [Finding(code="TRANSACTION-ELSEWHERE", seen=seen, where="first transaction")]
    return []


def _rows_written(site: ShadowSite) -> int:
    with site.sandbox.database.connect() as connection:
        row = connection.execute(WRITTEN).fetchone()
    return int(row[0]) if row else 0


def _listing(site: ShadowSite) -> int:
    """A number that an object put, put again or removed changes, whatever order the store lists them in."""
    store, total = site.sandbox.objects, 0
    for item in store.client().list_objects(store.bucket, recursive=True):
        told = repr((item.object_name, item.etag, item.size, item.last_modified))
        total += int.from_bytes(hashlib.sha256(told.encode()).digest())
    return total

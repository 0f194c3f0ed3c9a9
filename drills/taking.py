"""Reading the deployment for a shadow drill: what it holds now, and, where the profile says so, a backup of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from checks.database import fingerprint
from checks.heartbeat import read_beats, read_object_beats
from checks.inventories import read_inventory
from checks.objects import list_objects
from checks.snapshot import hold_snapshot, read_sequences
from drills.progress import watched
from drills.shadow_site import Looked, ShadowSite, Taken
from drills.sources.contract import Fetched, Fetching
from drills.sources.database.take import SOURCE as DATABASE_NOW
from drills.sources.objects.take import SOURCE as OBJECTS_NOW
from fixtures.shadow_settings import TAKE, Kept
from fixtures.tree import files_below
from reports.records import NANOSECONDS

NOW = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
# A role that needs no more than to read is better; that it may do more is told, and changes nothing here.
MAY_WRITE = """
SELECT rolsuper OR has_database_privilege(current_database(), 'CREATE') OR EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
FROM pg_roles WHERE rolname = current_user"""
# How many bytes the tables take, about: without a lock on any of them, for which their exact sizes would wait.
DUMPED = "SELECT coalesce(sum(relpages::bigint), 0) * 8192 FROM pg_class WHERE relkind = 'r'"
# How many bytes of a dump's tables were written: those that are being copied, by PostgreSQL's own account.
COPYING = "SELECT relid::bigint, bytes_processed FROM pg_stat_progress_copy WHERE datname = current_database()"


def look(site: ShadowSite) -> Looked:
    """Read what the deployment holds; nothing of it is changed.

    Raises:
        HarnessError: one of its stores cannot be read.
    """
    store, clock = site.deployment.objects, site.record.clock
    with site.deployment.database.connect() as connection:
        beats = read_beats(connection)
        size, may_write, now = (
            _one(connection, query) for query in ("SELECT pg_database_size(current_database())", MAY_WRITE, NOW)
        )
        at_ns = clock.now()
    listed = list_objects(store.client(), store.bucket, site.directory / "objects-of-the-deployment.jsonl")
    return Looked(
        database_time=str(now),
        at_ns=at_ns,
        database_bytes=int(size),
        objects=listed.count,
        object_bytes=listed.bytes,
        inventory=listed.path,
        beats=beats,
        object_beats=read_object_beats(store),
        can_write=bool(may_write),
    )


def fetching(site: ShadowSite, target: Path) -> Fetching:
    """What a source may use, with a new directory for what it brings."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Fetching(
        target=target,
        deployment=site.deployment,
        processes=site.processes,
        tools=site.tools,
        jobs=site.profile.jobs,
        seconds=site.profile.backup_limit_ns / NANOSECONDS,
        identity=site.profile.age_identity or "",
    )


@dataclasses.dataclass(kw_only=True)
class Backups:
    """What there is to restore, by store; ``taken`` what the database must equal where its backup was made now."""

    database: Fetched | None = None
    objects: Fetched | None = None
    taken: Taken | None = None

    def kept(self) -> Backups:
        """The same, whose files are restored more than once and so may not be moved."""
        assert self.database is not None and self.objects is not None
        database, objects = (dataclasses.replace(each, ours=False) for each in (self.database, self.objects))
        return Backups(database=database, objects=objects, taken=self.taken)


def take(site: ShadowSite, looked: Looked) -> Backups:
    """Make now what the profile does not say where to fetch: the objects before and after the database's snapshot.

    What a row of the snapshot refers to was uploaded before it, so the second copy has it; what was deleted since, the
    first one has.
    """
    made, settings = Backups(), site.settings
    objects_now = settings.objects.source == TAKE
    if settings.database.source != TAKE:
        if objects_now:
            made.objects = _take_objects(site, looked)
        return made
    if objects_now:
        _take_objects(site, looked)
    connect = site.deployment.database.connect
    with hold_snapshot(connect) as held:
        at = fetching(site, site.directory / "fetched" / "database")
        with site.journal.phase("back up database", drill=site.id):
            with _copied(site, looked):
                made.database = DATABASE_NOW.dump(at, snapshot=held.name, instant=held.database_time)
            with connect() as connection:
                until = read_sequences(connection)
        if objects_now:
            made.objects = _take_objects(site, looked, again=True)
        with site.journal.phase("fingerprint", drill=site.id):
            read = fingerprint(connect, held=held, jobs=site.profile.jobs, key=site.key)
            made.taken = Taken(fingerprint=read, sequences_until=until)
    return made


def _take_objects(site: ShadowSite, looked: Looked, *, again: bool = False) -> Fetched:
    place = site.directory / "fetched" / "objects"
    with (
        site.journal.phase("copy objects", drill=site.id),
        watched(site.progress, "copying objects", lambda: _files(place), looked.objects)
        if not again
        else contextlib.nullcontext(),
    ):
        return OBJECTS_NOW.fetch(Kept(), fetching(site, place))


@contextlib.contextmanager
def _copied(site: ShadowSite, looked: Looked) -> Iterator[None]:
    """Tell how many bytes of the tables were dumped, by the server's own account of each copy under way."""
    most: dict[int, int] = {}
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(site.deployment.database.connect())
        total = int(_one(connection, DUMPED))

        def dumped() -> int:
            for relation, processed in connection.execute(COPYING):
                most[relation] = max(int(processed), most.get(relation, 0))
            return sum(most.values())

        stack.enter_context(
            watched(site.progress, "dumping the database, bytes", dumped, max(total, looked.database_bytes // 2))
        )
        yield


def _files(place: Path) -> int:
    return sum(1 for _ in files_below(place))


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def keys_of(inventory: Path) -> Iterator[str]:
    """The keys of an inventory, in their order."""
    return (entry.key for entry in read_inventory(inventory))

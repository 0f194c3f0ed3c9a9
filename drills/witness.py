"""The witness of a cluster: a process of its own that asks every node, past every door, what it is and what it takes.

Ten times a second it looks at each node by itself: one question where the node is in recovery, and a row of the
witness's own where it is not. From its lines alone it can be told who was leader when, and whether two were at once.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from drills.ledger import WITNESSED
from drills.lines import Lines
from fixtures.deployment import Database
from fixtures.guarded import GuardedConnection, NoAnswer, Row
from reports.records import NANOSECONDS, Clock, monotonic_ns

ACCEPTS: Final = "accepts"
REFUSES: Final = "refuses"
STANDBY: Final = "standby"
AWAY: Final = "away"
HANGS: Final = "hangs"
NAME: Final = "enprivacy-witness"
INTERVAL_NS: Final = NANOSECONDS // 10
# How long one look may take.
LOOK_NS: Final = NANOSECONDS

_LEADING: Final = (
    "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int,"
    " pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
)
# A standby's timeline is that of what it is sent; where nobody sends anything, that of its last restart point.
_WHERE: Final = f"""
SELECT false, {_LEADING} WHERE NOT pg_is_in_recovery()
UNION ALL
SELECT true,
    coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint())),
    pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::bigint
    WHERE pg_is_in_recovery()
"""
_INSERT: Final = f"INSERT INTO {WITNESSED} (node, n) VALUES ($1, $2) RETURNING {_LEADING}"
# A commit that waits for its standby waits on after its client has gone, and holds one of the server's connections.
_END_WAITING: Final = (
    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    f" WHERE application_name = '{NAME}' AND wait_event = 'SyncRep' AND pid <> pg_backend_pid()"
)


def node_input(name: str, database: Database) -> dict[str, str]:
    """What the witness needs to know of one node: its name, and how its superuser reaches the server itself."""
    parameters = {**database.parameters}
    # What a statement does that nobody waits for any more is of no use, and may hold a lock.
    options = f"{parameters.pop('options', '')} -c statement_timeout={2 * LOOK_NS // 1_000_000}".strip()
    dsn = make_conninfo(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=database.user,
        password=database.password,
        application_name=NAME,
        options=options,
        **parameters,
    )
    return {"name": name, "dsn": dsn}


def witness_input(nodes: list[dict[str, str]], *, path: Path, clock: Clock) -> bytes:
    """What the witness reads from its standard input: whom to look at, and whence it counts time."""
    return json.dumps({"nodes": nodes, "path": str(path), "origin_ns": clock.origin_ns}).encode() + b"\n"


class Witness:
    """Looks at one node, on a connection that is kept while it works."""

    def __init__(self, name: str, dsn: str, *, limit_ns: int = LOOK_NS) -> None:
        self._name, self._dsn, self._limit_ns = name, dsn, limit_ns
        self._connection: GuardedConnection | None = None
        self._left_waiting = False
        self._n = 0

    def look(self) -> dict[str, Any]:
        """What the node is now: ``state``, ``timeline``, ``lsn``, and where there is one ``n`` or ``error``."""
        until_ns = monotonic_ns() + self._limit_ns
        try:
            recovering, timeline, lsn = self._ask(until_ns)
        except NoAnswer as problem:
            return self._lost(HANGS, problem)
        except psycopg.Error as problem:
            return self._lost(AWAY, problem)
        seen = {"timeline": _number(timeline), "lsn": _number(lsn)}
        if recovering == "t":
            return {"state": STANDBY, **seen}
        return self._write(until_ns, seen)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, until_ns: int) -> Row:
        if self._connection is not None:
            try:
                return self._connection.execute(_WHERE, until_ns=until_ns)[0]
            except NoAnswer:
                raise
            except psycopg.Error:
                # It ended or was restarted since the last look: what it is now a new connection tells.
                self.close()
        self._connection = GuardedConnection.open(self._dsn, until_ns=until_ns)
        if self._left_waiting:
            self._connection.execute(_END_WAITING, until_ns=until_ns)
            self._left_waiting = False
        return self._connection.execute(_WHERE, until_ns=until_ns)[0]

    def _write(self, until_ns: int, seen: dict[str, int | None]) -> dict[str, Any]:
        assert self._connection is not None, "it has just answered"
        n, self._n = self._n, self._n + 1
        try:
            ((timeline, lsn),) = self._connection.execute(_INSERT, self._name, str(n), until_ns=until_ns)
        except psycopg.Error as problem:
            self._left_waiting = isinstance(problem, NoAnswer)
            return self._lost(REFUSES, problem) | seen
        return {"state": ACCEPTS, "timeline": _number(timeline), "lsn": _number(lsn), "n": n}

    def _lost(self, state: str, problem: psycopg.Error) -> dict[str, Any]:
        self.close()
        said = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
        return {"state": state, "timeline": None, "lsn": None, "error": said[:300]}


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def look_until(stop: threading.Event, name: str, witness: Witness, lines: Lines, clock: Clock) -> None:
    """One look after the other at the set rate until told to stop; a late one does not hurry the next."""
    due = clock.now()
    while not stop.wait(max(0, due - clock.now()) / NANOSECONDS):
        asked = clock.now()
        seen = witness.look()
        lines.write({"node": name, "t0": asked, "t": clock.now(), **seen})
        due = max(due + INTERVAL_NS, clock.now())
    witness.close()


def main() -> None:
    """Look until standard input is closed, which also happens when the run is killed."""
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the drill ended before it had a cluster
    values = json.loads(line)
    stop, lines, clock = threading.Event(), Lines(Path(values["path"])), Clock(origin_ns=values["origin_ns"])
    threads = [
        threading.Thread(target=look_until, args=(stop, node["name"], Witness(node["name"], node["dsn"]), lines, clock))
        for node in values["nodes"]
    ]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

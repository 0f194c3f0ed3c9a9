"""The reads of the ledger's writer: each channel asks, at a set rate, for one write that it once acknowledged.

Whether users can read is apart from whether they can write: a cluster without a leader goes on answering from its
standbys, and a frozen one answers nobody. What is asked for is the first write of a channel, which is old, and on every
node, by the time anything breaks. Whether it is lost is for the ledger's account to say.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from drills.lines import Lines
from fixtures.application import Application
from fixtures.deployment import ObjectStore
from fixtures.guarded import STANDBY_FIRST, KeptConnection
from reports.records import NANOSECONDS, Clock

STANDBY: Final = "standby"
# The channel of the ledger whose first write each of them reads.
SOURCES: Final = {"api": "api", "row": "row", STANDBY: "row", "object": "object"}

Send = Callable[[int, str, str], Mapping[str, str] | None]
Read = Callable[["Written"], None]


class OtherThanWritten(Exception):
    """An answer came, and is not what was acknowledged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """An acknowledged write; ``document`` is what the product calls it, where it made one."""

    identity: str
    text: str
    document: str


def noting(send: Send, channel: str, first: dict[str, Written]) -> Send:
    """The same, which also notes the first write that was acknowledged."""

    def send_and_note(n: int, identity: str, text: str) -> Mapping[str, str] | None:
        fields = send(n, identity, text)
        if channel not in first:
            first[channel] = Written(identity=identity, text=text, document=(fields or {}).get("document", ""))
        return fields

    return send_and_note


def reader(
    channel: str,
    values: Mapping[str, Any],
    *,
    open_client: Callable[[], Application],
    table: str,
    prefix: str,
    seconds: float,
) -> Read:
    """What reads in one channel, on a connection of its own.

    Args:
        values: what the ledger's writer was given.
        table: that of the channel ``row``.
        prefix: what the keys of the ledger's own objects begin with.
        seconds: how long one read may take.
    """
    if channel == "api":
        return _api(open_client())
    if channel == "object":
        return _object(ObjectStore(**values["objects"]), prefix, seconds)
    if channel == STANDBY:
        return _row(
            KeptConnection(values["dsn"], seconds=seconds, target_session_attrs=STANDBY_FIRST), table, lags=True
        )
    return _row(KeptConnection(values["dsn"], seconds=seconds), table, lags=False)


def read_until(
    stop: threading.Event,
    channel: str,
    read: Read,
    first: Mapping[str, Written],
    lines: Lines,
    clock: Clock,
    interval_ns: int,
) -> None:
    """Make one read after the other at the set rate until told to stop, from the first acknowledged write on."""
    n, due = 0, clock.now()
    while not stop.wait(max(0, due - clock.now()) / NANOSECONDS):
        due = max(due + interval_ns, clock.now())
        written = first.get(SOURCES[channel])
        if written is None:
            continue
        line: dict[str, object] = {"channel": channel, "n": n, "t0": clock.now()}
        try:
            read(written)
        except Exception as problem:
            # Whatever it is: nothing was read, and the channel goes on.
            lines.write(line | {"t": clock.now(), "outcome": "failed", "error": type(problem).__name__})
        else:
            lines.write(line | {"t": clock.now(), "outcome": "answered"})
        n += 1


def _api(client: Application) -> Read:
    def read(written: Written) -> None:
        _require(client.download(written.document) == written.text.encode())

    return read


def _row(connection: KeptConnection, table: str, *, lags: bool) -> Read:
    # The one that is read is among the table's first rows: the limit spares a walk through all of them.
    query = f"SELECT payload FROM {table} WHERE id = $1 LIMIT 1"

    def read(written: Written) -> None:
        rows = connection.execute(query, written.identity)
        # A standby may not have replayed the row yet: that it is not there is an answer.
        _require(rows == [(written.text,)] or (lags and not rows))

    return read


def _object(store: ObjectStore, prefix: str, seconds: float) -> Read:
    client = store.client(connections=1, timeout=seconds)

    def read(written: Written) -> None:
        answer = client.get_object(store.bucket, prefix + written.identity)
        try:
            _require(answer.read() == written.text.encode())
        finally:
            answer.close()
            answer.release_conn()

    return read


def _require(same: bool) -> None:
    if not same:
        raise OtherThanWritten

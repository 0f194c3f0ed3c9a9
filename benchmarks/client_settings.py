"""The rows of the table in docs/clients.md, and the clients by which each is measured with and without."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from benchmarks.client_events import Bench, EventName
from benchmarks.client_variants import AsksNothing, AsLibpq, Client, GivesBack, KeepsIdle, NeverAsked
from fixtures.providers.high_availability.deployment import CLIENT_PARAMETERS, RETRY_SECONDS

# Budgets of the Webs that are uploaded to, in seconds.
BUDGETS: Final = {"with": RETRY_SECONDS, "without": 0}
LIBPQ: Final = "target_session_attrs=read-write&connect_timeout=2"
TIRELESS: Final = f"{LIBPQ}&tcp_user_timeout=2000&keepalives_idle=1&keepalives_interval=1&keepalives_count=2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table.

    ``clients``: names of those of its events, with first; ``versus`` says what they are. ``holds_lease``: where
    its lease must run out first, that is part of the outage. ``stale``: what counts is how long a server answered that
    led no more. ``copies``: what counts is what was stored twice.
    """

    what: str
    against: str
    costs: str
    versus: str
    events: tuple[EventName, ...] = ()
    clients: tuple[str, ...] = ()
    holds_lease: bool = False
    stale: bool = False
    copies: bool = False


ROWS: Final = (
    Row(
        what="several hosts in `DATABASE_URL`, `target_session_attrs=read-write`",
        against="the leader is another server now",
        costs="a refused connection to each standby that is asked first",
        versus="writes: with / the former leader's address alone",
        events=("switchover", "postmaster", "killed"),
        clients=("ours", "alone"),
        holds_lease=True,
    ),
    Row(
        what="the one that answered last first, the others at once after 0.1 s",
        against="the first host is frozen: libpq gives each host 2 s at least, whatever `connect_timeout` says",
        costs="none while the leader is well; else one connection more to each other host",
        versus="once another leads, a connection for each write: with / libpq's order / load_balance_hosts=random",
        events=("frozen",),
        clients=("ours, anew", "in order, anew", "random, anew"),
    ),
    Row(
        what="guard: the socket is closed after 0.9 s",
        against="a frozen server, whose kernel acknowledges every byte",
        costs="an answer that would have come later is not waited for",
        versus="writes: with / libpq alone with tcp_user_timeout, keepalives and connect_timeout",
        events=("frozen", "gone"),
        clients=("ours", "libpq alone"),
        holds_lease=True,
    ),
    Row(
        what="with one lost connection go all that are idle",
        against="each of them would cost a request 0.9 s",
        costs="connecting anew, a few milliseconds each",
        versus="eight idle connections to the frozen leader, first used when another leads: with / without",
        events=("frozen",),
        clients=("idle", "idle, kept"),
    ),
    Row(
        what="`transaction_read_only` is asked for where the transaction begins",
        against="a former leader that goes on answering reads",
        costs="nothing: it rides in a query that is sent anyway",
        versus="eight idle connections, reads when another leads: with / without",
        events=("demoted",),
        clients=("reads", "reads unasked"),
        stale=True,
    ),
    Row(
        what="SQLSTATE 25006 and 57P…",
        against="writes refused by a former leader, a server that is shut down",
        costs="–",
        versus="eight idle connections, writes when another leads: with / without",
        events=("demoted",),
        clients=("writes unasked", "writes given back"),
    ),
    Row(
        what="`DATABASE_RETRY_SECONDS` (0: one try)",
        against="everything that is over within the budget",
        costs="requests that wait, and hold their place, instead of failing at once",
        versus=f"uploads to Web, {RETRY_SECONDS} / 0",
        events=("switchover", "postmaster"),
        clients=("Web with", "Web without"),
    ),
    Row(
        what="`Idempotency-Key`, sent by the client",
        against="an answer to a commit that was lost",
        costs="a column and a unique index",
        versus="uploads of which every second answer is lost, sent again: with / without",
        copies=True,
    ),
    Row(
        what="Job asks the connection it listens on every second",
        against="a leader that went without a word: no notice would ever come",
        costs="one query a second",
        versus="notices heard: with / without",
        events=("frozen",),
        clients=("listens", "listens only"),
        holds_lease=True,
    ),
    Row(
        what="`tcp_user_timeout`, keepalives",
        against="a host that is gone, or a network that drops everything",
        costs="–",
        versus="writes through libpq alone, connect_timeout=2: with / without",
        events=("gone",),
        clients=("libpq alone", "libpq without them"),
        holds_lease=True,
    ),
    Row(
        what="`target_session_attrs=prefer-standby`, for reads only",
        against="a leader that is away",
        costs="reads that may be some moments old",
        versus="reads: from a standby / from the leader",
        events=("switchover", "postmaster", "killed"),
        clients=("reads a standby", "reads the leader"),
        holds_lease=True,
    ),
)


def clients_of(event: EventName, bench: Bench, leader: str) -> Sequence[Client]:
    """Those that go through an event together; of all that name several hosts the present leader is the first."""

    def url(parameters: str = CLIENT_PARAMETERS, *, alone: bool = False) -> str:
        return bench.url(parameters, first=leader, alone=alone)

    ours = Client(name="ours", url=url())
    tireless = Client(name="libpq alone", url=url(TIRELESS), servers=AsLibpq, guarded=False)
    if event in ("switchover", "postmaster", "killed"):
        standby = url("target_session_attrs=prefer-standby&connect_timeout=2")
        return [
            ours,
            Client(name="alone", url=url("connect_timeout=2", alone=True)),
            Client(name="reads a standby", url=standby, servers=AsLibpq, does="read"),
            Client(name="reads the leader", url=url(), does="read"),
        ]
    if event == "frozen":
        return [
            ours, tireless,
            Client(name="ours, anew", url=url(), late=True, anew=True),
            Client(name="in order, anew", url=url(LIBPQ), servers=AsLibpq, guarded=False, late=True, anew=True),
            Client(
                name="random, anew", url=url(f"{LIBPQ}&load_balance_hosts=random"), servers=AsLibpq, guarded=False,
                late=True, anew=True,
            ),
            Client(name="idle", url=url(), idles=True),
            Client(name="idle, kept", url=url(), database=KeepsIdle, idles=True),
            Client(name="listens", url=url(), does="listen"),
            Client(name="listens only", url=url(), database=NeverAsked, does="listen"),
        ]  # fmt: skip
    if event == "gone":
        return [ours, tireless, Client(name="libpq without them", url=url(LIBPQ), servers=AsLibpq, guarded=False)]
    if event == "demoted":
        return [
            Client(name="reads", url=url(), idles=True, does="read"),
            Client(name="reads unasked", url=url(), database=AsksNothing, idles=True, does="read"),
            Client(name="writes unasked", url=url(), database=AsksNothing, idles=True),
            Client(name="writes given back", url=url(), database=GivesBack, idles=True),
        ]
    return []

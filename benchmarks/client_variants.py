"""Clients of the database that go through one event side by side: the product's own, and each without one setting.

What is switched off is switched off here, by a class that leaves out one thing; the product has no such switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

import psycopg

from fixtures.refapp.database import REQUEST_SECONDS, Database, DatabaseAway
from fixtures.refapp.servers import Connection, Servers
from reports.records import NANOSECONDS, HarnessError, monotonic_ns, wait_until

EVERY_SECONDS: Final = 0.05
# As good as none: no event lasts so long.
NO_LIMIT_SECONDS: Final = 3600.0
CHANNEL: Final = "benchmark"
WRITE: Final = "INSERT INTO public.benchmark (client) VALUES (%s) RETURNING inet_server_port()"
READ: Final = "SELECT inet_server_port() FROM public.benchmark LIMIT 1"
# Without a row it would be answered, too, and bear no port.
FIRST_ROW: Final = (
    "CREATE TABLE public.benchmark (client text)", "INSERT INTO public.benchmark VALUES ('first')",
    "GRANT ALL ON public.benchmark TO PUBLIC",
)  # fmt: skip


class AsLibpq(Servers):
    """Asks the servers as libpq does: in turn, or as the URL's ``load_balance_hosts`` says."""

    async def connect(self, *, autocommit: bool) -> Connection:
        """See ``Servers``."""
        hosts, ports = zip(*self._order, strict=True)
        servers = {"host": ",".join(hosts), "port": ",".join(ports)}
        return await psycopg.AsyncConnection.connect("", autocommit=autocommit, **{**self._common, **servers})


class Watched(Database):
    """The product's own, which can be left from outside."""

    def __init__(self, url: str, *, application: str, servers: type[Servers] = Servers) -> None:
        super().__init__(url, application=application)
        self._servers = servers(url, application=application)
        self._latest: Any = None

    async def _begin(self, workspace: str, guard: Any) -> Connection:
        self._latest = guard
        return await super()._begin(workspace, guard)

    def leave(self) -> None:
        """End what is waited for."""
        if self._latest is not None:
            self._latest.allow(0)

    def forget(self) -> None:
        """Close what is idle, so that the next transaction connects anew."""
        while self._idle:
            self._idle.pop().pgconn.finish()


class KeepsIdle(Watched):
    """Closes the connection that was lost, and none with it."""

    def close(self, *more: Connection) -> None:
        """Close those handed over."""
        for connection in more:
            connection.pgconn.finish()


class AsksNothing(Watched):
    """Does not ask where a transaction begins whether its server still takes writes."""

    def _refuse_follower(self, row: tuple[object, ...] | None) -> None:
        del row


class GivesBack(AsksNothing):
    """Gives a connection back to the pool after any error that left it open, SQLSTATE 25006 too."""

    async def _give_up(self, connection: Connection, problem: BaseException) -> None:
        del problem
        if connection.closed or connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            connection.pgconn.finish()
        else:
            await connection.rollback()
            self._idle.append(connection)


class NeverAsked(Watched):
    """Listens, and asks nothing between two notices."""

    async def _expect_leader(self, connection: Connection) -> None:
        del connection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt, nanoseconds of ``monotonic_ns``.

    ``port`` of the server that answered, 0 where none did; ``said``: why it was not answered.
    """

    began_ns: int
    ended_ns: int
    answered: bool
    port: int = 0
    said: str = ""


@dataclasses.dataclass(kw_only=True)
class Client:
    """One client of an event: how it connects, and what it does.

    ``guarded``: it waits for 0.9 s at most, else as long as it takes. ``anew``: each transaction on a connection of its
    own. ``idles``: it holds several connections, and does nothing from before the strike until there is a new leader.
    ``late``: it comes when there is one. ``does``: ``write``, ``read``, ``listen``.
    """

    name: str
    url: str
    database: type[Watched] = Watched
    servers: type[Servers] = Servers
    guarded: bool = True
    anew: bool = False
    idles: bool = False
    late: bool = False
    does: str = "write"
    attempts: list[Attempt] = dataclasses.field(default_factory=list)

    def open(self) -> Watched:
        """Its pool."""
        return self.database(self.url, application="benchmark", servers=self.servers)

    @property
    def seconds(self) -> float:
        """How long it waits for a transaction."""
        return REQUEST_SECONDS if self.guarded else NO_LIMIT_SECONDS


IDLE_CONNECTIONS: Final = 8
SERVED_SECONDS: Final = 20.0


class Crowd:
    """Several clients in one thread, from ``start`` to ``stop``."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.clients = clients
        self.quiet, self.led_again, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._pools: list[Watched] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)
        self.ended_ns = 0

    def start(self) -> None:
        """Begin; those that keep connections open them first."""
        self._thread.start()

    def stop(self) -> None:
        """End whatever is waited for, and everything."""
        self.ended_ns = monotonic_ns()
        self._stopped.set()
        with contextlib.suppress(RuntimeError):  # all of them have ended, and the loop with them
            self._loop.call_soon_threadsafe(self._leave)
        self._thread.join(timeout=30)
        if self._thread.is_alive():
            raise HarnessError("the benchmark's clients", seen="one did not end", remedy="run it again")
        for task in self._tasks:
            if not task.cancelled() and (problem := task.exception()):
                raise problem

    def await_served(self) -> None:
        """Wait until every client that comes early was answered.

        Raises:
            HarnessError: one was not, so that what it misses afterwards would say nothing.
        """
        early = [each for each in self.clients if not each.late]

        def served() -> bool:
            return all(any(one.answered for one in each.attempts) for each in early)

        try:
            wait_until(served, seconds=SERVED_SECONDS, interval=0.05, what="an answer to every client")
        except HarnessError:
            said = {each.name: each.attempts[-1].said if each.attempts else "nothing yet" for each in early}
            raise HarnessError("an answer to every client", seen=f"{said}", remedy="see the servers' logs") from None

    def _leave(self) -> None:
        for pool in self._pools:
            pool.leave()
        for task in self._tasks:
            # A pool's guard ends what waits for a server; the rest are pauses and notices.
            self._loop.call_later(0.5, task.cancel)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        self._tasks += [asyncio.create_task(self._one(client)) for client in self.clients]
        await asyncio.wait(self._tasks)

    async def _one(self, client: Client) -> None:
        pool = client.open()
        self._pools.append(pool)
        try:
            if client.late:
                await self._until(self.led_again.is_set)
            if client.does == "listen":
                await self._listen(client, pool)
            if client.idles:
                # All of them together, so that each has a connection of its own, which takes long on a busy machine.
                several = (self._attempt(client, pool, seconds=SERVED_SECONDS) for _ in range(IDLE_CONNECTIONS))
                await asyncio.gather(*several)
            while not self._stopped.is_set():
                if client.idles and self.quiet.is_set():
                    await self._until(self.led_again.is_set)
                await self._attempt(client, pool)
                if client.anew:
                    pool.forget()
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            pool.forget()

    async def _until(self, so: Callable[[], bool]) -> None:
        while not so() and not self._stopped.is_set():
            await asyncio.sleep(0.01)

    async def _attempt(self, client: Client, pool: Watched, *, seconds: float = 0) -> None:
        began, port = monotonic_ns(), 0
        try:
            async with pool.transaction(seconds=seconds or client.seconds) as connection:
                query, given = (READ, ()) if client.does == "read" else (WRITE, (client.name,))
                row = await (await connection.execute(query.encode(), given)).fetchone()
                port = row[0] if row else 0
                if client.does == "write":
                    await connection.execute(f"NOTIFY {CHANNEL}".encode())
        except (DatabaseAway, psycopg.Error) as problem:
            said = f"{type(problem).__name__}: {problem}"
            client.attempts.append(Attempt(began_ns=began, ended_ns=monotonic_ns(), answered=False, said=said))
        else:
            client.attempts.append(Attempt(began_ns=began, ended_ns=monotonic_ns(), answered=True, port=port))

    async def _listen(self, client: Client, pool: Watched) -> None:
        """A notice is a success; what is written beside it gives one every few milliseconds."""
        while not self._stopped.is_set():
            try:
                await self._hear(client, pool.notices(CHANNEL))
            except DatabaseAway:
                now = monotonic_ns()
                client.attempts.append(Attempt(began_ns=now, ended_ns=now, answered=False))
                await asyncio.sleep(EVERY_SECONDS)

    async def _hear(self, client: Client, notices: AsyncIterator[None]) -> None:
        try:
            async for _ in notices:
                now = monotonic_ns()
                client.attempts.append(Attempt(began_ns=now, ended_ns=now, answered=True))
                if self._stopped.is_set():
                    return
        finally:
            closing: Coroutine[Any, Any, None] = notices.aclose()  # type: ignore[attr-defined]
            await closing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Felt:
    """What a client felt: the longest time between two successes, nanoseconds.

    ``open``: it had not ended when the watch did, so that it is longer. ``failed`` of ``attempted`` after the strike.
    ``stale_ns``: for how long it was answered by a server that led no more.
    """

    outage_ns: int
    open: bool
    failed: int
    attempted: int
    stale_ns: int = 0


def felt(attempts: Sequence[Attempt], *, struck_ns: int, ended_ns: int, stale_port: int = 0, led_ns: int = 0) -> Felt:
    """What a client felt between the strike and the end of the watch.

    The last success before the strike counts, or the first attempt where it came afterwards.
    """
    attempts = sorted((each for each in attempts if each.ended_ns <= ended_ns), key=lambda each: each.ended_ns)
    after = [each for each in attempts if each.ended_ns >= struck_ns]
    good = [each.ended_ns for each in attempts if each.answered]
    start = max(
        (each for each in good if each < struck_ns), default=min((a.began_ns for a in after), default=struck_ns)
    )
    ends = [start, *(each for each in good if each >= struck_ns)]
    longest = max((late - soon for soon, late in itertools.pairwise(ends)), default=0)
    rest = ended_ns - ends[-1]
    stale = [each.ended_ns for each in after if stale_port and each.port == stale_port and each.ended_ns > led_ns]
    return Felt(
        outage_ns=max(longest, rest), open=rest > longest and rest > NANOSECONDS,
        failed=sum(not each.answered for each in after), attempted=len(after),
        stale_ns=max(stale) - led_ns if stale else 0,
    )  # fmt: skip

"""The pool against real servers: frozen, demoted, gone. No wait outlasts its budget, none leads to the wrong one."""

import asyncio
import contextlib
import gc
import time

import psycopg
import pytest

from fixtures.refapp.database import LOOK_SECONDS, REQUEST_SECONDS, CommitUnknown, Database, DatabaseAway
from fixtures.refapp.patience import Patience
from fixtures.refapp.servers import addresses_in

SLACK_SECONDS = 0.5
PORT = "SELECT inet_server_port()"


@contextlib.contextmanager
def opened(url, port=None, instead=None):
    database = Database(url if port is None else url.replace(str(port), str(instead)), application="tests")
    yield database
    database.close()


def asks(query):
    async def work(connection):
        return (await (await connection.execute(query)).fetchone())[0]

    return work


async def timed(awaitable):
    began = time.monotonic()
    with contextlib.suppress(DatabaseAway):
        await awaitable
        return 0, time.monotonic() - began
    return 1, time.monotonic() - began


def test_a_frozen_leader_costs_no_request_more_than_its_budget_and_the_promoted_one_is_found(pair, frozen):
    async def scenario():
        # So long that the second try begins before its end, and would end long after it.
        budget = 1.25
        with opened(pair.url) as crowd, opened(pair.url) as lonely, opened(pair.url) as newcomer:
            # Eight idle connections each to the leader.
            pools, asleep = [crowd, lonely] * 8, asks("SELECT pg_sleep(0.1)")
            await asyncio.gather(*(each.run(asleep, patience=Patience(0)) for each in pools))
            with frozen(pair.primary):
                away = [timed(crowd.run(asks(PORT), patience=Patience(budget))) for _ in range(10)]
                for failed, seconds in await asyncio.gather(*away, timed(lonely.run(asks(PORT), patience=Patience(0)))):
                    assert failed and seconds <= budget + SLACK_SECONDS
                pair.promote()
                # Seven of the connections that the lonely one had were never tried; one that never saw the leader
                # meets the frozen server first.
                began = time.monotonic()
                for each in (crowd, lonely, newcomer):
                    assert await each.run(asks(PORT), patience=Patience(0)) == pair.standby.handle.port
                assert time.monotonic() - began <= REQUEST_SECONDS

    asyncio.run(scenario())


def test_one_frozen_in_the_middle_of_a_transaction_is_left_in_time(pair, frozen):
    async def scenario():
        with opened(pair.url) as database, contextlib.ExitStack() as stack:
            with pytest.raises(DatabaseAway) as caught:
                began = time.monotonic()
                async with database.transaction() as connection:
                    stack.enter_context(frozen(pair.primary))
                    await connection.execute("SELECT 1")
            assert not isinstance(caught.value, CommitUnknown)
            assert time.monotonic() - began <= REQUEST_SECONDS + SLACK_SECONDS

    asyncio.run(scenario())


def test_a_transaction_that_works_elsewhere_for_long_still_leaves_a_frozen_server_in_time(pair, frozen):
    async def scenario():
        with opened(pair.url) as database, contextlib.ExitStack() as stack:
            async with database.transaction(seconds=0.5) as connection:
                with database.elsewhere(connection, 5):
                    await asyncio.sleep(0.8)
                await connection.execute("SELECT 1")
            with pytest.raises(DatabaseAway):
                async with database.transaction(seconds=0.5) as connection:
                    with database.elsewhere(connection, 60):
                        stack.enter_context(frozen(pair.primary))
                    began = time.monotonic()
                    await connection.execute("SELECT 1")
            assert time.monotonic() - began <= 0.5 + SLACK_SECONDS

    asyncio.run(scenario())


def test_the_pool_leaves_a_leader_that_takes_no_writes_any_more(pair):
    async def scenario():
        with opened(pair.url) as database:
            assert await database.run(asks(PORT), patience=Patience(0)) == pair.primary.handle.port
            # Demoted without a restart, the connections stay open: it would answer reads for ever.
            with pair.primary.handle.connect() as connection:
                connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                connection.execute("SELECT pg_reload_conf()")
            pair.caught_up()
            pair.promote()
            assert await database.run(asks(PORT), patience=Patience(0)) == pair.standby.handle.port

    asyncio.run(scenario())


def test_a_write_that_is_refused_as_read_only_was_surely_not_committed_and_is_done_again(one):
    _, values, _ = one
    tries = []

    async def work(connection):
        tries.append(connection)
        if len(tries) == 1:
            await connection.execute("SET TRANSACTION READ ONLY")
        await connection.execute("UPDATE app.jobs SET attempts = 0")

    async def scenario():
        with opened(values["DATABASE_URL"]) as database:
            await database.run(work, patience=Patience(1))
            assert tries[0].closed and tries[1] is not tries[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(("repeatable", "rows"), [(False, 1), (True, 2)])
def test_what_may_be_committed_is_done_again_only_where_it_may_be_done_twice(one, loses_answers, repeatable, rows):
    server, values, _ = one
    with server.handle.connect() as connection:
        connection.execute("CREATE TABLE app.tried (i int); GRANT ALL ON app.tried TO PUBLIC")

    async def work(connection):
        await connection.execute("INSERT INTO app.tried VALUES (1)")

    async def scenario():
        async with loses_answers(server.handle.port) as way:
            way.to_lose = 1
            ends = contextlib.nullcontext() if repeatable else pytest.raises(CommitUnknown)
            with opened(values["DATABASE_URL"], server.handle.port, way.port) as database, ends:
                await database.run(work, patience=Patience(2), repeatable=repeatable)

    asyncio.run(scenario())
    with server.handle.connect() as connection:
        assert connection.execute("SELECT count(*) FROM app.tried").fetchone() == (rows,)
        connection.execute("DROP TABLE app.tried")


def test_an_unknown_commit_stays_unknown_when_the_tries_after_it_fail(one, loses_answers):
    server, values, _ = one
    tries = []

    async def gone_afterwards(connection):
        tries.append(connection)
        if len(tries) > 1:
            raise DatabaseAway("gone")

    async def scenario():
        async with loses_answers(server.handle.port) as way:
            way.to_lose = 1
            ends = pytest.raises(CommitUnknown)
            with opened(values["DATABASE_URL"], server.handle.port, way.port) as database, ends:
                await database.run(gone_afterwards, patience=Patience(1), repeatable=True)

    asyncio.run(scenario())
    assert len(tries) > 1


def test_who_listens_hears_notices_and_notices_a_frozen_server(pair, frozen):
    async def scenario():
        heard = asyncio.Queue()

        async def listen(database):
            async for _ in database.notices("tests"):
                heard.put_nowait(1)

        with opened(pair.url) as database:
            listening = asyncio.create_task(listen(database))
            await asyncio.wait_for(heard.get(), 5)
            await database.run(asks("SELECT pg_notify('tests', '')"), patience=Patience(0))
            await asyncio.wait_for(heard.get(), 5)
            with frozen(pair.primary):
                began = time.monotonic()
                with pytest.raises(DatabaseAway):
                    await asyncio.wait_for(listening, 10)
                assert time.monotonic() - began <= LOOK_SECONDS + REQUEST_SECONDS + SLACK_SECONDS

    asyncio.run(scenario())


def test_a_connection_that_nobody_waits_for_any_more_is_closed_while_its_server_says_nothing():
    """A server that is shut down waits a minute for whoever only began to connect (authentication_timeout)."""

    async def scenario():
        begun, ended = 0, 0

        async def say_nothing(reader, writer):
            nonlocal begun, ended
            begun += 1
            while await reader.read(1000):
                pass
            ended += 1
            writer.close()

        async def refuse(reader, writer):
            writer.close()

        async with (
            await asyncio.start_server(say_nothing, "127.0.0.1", 0) as frozen,
            await asyncio.start_server(refuse, "127.0.0.1", 0) as other,
        ):
            hosts = ",".join(f"127.0.0.1:{each.sockets[0].getsockname()[1]}" for each in (frozen, other))
            with opened(f"postgresql://u:p@{hosts}/db") as database:
                gc.disable()  # which would close them some time
                try:
                    tries = (timed(database.run(asks(PORT), patience=Patience(1))) for _ in range(8))
                    assert all(failed for failed, _ in await asyncio.gather(*tries))
                    await asyncio.sleep(0.2)
                    assert begun >= 8
                    assert ended == begun
                finally:
                    gc.enable()

    asyncio.run(scenario())


def test_a_url_may_name_several_servers():
    assert addresses_in("postgresql://u:p%40@h1:1,h2:2,h3/db?target_session_attrs=read-write") == [
        ("h1", "1"), ("h2", "2"), ("h3", "")]  # fmt: skip
    assert addresses_in("postgresql://u@[::1]:1,[::2]:2/db") == [("::1", "1"), ("::2", "2")]
    assert addresses_in("postgresql://u@h/db") == [("h", "")]
    with pytest.raises(psycopg.ProgrammingError):
        addresses_in("host=a,b,c port=1,2 dbname=db")

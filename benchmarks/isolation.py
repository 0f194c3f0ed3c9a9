"""What the relays of a sandbox's network cost: ``python -m benchmarks.isolation [ROUNDS]``.

PostgreSQL as a client inside sees it, through the relay, over the same client outside, directly; in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg

from fixtures.deployment import Database
from fixtures.isolation import Isolation
from fixtures.network import LOOPBACK, free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.processes import Processes
from fixtures.providers.embedded.postgresql import EmbeddedPostgres
from reports.records import Clock, Redactor

QUERIES, CONNECTIONS, CLIENTS = 3000, 150, 8
ROWS, WIDTH = 100_000, 1040
TOOK = {
    "query": f"{QUERIES} times SELECT 1, one connection",
    "many": f"{QUERIES} times SELECT 1, {CLIENTS} connections at once",
    "connect": f"{CONNECTIONS} times connect, SELECT 1, close",
    "copy_out": "COPY of 100 MB out",
    "copy_in": "COPY of 100 MB in",
}


def client() -> None:
    """Do everything once, and print the seconds that each took as JSON."""
    with psycopg.connect("", autocommit=True) as connection:
        took = {"query": timed(lambda: ask(connection, QUERIES)), "many": timed(ask_at_once)}
        took["connect"] = timed(connect_often)
        took["copy_out"] = timed(lambda: copy_out(connection))
        took["copy_in"] = timed(lambda: copy_in(connection))
    print(json.dumps(took))


def timed(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ask(connection: psycopg.Connection, count: int) -> None:
    """So many round trips."""
    for _ in range(count):
        connection.execute("SELECT 1").fetchone()


def ask_at_once() -> None:
    """The same number in all, on several connections."""
    connections = [psycopg.connect("", autocommit=True) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=ask, args=(each, QUERIES // CLIENTS)) for each in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in connections:
        each.close()


def connect_often() -> None:
    """A new connection for each query."""
    for _ in range(CONNECTIONS):
        with psycopg.connect("") as connection:
            ask(connection, 1)


def copy_out(connection: psycopg.Connection) -> None:
    """About 100 MB from the server."""
    text = f"COPY (SELECT repeat('x', {WIDTH}) FROM generate_series(1, {ROWS})) TO STDOUT"
    with connection.cursor() as cursor, cursor.copy(text) as copy:
        for _ in copy:
            pass


def copy_in(connection: psycopg.Connection) -> None:
    """About 100 MB to the server."""
    block, blocks = (b"x" * WIDTH + b"\n") * 100, ROWS // 100
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS t (x text)")
    with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        for _ in range(blocks):
            copy.write(block)


def run(processes: Processes, prefix: tuple[str, ...], database: Database) -> dict[str, float]:
    """The seconds of one client."""
    words = [*prefix, sys.executable, "-m", "benchmarks.isolation", "client"]
    environment = {
        "PGHOST": LOOPBACK, "PGPORT": str(database.port), "PGUSER": database.user, "PGDATABASE": "postgres",
        "PGPASSFILE": str(database.password_file),
    }  # fmt: skip
    took: dict[str, float] = json.loads(processes.run(words, timeout=300, env=environment).output.read_text())
    return took


def main(rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="isolation-") as name:
        directory = Path(name)
        processes = Processes(run_id=name, logs=directory / "logs", clock=Clock.start(), redactor=Redactor())
        tools = find_postgres(processes, None)
        (port,) = free_ports(1)
        server = EmbeddedPostgres(
            directory=directory / "postgresql", port=port, name="postgres", password=os.urandom(8).hex(), tools=tools,
            unprivileged=find_unprivileged(processes, tools), processes=processes, start_seconds=30,
        )  # fmt: skip
        server.initialise()
        server.start()
        try:
            with Isolation(directory=directory / "isolation", processes=processes, out=[port], own=[]) as isolation:
                both = [
                    (run(processes, (), server.handle), run(processes, isolation.prefix(), server.handle))
                    for _ in range(rounds)
                ]
                peak = max(peak_bytes(each.pid) for each in processes.services if each.name.startswith("isolation"))
        finally:
            server.kill()
    print(f"PostgreSQL {tools.version}, {rounds} rounds, {psutil.cpu_count()} processors,", end=" ")
    print(f"load {os.getloadavg()[1]:.1f}; the larger relay at its peak: {peak / 2**20:.0f} MiB\n")
    print("| | direct, median | relayed, median | ratio, median (least–most) |\n|---|---|---|---|")
    for key, what in TOOK.items():
        ratios = sorted(relayed[key] / direct[key] for direct, relayed in both)
        direct, relayed = (statistics.median(pair[index][key] for pair in both) for index in (0, 1))
        shown = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"| {what} | {direct:.3g} s | {relayed:.3g} s | {shown} |")


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    if sys.argv[1:] == ["client"]:
        client()
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5)

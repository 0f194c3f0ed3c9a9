"""The settings of clients that docs/clients.md tells of, each measured with and without, side by side in one event.

    python -m benchmarks.clients --rounds 3 --timing stock

An outage is the longest time between two successes from the strike on; ``over`` where none had come when the watch
ended, some seconds after another node led. Where the lease of the dead leader is part of it, only stock timing counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.client_events import (
    EVENTS,
    HOLD_SECONDS,
    LEAD_SECONDS,
    Bench,
    EventName,
    Repeated,
    Uploads,
    bench,
    repeated,
)
from benchmarks.client_settings import BUDGETS, ROWS, Row, clients_of
from benchmarks.client_variants import Client, Crowd, Felt, felt
from fixtures.cluster import TIMINGS
from fixtures.workspace import default_root
from reports.records import format_duration, monotonic_ns, pause

SETTLE_SECONDS: Final = 0.3
# The lease of a leader that is killed, frozen or cut off runs out before another leads.
LEASED: Final[tuple[EventName, ...]] = ("killed", "frozen", "gone")
UPLOADED: Final[tuple[EventName, ...]] = ("switchover", "postmaster")
Results = dict[tuple[EventName, str], list[Felt]]
Copies = dict[str, list[Repeated]]


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each event happens (default: %(default)s)")
    parser.add_argument("--timing", choices=sorted(TIMINGS), default="stock", help="(default: %(default)s)")
    parser.add_argument("--events", nargs="+", choices=[*EVENTS, "answers lost"], help="only these")
    parser.add_argument("--markdown", action="store_true", help="print the rows of docs/clients.md")
    parser.add_argument("--work-directory", type=Path, default=default_root(), help="where the cluster is made")
    given = parser.parse_args()
    chosen: Sequence[EventName] = given.events or [*EVENTS, "answers lost"]
    results: Results = {}
    copies: Copies = {name: [] for name in BUDGETS}
    with bench(given.timing, given.work_directory) as made:
        webs = {name: made.web(f"web-{name}", budget_seconds=seconds) for name, seconds in BUDGETS.items()}
        for number in range(given.rounds):
            for event in chosen:
                if event == "answers lost":
                    for name, keyed in zip(BUDGETS, (True, False), strict=True):
                        copies[name].append(repeated(made, webs["with"], keyed=keyed))
                    continue
                for client, seen in _through(made, event, webs).items():
                    results.setdefault((event, client), []).append(seen)
            print(f"round {number + 1} of {given.rounds}", flush=True)
    timing = TIMINGS[given.timing]
    print(f"\n{timing.label}; {given.rounds} rounds, median (max); load of the machine {os.getloadavg()[2]:.1f}\n")
    (_markdown if given.markdown else _text)(results, copies, stock=timing.stock)


def _through(made: Bench, event: EventName, webs: dict[str, str]) -> dict[str, Felt]:
    """What each client of an event felt, by its name."""
    made.whole_again()
    leader, what = made.leader(), EVENTS[event]
    crowd = Crowd(clients_of(event, made, leader.name))
    with contextlib.ExitStack() as stack:
        uploads = {
            name: stack.enter_context(Uploads(made, url)) for name, url in webs.items() if event in UPLOADED
        }  # fmt: skip
        crowd.start()
        crowd.await_served()
        pause(LEAD_SECONDS, why="every client has a rhythm of its own")
        crowd.quiet.set()
        pause(SETTLE_SECONDS, why="those that idle have ended what they did")
        struck_ns = monotonic_ns()
        what.strike(made, leader)
        made.led_by_another(leader.name)
        what.led(made, leader)
        led_ns = monotonic_ns()
        crowd.led_again.set()
        pause(HOLD_SECONDS, why="clients find the new leader, or do not")
        crowd.stop()
    what.mend(made, leader)
    seen = {
        each.name: _felt(each, struck_ns, led_ns, crowd.ended_ns, leader.database.port) for each in crowd.clients
    }  # fmt: skip
    for name, each in uploads.items():
        seen[f"Web {name}"] = felt(each.attempts, struck_ns=struck_ns, ended_ns=crowd.ended_ns)
    return seen


def _felt(client: Client, struck_ns: int, led_ns: int, ended_ns: int, former: int) -> Felt:
    attempts = client.attempts
    if client.idles or client.late:
        # What counts is what it meets when it comes.
        attempts, struck_ns = [each for each in attempts if each.began_ns >= led_ns], led_ns
    return felt(attempts, struck_ns=struck_ns, ended_ns=ended_ns, stale_port=former, led_ns=led_ns)


def told(values: Sequence[Felt], *, stale: bool = False) -> str:
    """Median and maximum; ``over``, where one had not ended, for then both are at least so long."""
    if not values:
        return "not measured"
    if stale:
        return f"{_both([each.stale_ns for each in values])} of stale answers"
    over = "over " if any(each.open for each in values) else ""
    failed = statistics.median(each.failed for each in values)
    return f"{over}{_both([each.outage_ns for each in values])}, {failed:g} failed"


def _both(values: Sequence[int]) -> str:
    median = format_duration(round(statistics.median(values)))
    return median if len(values) == 1 else f"{median} ({format_duration(max(values))})"


def _cell(row: Row, results: Results, copies: Copies, *, stock: bool) -> str:
    """One row's figures, event by event; with, then each without."""
    if row.copies:
        return " / ".join(
            f"{sum(each.duplicates for each in copies[name])} stored twice of "
            f"{sum(each.repeats for each in copies[name])} sent again"
            if copies[name] else "not measured"
            for name in BUDGETS
        )  # fmt: skip
    cells = []
    for event in row.events:
        values = [results.get((event, name), []) for name in row.clients]
        label = ", NOT STOCK" if not stock and row.holds_lease and event in LEASED else ""
        if any(values):
            cells.append(f"{event}{label}: {' / '.join(told(each, stale=row.stale) for each in values)}")
    return "; ".join(cells) or "not measured"


def _markdown(results: Results, copies: Copies, *, stock: bool) -> None:
    print("| what | against | what it costs | outage with / without |\n|---|---|---|---|")
    for row in ROWS:
        print(f"| {row.what} | {row.against} | {row.costs} | {_cell(row, results, copies, stock=stock)} |")
    print("\n| what | with / without |\n|---|---|")
    for row in ROWS:
        print(f"| {row.what} | {row.versus} |")


def _text(results: Results, copies: Copies, *, stock: bool) -> None:
    for row in ROWS:
        print(f"{row.what}\n    {row.versus}\n    {_cell(row, results, copies, stock=stock)}\n")


if __name__ == "__main__":
    main()

"""What rsyslog loses and repeats when its receiver is killed: ``python -m benchmarks.forwarding [RUNS]``."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checks.forwarding import judge_forwarding, missing, written
from fixtures.forwarders import Forwarding, find_rsyslog, start_rsyslog
from fixtures.network import LOOPBACK
from fixtures.processes import Processes
from fixtures.receiving import Held, Tally, sink_kinds
from reports.records import Clock, Redactor, wait_until

CASES: list[tuple[Forwarding, Held | None]] = [
    (Forwarding(), None),
    (Forwarding(), "lines"),
    (Forwarding(), "acknowledgements"),
    (Forwarding(protocol="syslog-tcp"), None),
    (Forwarding(protocol="syslog-tcp"), "lines"),
    (Forwarding(protocol="syslog-tcp", queue=False), None),
]
HELD: dict[Held | None, str] = {
    None: "reads all, then dies", "lines": "reads no more, then dies", "acknowledgements": "goes silent, then dies"
}  # fmt: skip
LINES_HELD, LINES_AWAY, LINES_AFTER = 150, 100, 50


class Flow:
    """Appends about 400 lines a second to a log."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def into(self, path: Path) -> Iterator[None]:
        """Lines until the block ends."""
        ends = threading.Event()

        def write() -> None:
            with path.open("ab", buffering=0) as file:
                while not ends.is_set():
                    file.write(json.dumps({"n": self.count, "text": "x" * 400}).encode() + b"\n")
                    self.count += 1
                    time.sleep(0.002)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def more(self, lines: int) -> None:
        """Wait until so many more are written."""
        wanted = self.count + lines
        wait_until(lambda: self.count >= wanted, seconds=60, interval=0.002, what="lines")


def run(forwarding: Forwarding, held: Held | None, directory: Path) -> tuple[int, dict[str, int], float]:
    """Lines written, lines lost and repeated by finding code, and seconds until the first line after the restart."""
    program = find_rsyslog()
    if program is None:
        sys.exit("rsyslogd is not here: install the packages rsyslog and rsyslog-relp")
    processes = Processes(run_id=directory.name, logs=directory / "logs", clock=Clock.start(), redactor=Redactor())
    log, flow = directory / "web.log", Flow()
    log.touch()
    sink = sink_kinds()[forwarding.protocol].make(listen=(LOOPBACK, 0), path=None, tally=Tally())
    sink.open()
    host, _, port = sink.address.rpartition(":")
    running = start_rsyslog(
        program, processes, forwarding, logs={"web": log}, host=host, port=int(port), directory=directory / "rsyslog"
    )
    if isinstance(running, str):
        sys.exit(running)
    try:
        with flow.into(log):
            wait_until(lambda: sink.count() > 50, seconds=30, interval=0.005, what="the first lines")
            if held:
                sink.hold(held)
                flow.more(LINES_HELD)
            sink.crash()
            flow.more(LINES_AWAY)
            before = sink.count()
            sink.open()
            opened = time.monotonic()
            wait_until(lambda: sink.count() > before, seconds=60, interval=0.002, what="a line after the restart")
            back = time.monotonic() - opened
            flow.more(LINES_AFTER)
        logs = [written("web", [log.read_bytes()])]
        for _ in range(60):
            if not missing(logs, sink.tally.counts):
                break
            time.sleep(0.05)
    finally:
        running.kill()
        sink.close()
    found = {finding.code: finding.count for finding in judge_forwarding(logs, sink.tally.counts)}
    return flow.count, found, back


def main(runs: int) -> None:
    """Print the table."""
    print("| protocol | queue | the receiver | lines | lost, median (least–most) | repeated | back after |")
    print("|---|---|---|---|---|---|---|")
    for forwarding, held in CASES:
        made = []
        for _ in range(runs):
            with tempfile.TemporaryDirectory(prefix="forwarding-") as directory:
                made.append(run(forwarding, held, Path(directory)))
        lost = sorted(found.get("FORWARD-LOST", 0) for _, found, _ in made)
        repeated = sorted(found.get("FORWARD-REPEATED", 0) for _, found, _ in made)
        print(
            f"| {forwarding.protocol} | {'yes' if forwarding.queue else 'no'} | {HELD[held]} "
            f"| {statistics.median(count for count, _, _ in made):.0f} "
            f"| {statistics.median(lost):.0f} ({lost[0]}–{lost[-1]}) | {repeated[0]}–{repeated[-1]} "
            f"| {statistics.median(back for _, _, back in made):.2g} s |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5)

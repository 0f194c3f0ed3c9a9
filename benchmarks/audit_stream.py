"""``python -m benchmarks.audit_stream``: the validator of logs beside ``json.loads`` of the same lines, on one core.

Every check is on: schema, keys held twice, numbers, chain, ids, times, secrets. Each row goes on in the process of the
rows before it, so that its peak memory shows by how much more lines need more.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.audit_lines import SECRETS, hostile_lines, whole_lines
from checks.audit_rules import rules_of
from checks.audit_stream import AuditStream
from fixtures.log_settings import LogSettings

BATCH: Final = 512
LONG_LINE: Final = 100_000_000
CHUNK: Final = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One stream: seconds of processor time for it and for ``json.loads`` of its lines, the process's peak in bytes."""

    what: str
    lines: int
    bytes: int
    seconds: float
    loads_seconds: float
    peak: int
    codes: tuple[str, ...]

    def __str__(self) -> str:
        rate, loads = self.lines / self.seconds, self.loads_seconds / self.lines * 1e6
        beside = f"{self.seconds / self.loads_seconds:.2f}" if self.loads_seconds else "-"
        return (
            f"{self.what:22} {self.lines:>12,} {self.bytes / 1e6:>9,.0f} {rate:>11,.0f} {loads:>8.2f} {beside:>6}"
            f" {self.peak / 2**20:>8.0f}  {len(self.codes)} codes"
        )


def measured(what: str, lines: Iterable[bytes], directory: Path, *, parse: bool = True) -> Row:
    """Validate lines as they are made, and parse them alone beside it, in turns."""
    ours = loads = 0.0
    stream = AuditStream(rules_of(LogSettings()), secrets=SECRETS, directory=directory, whole=True, name=what)
    made = iter(lines)
    with contextlib.closing(stream):
        while batch := list(itertools.islice(made, BATCH)):
            chunk = b"".join(line + b"\n" for line in batch)
            started = time.process_time()
            stream.feed(chunk, read_at=time.time())
            ours += time.process_time() - started
            if parse:
                started = time.process_time()
                for line in batch:
                    with contextlib.suppress(ValueError, RecursionError):
                        json.loads(line)
                loads += time.process_time() - started
        started = time.process_time()
        stream.finish()
        ours += time.process_time() - started
        found = tuple(finding.code for finding in stream.findings())
        return Row(
            what=what, lines=stream.seen.lines, bytes=stream.seen.bytes, seconds=ours, loads_seconds=loads,
            peak=peak_bytes(), codes=found,
        )  # fmt: skip


def long_line(directory: Path) -> Row:
    """One line of 100 MB between two whole ones, in chunks as a file is read."""
    first, second = whole_lines(2, writers=1)
    stream = AuditStream(rules_of(LogSettings()), secrets=SECRETS, directory=directory, name="a long line")
    chunks: Iterator[bytes] = itertools.chain(
        [first + b'\n{"a":"'], itertools.repeat(b"x" * CHUNK, LONG_LINE // CHUNK), [b'"}\n' + second + b"\n"]
    )
    with contextlib.closing(stream):
        started = time.process_time()
        for chunk in chunks:
            stream.feed(chunk, read_at=time.time())
        stream.finish()
        seconds = time.process_time() - started
        found = tuple(finding.code for finding in stream.findings())
        return Row(what="a line of 100 MB", lines=stream.seen.lines, bytes=stream.seen.bytes, seconds=seconds,
                   loads_seconds=0, peak=peak_bytes(), codes=found)  # fmt: skip


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Measure and print; the exit code is 1 where a whole line was accused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_stream", description=__doc__)
    parser.add_argument("--lines", type=int, nargs="+", default=[100_000, 1_000_000], help="whole lines, rising")
    parser.add_argument("--hostile", type=int, default=1_000_000, help="lines of fuzz (default: a million)")
    options = parser.parse_args()
    print(f"{'stream':22} {'lines':>12} {'MB':>9} {'lines/s':>11} {'loads µs':>8} {'ratio':>6} {'peak MiB':>8}")
    print(f"{'before the first':22} {'':>12} {'':>9} {'':>11} {'':>8} {'':>6} {peak_bytes() / 2**20:>8.0f}")
    accused = False
    with tempfile.TemporaryDirectory() as place:
        for count in options.lines:
            row = measured("whole lines", whole_lines(count), Path(place) / "ids")
            accused = accused or bool(row.codes)
            print(row, flush=True)
        print(long_line(Path(place) / "ids"), flush=True)
        row = measured("fuzz", hostile_lines(options.hostile), Path(place) / "ids")
        print(row, *row.codes, flush=True)
    return int(accused)


if __name__ == "__main__":
    sys.exit(main())

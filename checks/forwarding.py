"""What became of the lines that services wrote: arrived, lost on the way, or arrived more than once.

Pure: it compares what was written with what a sink has counted.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from fixtures.receiving import digest_of
from reports.records import Finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """The lines of one service's log since a position of it, each by its digest."""

    service: str
    digests: Sequence[bytes]


def written(service: str, chunks: Iterable[bytes]) -> Written:
    """The whole lines of a log; one that is still being written is left out. Empty lines are no lines."""
    digests: list[bytes] = []
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        digests += [digest_of(line.rstrip(b"\r")) for line in whole if line.strip()]
    return Written(service=service, digests=digests)


def missing(logs: Sequence[Written], arrived: Mapping[bytes, int]) -> int:
    """How many lines have not arrived as often as they were written."""
    counts = collections.Counter(digest for log in logs for digest in log.digests)
    return sum(max(0, count - arrived.get(digest, 0)) for digest, count in counts.items())


def judge_forwarding(logs: Sequence[Written], arrived: Mapping[bytes, int]) -> list[Finding]:
    """Lines lost and lines repeated, one finding for each service.

    What arrived and was written by nobody is no finding by itself, for a forwarder may have lines of its own. It is
    told beside lines that were lost: it may be those, altered on the way.
    """
    wrote = collections.Counter(digest for log in logs for digest in log.digests)
    foreign = sum(count for digest, count in arrived.items() if digest not in wrote)
    seen: collections.Counter[bytes] = collections.Counter()
    findings: list[Finding] = []
    for log in logs:
        lost: list[int] = []
        repeated: list[int] = []
        for number, digest in enumerate(log.digests, start=1):
            seen[digest] += 1
            # Of lines that are equal the last ones are those that did not arrive, or came again.
            if seen[digest] > arrived.get(digest, 0):
                lost.append(number)
            elif seen[digest] == wrote[digest] and arrived[digest] > wrote[digest]:
                repeated.append(number)
        if lost:
            altered = f"; {foreign} lines arrived that no service wrote" if foreign else ""
            said = f"{len(lost)} of {len(log.digests)} lines never arrived, {_span(lost)}{altered}"
            findings.append(Finding(code="FORWARD-LOST", seen=said, where=log.service, count=len(lost)))
        if repeated:
            again = f"{len(repeated)} of {len(log.digests)} lines arrived more than once, {_span(repeated)}"
            findings.append(Finding(code="FORWARD-REPEATED", seen=again, where=log.service, count=len(repeated)))
    return findings


def _span(numbers: Sequence[int]) -> str:
    return f"line {numbers[0]}" if len(numbers) == 1 else f"lines {numbers[0]} to {numbers[-1]}"

"""The outages that clients felt, channel by channel, writes and reads apart. Pure: attempts in, gaps out.

All times are integers, nanoseconds since the run's origin.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from reports.records import NANOSECONDS
from reports.writes import Writes

WRITES: Final = "write"
READS: Final = "read"
# A gap in which nothing failed is an outage only where it is longer than both of these.
_INTERVALS: Final = 3
_LEAST_NS: Final = NANOSECONDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request of a channel, in which one follows the other; ``ended_ns`` is ``None`` where no answer ever came."""

    started_ns: int
    ended_ns: int | None
    succeeded: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """An outage: from the end of the last success to the end of the next one, or to the end of the load."""

    from_ns: int
    to_ns: int
    failed: int
    ended: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelOutage:
    """What one channel felt between the strike and the end of the load.

    ``resolution_ns`` is the interval between its requests: what lasts less long may have gone unfelt.
    """

    kind: str
    channel: str
    attempted: int
    failed: int
    gaps: int
    longest_ns: int
    total_ns: int
    resolution_ns: int
    spans: tuple[Gap, ...]

    @property
    def longest(self) -> Gap | None:
        """The longest gap, the first of several."""
        return max(self.spans, key=lambda gap: gap.to_ns - gap.from_ns, default=None)


def of_writes(
    writes: Writes, strike_ns: int, end_ns: int, intervals_ns: Mapping[str, int], interval_ns: int
) -> list[ChannelOutage]:
    """Those of the ledger's channels; ``intervals_ns`` are those of channels that have one of their own."""
    return [
        felt(WRITES, channel, [
            Attempt(started_ns=write.attempted_ns, succeeded=write.acknowledged_ns is not None,
                    ended_ns=write.failed_ns if write.acknowledged_ns is None else write.acknowledged_ns)
            for write in lane
        ], strike_ns, end_ns, intervals_ns.get(channel, interval_ns))
        for channel, lane in writes.channels.items()
    ]  # fmt: skip


def of_reads(lines: Iterable[Mapping[str, Any]], strike_ns: int, end_ns: int) -> list[ChannelOutage]:
    """Those of the channels of ``reads.jsonl``, whose interval is the median of the times between two requests."""
    lanes: dict[str, list[Attempt]] = {}
    for line in lines:
        attempt = Attempt(started_ns=int(line["t0"]), ended_ns=int(line["t"]), succeeded=line["outcome"] == "answered")
        lanes.setdefault(str(line["channel"]), []).append(attempt)
    outages = []
    for channel, lane in lanes.items():
        lane.sort(key=lambda attempt: attempt.started_ns)
        apart = [later.started_ns - earlier.started_ns for earlier, later in itertools.pairwise(lane)]
        outages.append(felt(READS, channel, lane, strike_ns, end_ns, statistics.median_low(apart) if apart else 0))
    return outages


def felt(
    kind: str, channel: str, attempts: Sequence[Attempt], strike_ns: int, end_ns: int, interval_ns: int
) -> ChannelOutage:
    """The outages of one channel, whose attempts are in order.

    A gap between two successes is one where an attempt failed in it after the strike, or where it is longer than three
    intervals and than a second. The gap at the end is one where an attempt failed in it, or where one was left without
    an answer for as long: a channel that has nothing more to ask for falls silent, and that is no outage.
    """
    long_ns = max(_INTERVALS * interval_ns, _LEAST_NS)
    spans: list[Gap] = []
    since, failed, all_failed, attempted = strike_ns, 0, 0, 0
    waiting = False
    for attempt in attempts:
        at = attempt.ended_ns
        if at is not None and at <= strike_ns:
            if attempt.succeeded:
                since = at
            continue
        attempted += 1
        if at is None:
            waiting = end_ns - attempt.started_ns > long_ns
        elif not attempt.succeeded:
            failed, all_failed = failed + 1, all_failed + 1
        else:
            if failed or at - since > long_ns:
                spans.append(Gap(from_ns=since, to_ns=at, failed=failed, ended=True))
            since, failed, waiting = at, 0, False
    if failed or waiting:
        spans.append(Gap(from_ns=since, to_ns=max(end_ns, since), failed=failed, ended=False))
    lengths = [gap.to_ns - gap.from_ns for gap in spans]
    return ChannelOutage(
        kind=kind,
        channel=channel,
        attempted=attempted,
        failed=all_failed,
        gaps=len(spans),
        longest_ns=max(lengths, default=0),
        total_ns=sum(lengths),
        resolution_ns=interval_ns,
        spans=tuple(spans),
    )

"""Each writer's place in its own lines: its numbers without gaps, its chain of digests whole."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

GENESIS: Final = "0" * 64
# Of a stream without end as many writers are remembered as a deployment can have at a time, and many more.
MOST_WRITERS: Final = 10_000

# What any database counts to; a number of thousands of digits is not even printed.
_MOST_COUNTED: Final = 2**63

Say = Callable[[str, int, str], None]


class Writers:
    """Follows every writer of a stream.

    A writer that is new begins anew, with number 1 and a chain of its own: that is open re-anchoring, and no fault. So
    is a writer first seen in its midst, unless the stream is ``whole``.

    Args:
        say: called with a finding's code, its weight and what was seen.
    """

    def __init__(self, *, whole: bool, say: Say) -> None:
        self._whole, self._say = whole, say
        # Of each writer: the number of its last line, that line's digest, whether it was chained to the one before.
        self._last: OrderedDict[str, tuple[int | float, str, bool]] = OrderedDict()
        self.seen = 0

    def follow(self, writer: str, seq: Any, prev_hash: Any, line: bytes, where: int) -> None:
        """One event of a writer; ``line`` is its bytes without the end of line, ``where`` its number in the stream."""
        before = self._last.get(writer)
        counts = (type(seq) is int or type(seq) is float) and 0 <= seq < _MOST_COUNTED
        if before is None:
            self._begin(writer, seq, counts, where)
        else:
            last, digest, chained = before
            in_order = True
            if counts and seq != last + 1:
                in_order = False
                gap = int(seq - last - 1)
                if seq > last:
                    self._say("LOG-SEQ-GAP", gap, f"line {where}: {gap} missing before number {seq} of {writer}")
                else:
                    self._say("LOG-SEQ-BACK", -gap, f"line {where}: number {seq} after {last} of {writer}")
            # After a gap the line that the digest is of was not seen: the gap says so already.
            if in_order and (prev_hash is not None or chained) and prev_hash != digest:
                self._say("LOG-CHAIN-BROKEN", 0, f"line {where}: {_told(prev_hash)} of {writer}")
            self._last.move_to_end(writer)
        number = seq if counts else 0 if before is None else before[0] + 1
        self._last[writer] = (number, hashlib.sha256(line).hexdigest(), prev_hash is not None)

    def _begin(self, writer: str, seq: Any, counts: bool, where: int) -> None:
        self.seen += 1
        if self._whole and counts and seq > 1:
            gap = int(seq - 1)
            self._say("LOG-SEQ-GAP", gap, f"line {where}: {gap} missing before number {seq}, the first of {writer}")
        if len(self._last) >= MOST_WRITERS:
            self._last.popitem(last=False)
            # One that was forgotten may come again in its midst.
            self._whole = False


def _told(prev_hash: Any) -> str:
    if prev_hash is None:
        return "no digest of the line before, though the lines before had one,"
    if prev_hash == GENESIS:
        return "a chain begun anew within the lines"
    return "another digest than that of the line before"

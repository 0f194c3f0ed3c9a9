"""The ledger joined with what was observed after recovery: every write and its fate. Pure: lines in, writes out."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from reports.records import UsageProblem


class Fate(enum.StrEnum):
    """What became of one attempted write. Found twice is ``duplicated``, found with other bytes ``altered``.

    Found and unreadable is as good as not found: ``lost``, where it was acknowledged.
    """

    RECOVERED = "recovered"
    LOST = "lost"
    ALTERED = "altered"
    INDETERMINATE = "indeterminate"
    DUPLICATED = "duplicated"


@dataclasses.dataclass(slots=True, kw_only=True)
class Write:
    """One attempted write. Mutable while the two files are read, and compact: there may be a million of them.

    ``found`` counts the copies that can be read, ``unreadable`` those of which only a trace is there.
    """

    n: int
    id: str
    digest: str
    attempted_ns: int
    acknowledged_ns: int | None = None
    failed_ns: int | None = None
    found: int = 0
    unreadable: int = 0
    differs: bool = False

    @property
    def copies(self) -> int:
        """How many copies were found, readable or not."""
        return self.found + self.unreadable

    @property
    def fate(self) -> Fate:
        """Its fate, once everything that was observed has been read."""
        if self.differs:
            return Fate.ALTERED
        if self.found and self.copies > 1:
            return Fate.DUPLICATED
        if self.acknowledged_ns is None:
            return Fate.INDETERMINATE
        return Fate.RECOVERED if self.found else Fate.LOST


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writes:
    """A ledger joined with what was observed: per channel its writes in order of ``n``, and the ids never attempted."""

    channels: Mapping[str, list[Write]]
    phantoms: Mapping[str, list[str]]


def gather(ledger_lines: Iterable[Mapping[str, Any]], observed_lines: Iterable[Mapping[str, Any]]) -> Writes:
    """Join the ledger with what was observed, in one pass over each.

    Raises:
        UsageProblem: a line that no ledger writer writes: an acknowledgement without attempt, a number used twice.
    """
    numbered: dict[str, dict[int, Write]] = {}
    named: dict[str, dict[str, Write]] = {}
    for line in ledger_lines:
        channel, n = str(line["channel"]), int(line["n"])
        known = numbered.setdefault(channel, {})
        if line["event"] == "attempt":
            write = Write(n=n, id=str(line["id"]), digest=str(line["sha256"]), attempted_ns=int(line["t"]))
            if n in known or write.id in named.setdefault(channel, {}):
                raise _broken_ledger(f"write {n} of channel {channel} is attempted twice")
            known[n] = named[channel][write.id] = write
        elif n not in known:
            raise _broken_ledger(f"write {n} of channel {channel} is {line['event']} and was never attempted")
        elif line["event"] == "acknowledged":
            known[n].acknowledged_ns = int(line["t"])
        elif line["event"] == "failed":
            known[n].failed_ns = int(line["t"])
    phantoms: dict[str, list[str]] = {}
    for line in observed_lines:
        channel, name = str(line["channel"]), str(line["id"])
        seen = named.get(channel, {}).get(name)
        if seen is None:
            phantoms.setdefault(channel, []).append(name)
            continue
        if line["sha256"] == "":
            seen.unreadable += 1
            continue
        seen.found += 1
        seen.differs = seen.differs or line["sha256"] != seen.digest
    channels = {channel: [known[n] for n in sorted(known)] for channel, known in numbered.items()}
    return Writes(channels=channels, phantoms=phantoms)


def _broken_ledger(seen: str) -> UsageProblem:
    return UsageProblem("the ledger", seen=seen, remedy="fetch the run's files again from where they were archived")

"""Files that processes wrote, searched from a position on for secrets and for events told more than once. Pure."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from checks.audit_events import EventSearch
from checks.audit_secrets import SecretSearch
from reports.records import Finding

CHUNK: Final = 1 << 20
# No line that is longer is an event.
LONGEST_LINE: Final = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """A file that a process wrote: its name for people, whether it was a service's, where a look at it begins."""

    name: str
    path: Path
    begin: int = 0
    of_service: bool = True


def search_secrets(logs: Sequence[Log], secrets: Mapping[str, str]) -> tuple[list[Finding], int]:
    """Each secret, by its name, that stands in one of these files in whatever form; and how many bytes were read.

    Raises:
        OSError: a file cannot be read.
    """
    findings, size = [], 0
    for log in logs:
        search = SecretSearch.of(secrets)
        first: dict[str, int] = {}
        seen: collections.Counter[str] = collections.Counter()
        for chunk in _chunks(log):
            size += len(chunk)
            for line, name in search.feed(chunk):
                first.setdefault(name, line)
                seen[name] += 1
        counted = "line {} after what was there before" if log.begin else "line {}"
        findings += [
            Finding(
                code="LOG-SECRET", where=log.name, count=count,
                seen=f"{name} stands in it, first in {counted.format(first[name])} of {log.path.name}",
            )
            for name, count in seen.items()
        ]  # fmt: skip
    return findings, size


def search_events(logs: Sequence[Log], search: EventSearch) -> None:
    """Feed a search every line of these files, the last one also without its line feed.

    Raises:
        OSError: a file cannot be read.
    """
    for log in logs:
        rest = b""
        for chunk in _chunks(log):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                search.feed(line, log.name)
            rest = rest[-LONGEST_LINE:]
        if rest:
            search.feed(rest, log.name)


def _chunks(log: Log) -> Iterator[bytes]:
    with log.path.open("rb") as file:
        file.seek(log.begin)
        while chunk := file.read(CHUNK):
            yield chunk

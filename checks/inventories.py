"""The file format of an object inventory: JSON lines in the order in which S3 lists keys, that of their UTF-8 bytes.

Each line holds ``key``, ``size`` (bytes), ``sha256`` and, where they were asked for, ``content_type``, ``metadata`` and
``tags`` (null where not). Files are written and read as streams.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from checks.merkle import MerkleTree
from reports.records import HarnessError

_RUN = 10_000
"""How many keys are sorted in memory at once, about 10 MB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectEntry:
    """One line of an inventory."""

    key: str
    size: int
    sha256: str
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    tags: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """An inventory file and its sums: how many objects, their bytes, and one root over keys, sizes and digests."""

    path: Path
    count: int
    bytes: int
    merkle_root: str


def write_inventory(path: Path, entries: Iterable[ObjectEntry]) -> Inventory:
    """Write entries, which come in order, and sum them up."""
    tree, count, size = MerkleTree(), 0, 0
    with path.open("w", encoding="utf-8") as file:
        for entry in entries:
            # Field by field: dataclasses.asdict would deep-copy each mapping.
            file.write(json.dumps(vars(entry), ensure_ascii=False, separators=(",", ":")) + "\n")
            tree.add(
                json.dumps([entry.key, entry.size, entry.sha256], ensure_ascii=False, separators=(",", ":")).encode()
            )
            count += 1
            size += entry.size
    return Inventory(path=path, count=count, bytes=size, merkle_root=tree.root())


def read_inventory(path: Path) -> Iterator[ObjectEntry]:
    """The entries of an inventory file, one at a time.

    Raises:
        HarnessError: the file is absent, a line is not an entry, or keys are not in order or not unique.
    """
    previous: bytes | None = None
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                entry = ObjectEntry(**json.loads(line))
                key = entry.key.encode()
                if previous is not None and key <= previous:
                    raise ValueError(f"line {number}: keys are not in order")
                previous = key
                yield entry
    except (OSError, ValueError, TypeError) as problem:
        raise HarnessError(f"the inventory {path}", seen=str(problem), remedy="take the inventory again") from None


def sorted_keys(keys: Iterable[str], *, scratch: Path) -> Iterator[str]:
    """The keys in order of their UTF-8 bytes and each once, in flat memory: sorted runs in ``scratch``, then merged.

    Not every server lists in S3's order (rclone's walks directory by directory), so a listing is never trusted to.
    """
    remaining = iter(keys)
    with contextlib.ExitStack() as files:
        runs: list[Iterable[str]] = []
        while run := sorted(itertools.islice(remaining, _RUN), key=str.encode):
            # The last, and mostly only, run stays in memory.
            runs.append(_spill(run, files.enter_context(_scratch_file(scratch))) if len(run) == _RUN else run)
        previous = None
        for key in heapq.merge(*runs, key=str.encode):
            if key != previous:
                yield key
            previous = key


def _scratch_file(directory: Path) -> IO[str]:
    return tempfile.TemporaryFile("w+", dir=directory, encoding="utf-8")


def _spill(run: Iterable[str], file: IO[str]) -> Iterator[str]:
    file.writelines(json.dumps(key) + "\n" for key in run)
    file.seek(0)
    return (json.loads(line) for line in file)

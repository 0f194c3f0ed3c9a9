"""Which of any number of keys came more than once: exact, at flat memory, through files where they are many."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 16
# A record: the key, then the number of the place where it stood.
_RECORD: Final = struct.Struct(">16sQ")
_HELD: Final = 1 << 15


class Distinct:
    """Gathers keys of 16 bytes; ``repeats`` tells which of them are there more than once.

    A few are held in memory. More are dealt to 256 files by their last byte, and a file that is too large by the byte
    before that, and so on: what is in one file can be held. Time-ordered ids differ in their last bytes, too.

    Args:
        directory: made when it is needed, removed by ``close``.
        held: how many records are held in memory at most.
    """

    def __init__(self, directory: Path, *, held: int = _HELD) -> None:
        self._directory, self._most = directory, held
        self._records: list[bytes] = []
        self._spilled = False

    def add(self, key: bytes, place: int) -> None:
        """One key, and where it stood."""
        self._records.append(key + place.to_bytes(8, "big"))
        if len(self._records) >= self._most:
            self._spill()

    def repeats(self) -> Iterator[tuple[bytes, list[int]]]:
        """Every key that came more than once, with the first three of its places in order and how many there are last.

        Keys may be added afterwards, and this asked again.
        """
        if self._spilled:
            self._spill()
            for path in sorted(self._directory.iterdir()):
                yield from self._repeats_in(path, KEY_BYTES - 1)
        else:
            yield from _repeats_of(b"".join(self._records))

    def close(self) -> None:
        """Remove the files."""
        self._records = []
        shutil.rmtree(self._directory, ignore_errors=True)

    def _spill(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        _deal(self._records, self._directory, KEY_BYTES - 1)
        self._records, self._spilled = [], True

    def _repeats_in(self, path: Path, dealt_by: int) -> Iterator[tuple[bytes, list[int]]]:
        if path.stat().st_size <= self._most * _RECORD.size:
            yield from _repeats_of(path.read_bytes())
        elif dealt_by == 0:
            yield _all_the_same(path)
        else:
            below = path.with_name(f"{path.name}-{dealt_by}")
            below.mkdir()
            with path.open("rb") as file:
                while read := file.read(self._most * _RECORD.size):
                    records = [read[at : at + _RECORD.size] for at in range(0, len(read), _RECORD.size)]
                    _deal(records, below, dealt_by - 1)
            for part in sorted(below.iterdir()):
                yield from self._repeats_in(part, dealt_by - 1)
            shutil.rmtree(below)


def _deal(records: list[bytes], directory: Path, by: int) -> None:
    hands: dict[int, list[bytes]] = {}
    for record in records:
        hands.setdefault(record[by], []).append(record)
    for number, hand in hands.items():
        # Opened for each hand: 256 open files might be more than a process may have.
        with (directory / f"{number:02x}").open("ab") as file:
            file.write(b"".join(hand))


def _repeats_of(read: bytes) -> Iterator[tuple[bytes, list[int]]]:
    records = list(_RECORD.iter_unpack(read))
    if len({key for key, _ in records}) == len(records):
        return
    records.sort()
    begin = 0
    for at in range(1, len(records) + 1):
        if at == len(records) or records[at][0] != records[begin][0]:
            if at - begin > 1:
                places = [place for _, place in records[begin : min(at, begin + 3)]]
                yield records[begin][0], [*places, at - begin]
            begin = at


def _all_the_same(path: Path) -> tuple[bytes, list[int]]:
    """One key, more often than can be held."""
    with path.open("rb") as file:
        first = [_RECORD.unpack(file.read(_RECORD.size)) for _ in range(3)]
    return first[0][0], [*(place for _, place in first), path.stat().st_size // _RECORD.size]

"""What a file of a backup is, by its first bytes and its name: pg_dump's archives, SQL, roles, or nothing of ours."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Final, Literal, cast

HEAD_BYTES: Final = 1 << 16
MAGIC: Final = b"PGDMP"
TAR: Final = (257, b"ustar")
TAR_BLOCK: Final = 512
CLUSTER_DUMP: Final = b"-- PostgreSQL database cluster dump"
DATABASE_DUMP: Final = b"-- PostgreSQL database dump"
DATABASES: Final = (b"\n-- Databases\n", b"\n\\connect ")
TABLE_OF_CONTENTS: Final = "toc.dat"
# How far a cluster's roles may go before its databases begin.
ROLES_BYTES: Final = 64 << 20
# By the first bytes: what opens it.
PACKED: Final[dict[bytes, Callable[[IO[bytes]], IO[bytes]]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
CLOSED: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
UNPACKING: Final = (OSError, EOFError, lzma.LZMAError, ValueError)
UNFINISHED: Final = re.compile(r"\.(part|partial|tmp|temp|incomplete|inprogress|unfinished)$", re.IGNORECASE)
DUMPS: Final = re.compile(r"\.(dump|dmp|sql|tar|backup|bak|pgdump|custom|gz|bz2|xz|zst)$", re.IGNORECASE)
PART_OF_DIRECTORY: Final = re.compile(r"(\d+\.dat|blobs_?\d*\.toc)(\.gz|\.lz4|\.zst)?$")
# The archive versions whose header is read here: of PostgreSQL 9 to 18.
OLDEST: Final = (1, 10)
NEWEST: Final = (1, 16)

What = Literal["archive", "script", "cluster", "roles", ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """``database``: whose it is, empty where it does not tell; ``local``: when it was begun, in its maker's time zone.

    ``trouble``: why it cannot be restored, empty where nothing is known.
    """

    what: What = ""
    database: str = ""
    local: datetime | None = None
    trouble: str = ""


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """The file's content, unpacked where it is packed in a way that is read here."""
    head = file.read(8)
    file.seek(0)
    return next((opened(file) for magic, opened in PACKED.items() if head.startswith(magic)), file)


def kind_of(path: Path) -> Kind:
    """What a file is."""
    try:
        with path.open("rb") as file:
            head, size = file.read(HEAD_BYTES), path.stat().st_size
            kind = kind_of_head(path.name, head, size)
            if kind.what == "roles":
                file.seek(0)
                with contextlib.suppress(*UNPACKING):
                    return Kind(what="cluster") if _has_databases(unpacked(file)) else kind
    except OSError as problem:
        return Kind(trouble=problem.strerror or "unreadable")
    return kind


def kind_of_head(name: str, head: bytes, size: int) -> Kind:
    """What a file of this name and size is, by its first ``HEAD_BYTES``.

    A cluster's dump whose databases begin further on reads as its roles.
    """
    dump_by_name = DUMPS.search(name) is not None
    if UNFINISHED.search(name):
        return Kind(trouble="its name says that it is not finished")
    if size == 0:
        return Kind(trouble="empty") if dump_by_name else Kind()
    if packer := next((name for magic, name in CLOSED.items() if head.startswith(magic)), ""):
        return Kind(trouble=f"packed by {packer}, which is not unpacked here") if dump_by_name else Kind()
    if head.startswith(MAGIC):
        return _archive(head)
    if head[TAR[0] : TAR[0] + 5] == TAR[1] and head.startswith(b"toc.dat\0"):
        return _archive(head[TAR_BLOCK:])
    text = _text_of(head)
    if text is None:
        return Kind(trouble="packed, and cannot be unpacked") if dump_by_name else Kind()
    if text.startswith(MAGIC):
        return Kind(trouble="an archive that was packed once more, which pg_restore cannot read")
    if CLUSTER_DUMP in text:
        return Kind(what="cluster" if any(mark in text for mark in DATABASES) else "roles")
    return Kind(what="script") if DATABASE_DUMP in text else Kind()


def _text_of(head: bytes) -> bytes | None:
    """The beginning, unpacked; none where it cannot be."""
    opened = unpacked(io.BytesIO(head))
    if isinstance(opened, io.BytesIO):
        return head
    text = b""
    try:
        while len(text) < HEAD_BYTES and (piece := opened.read1(4096)):  # type: ignore[attr-defined]
            text += piece
    except UNPACKING:
        # The head ends in the middle of what is packed.
        return text or None
    return text


def _has_databases(file: IO[bytes]) -> bool:
    seen, before = 0, b""
    while seen < ROLES_BYTES and (piece := file.read(1 << 20)):
        if any(mark in before + piece for mark in DATABASES):
            return True
        seen, before = seen + len(piece), piece[-32:]
    return False


def _archive(head: bytes) -> Kind:
    """What the header of pg_dump's archive says (``src/bin/pg_dump/pg_backup_archiver.c``, ``ReadHead``).

    Numbers are a sign and so many bytes, the lowest first; texts a length and their bytes.
    """
    try:
        version, size = (head[5], head[6]), head[8]
        if not OLDEST <= version <= NEWEST:
            return Kind(what="archive")
        at = 11

        def number() -> int:
            nonlocal at
            at += 1 + size
            return int.from_bytes(head[at - size : at], "little") * (-1 if head[at - size - 1] else 1)

        if version >= (1, 15):
            at += 1
        else:
            number()
        second, minute, hour, day, month, year, _ = (number() for _ in range(7))
        length = number()
        database = head[at : at + length].decode("utf-8")
        local = datetime(1900 + year, 1 + month, day, hour, minute, min(second, 59))  # noqa: DTZ001
    except (IndexError, ValueError):
        return Kind(what="archive")
    return Kind(what="archive", database=database, local=local)

"""Reading what is within a backup's files: as they are, through compression, archives, and the dump that they make up.

What cannot be looked into is said, by the kind of file and the reason: what nobody has read must not pass for clean.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import lzma
import os
import shutil
import tarfile
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from fixtures.backup_set import COMPONENTS, BackupSet
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import Processes
from reports.records import HarnessError

HEAD: Final = 512
# How many archives or compressions within one another are looked into, and how much of one is laid on the disk for it.
DEEPEST: Final = 3
LARGEST: Final = 256 << 20
# By the first bytes: https://www.rfc-editor.org/rfc/rfc1952, …/rfc8878, the formats' own descriptions.
COMPRESSED: Final = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"
}  # fmt: skip
# https://age-encryption.org/v1, rclone's crypt, OpenPGP's and ansible-vault's armour, openssl enc.
ENCRYPTED: Final = {
    b"age-encryption.org/": "age",
    b"-----BEGIN AGE ENCRYPTED FILE": "age",
    b"RCLONE\x00\x00": "rclone crypt",
    b"-----BEGIN PGP MESSAGE": "OpenPGP",
    b"$ANSIBLE_VAULT;": "ansible-vault",
    b"Salted__": "openssl enc",
}
DUMP: Final = "PostgreSQL dump"
CLOSED: Final = {b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z", b"%PDF-": "PDF (its compressed streams)"}
LIBRARIES: Final[dict[str, Callable[[Path], Any]]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
PROGRAMS: Final = ("zstd", "lz4")
ARCHIVES: Final = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
TABLE_OF_CONTENTS: Final = "toc.dat"
PIECE: Final = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Means:
    """What is there to look with. ``seconds``: how long one file may take."""

    processes: Processes
    tools: PostgresTools
    scratch: Path
    seconds: float


@dataclasses.dataclass(kw_only=True)
class Looked:
    """What was looked at, and what was not: how many files of which kind."""

    files: int = 0
    within: Counter[str] = dataclasses.field(default_factory=Counter)
    encrypted: Counter[str] = dataclasses.field(default_factory=Counter)
    closed: Counter[str] = dataclasses.field(default_factory=Counter)


@contextlib.contextmanager
def telling_damage(name: str) -> Iterator[None]:
    """Turn what the decompressors and the archives' reader say of a damaged file into the project's error."""
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as problem:
        raise HarnessError(
            f"reading {name} of a backup set", seen=f"{type(problem).__name__}: {problem}",
            remedy="the file is damaged or cut short: check the set against its manifest, and back up again",
        ) from problem  # fmt: skip


def form_of(path: Path) -> tuple[str, str]:
    """What a file is by its first bytes: compressed, encrypted, closed, dump or plain; and in which form."""
    with path.open("rb") as file:
        return _form_of_head(file.read(HEAD))


def _form_of_head(head: bytes) -> tuple[str, str]:
    if head.startswith(b"PGDMP"):
        return "dump", DUMP
    for kind, forms in (("encrypted", ENCRYPTED), ("compressed", COMPRESSED), ("closed", CLOSED)):
        for magic, name in forms.items():
            if head.startswith(magic):
                return kind, name
    return "plain", ""


def files_of(backup: BackupSet) -> Iterator[tuple[str, Path]]:
    """Every file of a set, those that its manifest does not name among them: name, path."""
    seen = set()
    for component in COMPONENTS:
        root = backup.place(component)
        seen.add(root)
        yield from _below(root, component)
    for top in (backup.directory, backup.apart):
        for entry in sorted(top.iterdir()) if top.is_dir() else []:
            if entry not in seen:
                yield from _below(entry, entry.name)


def _below(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    if root.is_file():
        yield name, root
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        if path.is_file():
            yield f"{name}/{path.relative_to(root).as_posix()}", path


def streams_of(backup: BackupSet, means: Means, looked: Looked) -> Iterator[tuple[str, IO[bytes]]]:
    """Each file's readable content, one after the other: as it is, and what its compression or its dump holds.

    What an archive or a compression holds that is itself compressed, an archive or a dump follows under its own name.
    A stream is to be read to its end before the next is asked for.
    """
    for name, path in files_of(backup):
        looked.files += 1
        yield from _streams_in(name, path, means, looked, depth=0)


def _streams_in(name: str, path: Path, means: Means, looked: Looked, *, depth: int) -> Iterator[tuple[str, IO[bytes]]]:
    kind, form = form_of(path)
    _count_what_is_shut(kind, form, looked)
    if kind == "compressed":
        if depth or not _of_dump(path):
            yield from _through_compression(name, path, form, means, looked, depth=depth)
        return
    # A dump's own compression is behind its header, and a closed file may hold clear text beside.
    with path.open("rb") as file:
        yield name, file
        file.seek(0)
        archived = _is_archive(file.read(HEAD))
    if archived:
        yield from _members(name, path, "", means, looked, depth=depth)
    if kind == "dump":
        whole = path.parent if path.name == TABLE_OF_CONTENTS else path
        looked.within[DUMP] += 1
        argv: list[str | Path] = [means.tools.path("pg_restore"), "--file=-", whole]
        with _output_of(argv, means) as output:
            yield f"{name}, as pg_restore reads it", output


def _count_what_is_shut(kind: str, form: str, looked: Looked) -> None:
    if kind == "encrypted":
        looked.encrypted[form] += 1
    if kind == "closed":
        looked.closed[form] += 1


def _is_archive(head: bytes) -> bool:
    # https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, "ustar Interchange Format"
    return head[257:262] == b"ustar"


def _through_compression(
    name: str, path: Path, form: str, means: Means, looked: Looked, *, depth: int
) -> Iterator[tuple[str, IO[bytes]]]:
    with contextlib.ExitStack() as stack:
        if (stream := _decompressed(path, form, means, stack)) is None:
            looked.closed[f"{form} (no program for it here)"] += 1
            return
        looked.within[form] += 1
        with telling_damage(name):
            peeked = _Peeked(stream)
        yield name, peeked  # type: ignore[misc]
    if _is_archive(peeked.head):
        yield from _members(name, path, form, means, looked, depth=depth)
        return
    kind, _ = _form_of_head(peeked.head)
    if kind in ("compressed", "dump"):
        with contextlib.ExitStack() as stack:
            again = _decompressed(path, form, means, stack)
            assert again is not None
            yield from _laid_down(f"{name}, within", again, means, looked, depth=depth)
    else:
        _count_what_is_shut(*_form_of_head(peeked.head), looked)


def _members(
    name: str, path: Path, form: str, means: Means, looked: Looked, *, depth: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """What is within those members of an archive that are not plain: plain ones stand in the archive as they are."""
    looked.within["tar"] += 1
    with contextlib.ExitStack() as stack, telling_damage(name):
        stream = _decompressed(path, form, means, stack) if form else stack.enter_context(path.open("rb"))
        assert stream is not None
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                # Of a dump in directory format, the rows are in its other files.
                if content is None or Path(member.name).name == TABLE_OF_CONTENTS:
                    continue
                peeked = _Peeked(content)
                kind, shape = _form_of_head(peeked.head)
                if kind in ("compressed", "dump") or _is_archive(peeked.head):
                    yield from _laid_down(f"{name}, {member.name}", peeked, means, looked, depth=depth)
                else:
                    _count_what_is_shut(kind, shape, looked)
        _drain(stream)


def _laid_down(
    name: str, stream: IO[bytes] | _Peeked, means: Means, looked: Looked, *, depth: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """What is within the content of another file, which is laid on the disk meanwhile: its readers want to seek."""
    if depth == DEEPEST:
        looked.closed[f"more than {DEEPEST} archives or compressions within one another"] += 1
        _drain(stream)
        return
    place = means.scratch / f"looking-inside-{uuid.uuid4().hex}"
    size = 0
    try:
        with telling_damage(name), place.open("xb") as file:
            place.chmod(0o600)
            while size <= LARGEST and (piece := stream.read(PIECE)):
                size += file.write(piece)
            _drain(stream)
        if size > LARGEST:
            looked.closed[f"compressed within another file, and larger than {LARGEST >> 20} MiB"] += 1
        else:
            yield from _streams_in(name, place, means, looked, depth=depth + 1)
    finally:
        place.unlink(missing_ok=True)


def _drain(stream: IO[bytes] | _Peeked) -> None:
    """Read what is left, without which a program that writes it would die of a broken pipe."""
    while stream.read(PIECE):
        pass


class _Peeked:
    """A stream whose first bytes are known before they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.head = b""
        while len(self.head) < HEAD and (piece := stream.read(HEAD - len(self.head))):
            self.head += piece
        self._ahead = self.head

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if self._ahead:
            given, self._ahead = self._ahead[:size], self._ahead[size:]
            return given
        return self._stream.read(size)


def _of_dump(path: Path) -> bool:
    """Whether a compressed file belongs to a dump in directory format, which is read as a whole."""
    return (path.parent / TABLE_OF_CONTENTS).is_file()


def _decompressed(path: Path, form: str, means: Means, stack: contextlib.ExitStack) -> IO[bytes] | None:
    if form in LIBRARIES:
        opened: IO[bytes] = stack.enter_context(LIBRARIES[form](path))
        return opened
    if form in PROGRAMS and (program := shutil.which(form)) is not None:
        return stack.enter_context(_output_of([program, "-d", "-c", "-q", path], means))
    return None


@contextlib.contextmanager
def _output_of(argv: list[str | Path], means: Means) -> Iterator[IO[bytes]]:
    """What a program writes, as it writes it: nothing of it is ever whole, in memory or on the disk."""
    pipe = means.scratch / f"looking-inside-{uuid.uuid4().hex}"
    os.mkfifo(pipe, 0o600)
    problems: list[HarnessError] = []
    opened = threading.Event()

    def run() -> None:
        try:
            means.processes.run(argv, timeout=means.seconds, stdout=pipe)
        except HarnessError as problem:
            problems.append(problem)
        finally:
            # Whoever still waits for a writer, because none came, sees the end.
            while not opened.wait(0.01):
                with contextlib.suppress(OSError):
                    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))

    worker = threading.Thread(target=run, name="looking inside", daemon=True)
    try:
        worker.start()
        with pipe.open("rb") as stream:
            opened.set()
            yield stream
        worker.join()
    finally:
        pipe.unlink()
    if problems:
        raise problems[0]


def names_of(backup: BackupSet, means: Means, looked: Looked) -> Iterator[str]:
    """The name of every file of a set, and of every member of its tar archives."""
    for name, path in files_of(backup):
        looked.files += 1
        yield name
        if not name.endswith(ARCHIVES):
            continue
        kind, form = form_of(path)
        if kind == "encrypted":
            looked.encrypted[form] += 1
            continue
        with contextlib.ExitStack() as stack:
            plain = kind == "plain"
            stream = stack.enter_context(path.open("rb")) if plain else _decompressed(path, form, means, stack)
            if stream is None:
                looked.closed[f"{form} (no program for it here)"] += 1
                continue
            looked.within["tar"] += 1
            with telling_damage(name):
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    yield from (f"{name}/{member.name}" for member in archive)
                _drain(stream)

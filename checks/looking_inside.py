"""Reading what is within a backup's files: as they are, through their compression, through the dump that they make up.

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
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from fixtures.backup_set import COMPONENTS, BackupSet
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import Processes
from reports.records import HarnessError

HEAD: Final = 64
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
        head = file.read(HEAD)
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

    A stream is to be read before the next is asked for.
    """
    for name, path in files_of(backup):
        looked.files += 1
        kind, form = form_of(path)
        if kind == "encrypted":
            looked.encrypted[form] += 1
        if kind == "closed":
            looked.closed[form] += 1
        if kind != "compressed":
            # A dump's own compression is behind its header, and a closed file may hold clear text beside.
            with path.open("rb") as file:
                yield name, file
        elif not _of_dump(path):
            with contextlib.ExitStack() as stack:
                if (stream := _decompressed(path, form, means, stack)) is None:
                    looked.closed[f"{form} (no program for it here)"] += 1
                else:
                    looked.within[form] += 1
                    yield name, stream
        if kind == "dump":
            whole = path.parent if path.name == TABLE_OF_CONTENTS else path
            with contextlib.ExitStack() as stack:
                looked.within[DUMP] += 1
                argv: list[str | Path] = [means.tools.path("pg_restore"), "--file=-", whole]
                yield f"{name}, as pg_restore reads it", stack.enter_context(_output_of(argv, means))


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
    pipe = means.scratch / f"looking-inside-{threading.get_ident()}"
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
                # What follows the archive's end must be read too, or its program would die of a broken pipe.
                while stream.read(1 << 20):
                    pass

"""Reading what pg_dump and pg_dumpall write as SQL: what each part of it is, by the comment that stands before it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from drills.sources.kinds import UNPACKING, unpacked
from reports.records import HarnessError

HEADER: Final = re.compile(
    rb"^-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: .*; Owner: (?P<owner>[^\n]*?)(?:; "
    rb"Tablespace: .*)?$"
)
DATABASE: Final = re.compile(rb'^-- Database "(?P<name>.*)" dump$')
COPY: Final = re.compile(rb"^COPY .* FROM stdin;$")
END_OF_COPY: Final = b"\\."
END: Final = b"-- PostgreSQL database dump complete"
END_OF_CLUSTER: Final = b"-- PostgreSQL database cluster dump complete"
CONNECT: Final = re.compile(rb"^\\connect (?P<to>.+)$")
CREATE: Final = re.compile(rb"^CREATE DATABASE (?P<name>.+?) WITH ")
NAME: Final = rb'(?:"(?:[^"]|"")+"|[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)'
NAMES: Final = rb"(?P<names>" + NAME + rb"(?:, " + NAME + rb")*)"
# The parts that name roles beside their owner, and how.
NAMING: Final = {
    b"ACL": (re.compile(rb"^(?:GRANT|REVOKE) .* (?:TO|FROM) " + NAMES + rb"(?: WITH GRANT OPTION)?;$"),
             re.compile(rb"^SET SESSION AUTHORIZATION " + NAMES + rb";$")),
    b"DEFAULT ACL": (re.compile(rb"^ALTER DEFAULT PRIVILEGES FOR ROLE " + NAMES + rb" "),
                     re.compile(rb"^ALTER .* (?:TO|FROM) " + NAMES + rb"(?: WITH GRANT OPTION)?;$")),
    b"POLICY": (re.compile(rb"^CREATE POLICY .*? TO " + NAMES + rb"(?: USING| WITH CHECK|;)"),),
}  # fmt: skip
TABLESPACE: Final = re.compile(rb"^SET default_tablespace = (?!'')(?P<name>.+);$")
LONGEST_LINE: Final = 1 << 20


@dataclasses.dataclass(kw_only=True)
class Script:
    """What a script of one database says of itself; names as SQL writes them, unquoted.

    ``creates``: the database that it makes, where it does. ``connects``: whether it leaves the one it is run in.
    ``about``: the statements about the database itself, its making first.
    """

    creates: str = ""
    connects: bool = False
    roles: set[str] = dataclasses.field(default_factory=set)
    tablespaces: set[str] = dataclasses.field(default_factory=set)
    about: list[bytes] = dataclasses.field(default_factory=list)
    whole: bool = False


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Lines without their ends; what of a line goes beyond ``LONGEST_LINE`` bytes is passed over."""
    while line := file.readline(LONGEST_LINE):
        yield line.rstrip(b"\r\n")
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)


def outside_of_data(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that are no rows of a table."""
    copying = False
    for line in lines:
        if copying:
            copying = line != END_OF_COPY
            continue
        copying = COPY.match(line) is not None
        yield line


def read_script(lines: Iterable[bytes]) -> Script:
    """Read a script of one database through, in memory that does not grow with it."""
    script, kind, about = Script(), b"", False
    for line in outside_of_data(lines):
        if match := HEADER.match(line):
            kind, name, owner = match["type"], match["name"], match["owner"]
            about = kind.startswith(b"DATABASE") or (
                kind in (b"ACL", b"COMMENT", b"SECURITY LABEL") and name.startswith(b"DATABASE ")
            )
            if owner not in (b"", b"-"):
                script.roles.add(_text(owner))
            continue
        for pattern in NAMING.get(kind, ()):
            if match := pattern.match(line):
                script.roles |= set(_names(match["names"]))
        if match := CREATE.match(line):
            script.creates = _name(match["name"])
        elif match := TABLESPACE.match(line):
            script.tablespaces.add(_name(match["name"].strip(b"'")))
        elif line.startswith(b"\\connect "):
            script.connects, about = True, False
        script.whole = script.whole or line == END
        if about and line and not line.startswith((b"\\", b"--")):
            script.about.append(line)
    return script


def read_file(place: Path) -> Script:
    """Read a script's file through, packed or not.

    Raises:
        HarnessError: it cannot be unpacked to its end, or ends before its own last line.
    """
    try:
        with place.open("rb") as file:
            script = read_script(lines_of(unpacked(file)))
    except UNPACKING as problem:
        raise _cut(place, f"{type(problem).__name__}: {problem}") from None
    if not script.whole:
        raise _cut(place, f"the line {END.decode()!r} is not in it")
    return script


def one_database(place: Path, name: str, target: Path) -> None:
    """Write what a cluster's dump holds of one database into a file.

    Raises:
        HarnessError: it holds nothing of it, or ends before its own last line.
    """
    known: list[str] = []
    wanted = ended = False
    with place.open("rb") as packed, target.open("wb") as file:
        copying = False
        try:
            for line in unpacked(packed):
                bare = line.rstrip(b"\r\n")
                if copying:
                    copying = bare != END_OF_COPY
                else:
                    copying = COPY.match(bare) is not None
                    if match := DATABASE.match(bare):
                        known.append(match["name"].decode("utf-8", "replace"))
                        wanted = known[-1] == name
                    elif CONNECT.match(bare) and not known:
                        # Before version 11 nothing else told where a database began.
                        raise HarnessError(
                            f"cluster dump {place}", seen="made by a pg_dumpall older than version 11",
                            remedy="dump with the programs of a newer version",
                        )  # fmt: skip
                    elif bare == END_OF_CLUSTER:
                        wanted, ended = False, True
                if wanted:
                    file.write(line)
        except UNPACKING as problem:
            raise _cut(place, f"{type(problem).__name__}: {problem}") from None
    if not ended:
        raise _cut(place, f"the line {END_OF_CLUSTER.decode()!r} is not in it")
    if name not in known:
        raise HarnessError(
            f"cluster dump {place}", seen=f"of {', '.join(known) or 'no database'}, not of {name}",
            remedy="name the place of the backups of this deployment",
        )  # fmt: skip


def _cut(place: Path, seen: str) -> HarnessError:
    return HarnessError(
        f"SQL dump {place}", seen=f"cut short: {seen}", remedy="take a new one, and look why this one has no end"
    )


def _names(text: bytes) -> Iterator[str]:
    for match in re.finditer(NAME, text):
        if (name := _name(match[0])) not in ("public", "current_user", "session_user", "current_role"):
            yield name


def _name(text: bytes) -> str:
    if text.startswith(b'"'):
        return _text(text[1:-1].replace(b'""', b'"'))
    return _text(text)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

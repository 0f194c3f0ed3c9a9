"""Does a way lead out of the network in which a restored copy was booted. Nothing leaves this machine to find out.

A probe is run where the services run. It knocks at doors that are held open on this machine, each of them on a port or
under a name that nobody else knows; what it leaves there tells that it came out. The same probe, run outside, must come
to every door: a way on which it does not tells nothing, and is not tested (see ``unproven``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from fixtures.processes import Processes
from reports.records import NANOSECONDS, Finding, HarnessError, format_duration

LOOPBACKS: Final = ("127.0.0.1", "::1")
# Set aside for documentation (RFC 5737, RFC 3849): elsewhere, whatever network this machine is in.
ELSEWHERE: Final = ("198.51.100.1", "2001:db8::1")
# A service that waits longer for each name than this seems to hang rather than to be offline.
SLOW_LOOKUP_NS: Final = 2 * NANOSECONDS
PROBE_SECONDS: Final = 120.0
# Whoever can write here has mail sent by this machine's own mail server.
MAIL_SPOOLS: Final = ("/var/spool/postfix/maildrop", "/var/spool/exim4/input", "/var/spool/exim/input",
                      "/var/spool/mqueue-client", "/var/spool/mqueue", "/var/spool/nullmailer/queue")  # fmt: skip
SHOWN: Final = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaysOut:
    """What the probe tried and where it came out.

    ``lookup_ns``: how long the lookup of a name took that nobody has; nothing where none was looked up. ``by_file``:
    Unix sockets of other programs and mail spools that can be written to, which no network closes.
    """

    tried: tuple[str, ...]
    reached: tuple[str, ...]
    lookup_ns: int | None
    by_file: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Door:
    way: str
    asked: dict[str, Any]
    held: socket.socket

    def visited(self, token: bytes) -> bool:
        """Whether the token lies there; others' visits do not count."""
        self.held.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                if self._next_word() == token:
                    return True
        return False

    def _next_word(self) -> bytes:
        if self.held.type is socket.SOCK_DGRAM:
            return self.held.recv(100)
        visitor, _ = self.held.accept()
        with visitor, contextlib.suppress(OSError):
            visitor.settimeout(1)
            return visitor.recv(100)
        return b""


def try_ways_out(processes: Processes, prefix: Sequence[str], *, directory: Path) -> WaysOut:
    """Run the probe, and see where it came out.

    Args:
        prefix: the words that run a command where the services run; none for the probe outside, which looks no name up.
        directory: an existing one of the run's, for the probe's file and a Unix socket.

    Raises:
        HarnessError: the probe broke, or does not see a Unix socket that it could write to.
    """
    token, routes, others = secrets.token_hex(16), [*ELSEWHERE, *_name_servers()], _unix_sockets()
    name = f"{token}.invalid" if prefix else ""
    with contextlib.ExitStack() as held:
        doors = [*_doors(held)]
        own = held.enter_context(_unix_socket(directory / f"{token[:8]}.sock"))
        asked = {"token": token, "doors": [door.asked for door in doors], "routes": routes, "name": name,
                 "files": [str(own), *others, *MAIL_SPOOLS]}  # fmt: skip
        file = directory / f"ways-out-{token[:8]}.json"
        file.write_text(json.dumps(asked), "utf-8")
        words = [*prefix, sys.executable, "-m", "fixtures.egress_probe", str(file)]
        answer = json.loads(processes.run(words, timeout=PROBE_SECONDS).output.read_text("utf-8"))
        reached = [door.way for door in doors if door.visited(token.encode())]
    if str(own) not in answer["writable"]:
        raise HarnessError(
            "the probe of the sandbox's network", seen=f"it cannot write to {own}, which is there",
            remedy="see that the services' user may read the work directory",
        )  # fmt: skip
    lookup = answer["lookup"]
    return WaysOut(
        tried=(*(door.way for door in doors), *map(_route, routes)),
        reached=(
            *reached,
            *map(_route, answer["routes"]),
            *([f"the lookup of {name}, which gave {lookup['found']}"] if lookup and lookup["found"] else []),
        ),
        lookup_ns=lookup["took_ns"] if lookup else None,
        by_file=tuple(path for path in answer["writable"] if path != str(own)),
    )


def check_egress(ways: WaysOut) -> list[Finding]:
    """What the probe reached that it must not reach from inside; from outside, its negative control, it must."""
    findings = []
    if ways.reached:
        seen = f"reached, of {len(ways.tried)} ways tried: {_listed(ways.reached)}"
        findings.append(Finding(code="EGRESS-OPEN", seen=seen, where="network", count=len(ways.reached)))
    if ways.by_file:
        seen = f"can be written to: {_listed(ways.by_file)}"
        findings.append(Finding(code="EGRESS-BY-FILE", seen=seen, where="files", count=len(ways.by_file)))
    if ways.lookup_ns is not None and ways.lookup_ns > SLOW_LOOKUP_NS:
        seen = f"a name that nobody has was given up after {format_duration(ways.lookup_ns)}"
        findings.append(Finding(code="EGRESS-LOOKUP-SLOW", seen=seen, where="network"))
    return findings


def unproven(inside: WaysOut, outside: WaysOut) -> list[str]:
    """The ways of which nothing is known: the probe did not come out there although nothing held it."""
    return [way for way in inside.tried if way not in outside.reached]


def _doors(held: contextlib.ExitStack) -> Iterator[_Door]:
    """A stream and a datagram socket on every address of this machine, and an abstract Unix socket."""
    for address in dict.fromkeys([*LOOPBACKS, *_own_addresses()]):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind, protocol in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
            with contextlib.suppress(OSError):  # an address that nobody can be reached at now, or no such family
                door = held.enter_context(_bound(family, kind, address))
                asked = {"type": kind.name, "family": family.name, "address": door.getsockname()}
                yield _Door(way=f"{protocol} to {address}", asked=asked, held=door)
    name = f"enprivacy-drill-{secrets.token_hex(8)}"
    abstract = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    abstract.bind(f"\0{name}")
    abstract.listen()
    asked = {"type": "SOCK_STREAM", "family": "AF_UNIX", "name": name}
    yield _Door(way="an abstract Unix socket", asked=asked, held=abstract)


def _bound(family: socket.AddressFamily, kind: socket.SocketKind, address: str) -> socket.socket:
    place = socket.getaddrinfo(address, 0, family, kind, flags=socket.AI_NUMERICHOST)[0][4]
    door = socket.socket(family, kind)
    try:
        door.bind(place)
        if kind is socket.SOCK_STREAM:
            door.listen()
    except OSError:
        door.close()
        raise
    return door


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[Path]:
    """A file that can be written to as others' sockets can, so that a probe which sees none is seen."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
            # Through the directory's descriptor: a socket's path may have 107 bytes.
            own.bind(f"/proc/self/fd/{directory}/{path.name}")
            try:
                yield path
            finally:
                path.unlink()
    finally:
        os.close(directory)


def _own_addresses() -> list[str]:
    families = (socket.AF_INET, socket.AF_INET6)
    return [each.address for all_of in psutil.net_if_addrs().values() for each in all_of if each.family in families]


def _name_servers() -> list[str]:
    """Those of this machine that are elsewhere; the ones on loopback are nobody in another network."""
    try:
        words = [line.split() for line in Path("/etc/resolv.conf").read_text("utf-8").splitlines()]
    except OSError:
        return []
    named = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return [address for address in named if not _is_loopback(address)]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True


def _unix_sockets() -> list[str]:
    """The paths under which programs of this machine have Unix sockets."""
    rows = [line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text("utf-8", "replace").splitlines()]
    return sorted({row[7] for row in rows if len(row) == 8 and row[7].startswith("/")})


def _route(address: str) -> str:
    return f"a route to {address}"


def _listed(things: Sequence[str]) -> str:
    more = len(things) - SHOWN
    return ", ".join(things[:SHOWN]) + (f" and {more} more" if more > 0 else "")

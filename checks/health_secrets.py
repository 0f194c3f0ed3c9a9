"""What a stranger must not learn from a health endpoint: secrets, addresses, traces of the program's inside."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import ipaddress
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

from fixtures.health import Answer
from reports.records import Finding

SECRET_WORDS: Final = ("KEY", "SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "PASSPHRASE")
# Shorter values stand in any text by chance.
SHORTEST: Final = 6
_PATTERNS: Final = {
    "a data source name": r"\b(?:jdbc:|postgres(?:ql)?:|mysql:|mariadb:|redis:|amqps?:|mongodb(?:\+srv)?:)/?/?\S",
    "an address with a password in it": r"://[^/\s:@\"']+:[^/\s@\"']+@",
    "a connection string": r"(?i)\bpassword\s*=\s*[^\s;,\"']",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a bearer token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.",
    "a stack trace": (
        r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+"
        r"|\bat [\w.$<>]+\([\w.]*(?:\.\w+:\d+|Native Method|Unknown Source)\)|\bException in thread"
        r"|\bgoroutine \d+ \[|\bpanic: |\n\s+at \S+ \(\S+:\d+:\d+\)"
    ),
    "an address of the inside": (
        r"(?<![\d.])(?:(?:10|127)\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?![\d.])"
        r"|\b[\w-]+(?:\.[\w-]+)*\.(?:svc|internal|local|cluster\.local)\b"
    ),
}
_COMPILED: Final = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_IPV6: Final = re.compile(r"(?<![\w:.])((?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f.]{0,15})(?![\w:])")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([nrtbf\"'/\\]))")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
# JSON within a string of JSON within another.
_NESTED: Final = 3
# What may stand between a host and its port, or before either: signs, their names, an address that was looked up.
_BETWEEN: Final = r"(?:\W|\([^()\s]{1,60}\)|\b(?:port|host|hostname|tcp|on|at)\b){1,24}"
_UNIQUE_TO_LOOK_AT: Final = re.compile(r"[\d_-]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted:
    """What must not be shown, each by a name that may be: values wherever they stand, patterns for others."""

    values: Mapping[str, str]
    patterns: Mapping[str, re.Pattern[str]]


def planted(configuration: Mapping[str, str]) -> Planted:
    """Secrets, whole addresses with them, hosts with their ports, and the names of users, of a configuration."""
    return Planted(values=_values(configuration), patterns=_patterns(configuration))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Url:
    """What a URL names; several addresses where it is one of a cluster. User and password as they are written."""

    user: str
    password: str
    addresses: tuple[tuple[str, int | None], ...]


def _read(value: str) -> _Url | None:
    """None where it is no URL. What cannot be read of an address hides neither the others nor the password."""
    try:
        parts = urllib.parse.urlsplit(value)
    except ValueError:
        return None
    if not parts.scheme or not parts.netloc:
        return None
    written = parts.netloc.rpartition("@")[2].split(",")
    return _Url(
        user=parts.username or "",
        password=parts.password or "",
        addresses=tuple(address for each in written if (address := _address(each))[0]),
    )


def _address(written: str) -> tuple[str, int | None]:
    try:
        parts = urllib.parse.urlsplit(f"//{written}")
        host = parts.hostname or ""
    except ValueError:
        return "", None
    try:
        return host, parts.port
    except ValueError:
        return host, None


def _patterns(configuration: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    found: dict[str, re.Pattern[str]] = {}
    for variable, value in configuration.items():
        if (url := _read(value)) is None:
            continue
        shapes = [shape for host, port in url.addresses for shape in _shapes(host, port)]
        if shapes:
            found[f"the host of {variable}"] = re.compile("|".join(shapes), re.IGNORECASE)
        if user := urllib.parse.unquote(url.user):
            word = rf"(?<![\w-]){re.escape(user)}(?![\w-])"
            shapes = [rf"\b(?:user|username|user[ _]name|role|login)\W{{1,6}}{word}", rf"{word}@"]
            # A name such as "app" stands in any text by chance.
            if len(user) >= SHORTEST and _UNIQUE_TO_LOOK_AT.search(user):
                shapes.append(word)
            found[f"the user of {variable}"] = re.compile("|".join(shapes), re.IGNORECASE)
    return found


def _shapes(host: str, port: int | None) -> Iterator[str]:
    """How a host is told, with its port or without."""
    named = rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)"
    yield rf"\bhost(?:name|addr)?\W{{1,6}}{named}"
    yield rf"\b(?:server at|address)\W{{1,6}}{named}"
    if port:
        yield rf"{named}{_BETWEEN}{port}(?!\d)"
        yield rf"(?<!\d){port}{_BETWEEN}{named}"


def _values(configuration: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, value in configuration.items():
        if len(value) >= SHORTEST and any(word in variable.upper() for word in SECRET_WORDS):
            found |= dict.fromkeys(_forms(value), variable)
        if (url := _read(value)) is None:
            continue
        if len(url.password) >= SHORTEST:
            both = {*_forms(url.password), *_forms(urllib.parse.unquote(url.password)), value}
            found |= dict.fromkeys(both, variable)
        for host, port in url.addresses:
            if port:
                found[f"[{host}]:{port}" if ":" in host else f"{host}:{port}"] = f"the host of {variable}"
            # A bare name such as "ocr" may be the name of a part as well, which a body may show.
            if "." in host or _is_address(host):
                found[host] = f"the host of {variable}"
    return found


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    forms = {secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1], raw.hex()}
    # The last three characters depend on what follows.
    forms.add(base64.b64encode(raw).decode().rstrip("=")[:-3] if len(raw) >= 2 * SHORTEST else secret)
    try:
        forms.add(base64.b64decode(secret, validate=True).hex())
    except (binascii.Error, ValueError):
        forms.add(secret)
    return {form for form in forms if len(form) >= SHORTEST}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def judge_secrets(answer: Answer, secrets: Planted) -> Iterator[Finding]:
    """Nothing of the inside in a body or a header. A finding says of what kind, never what it was."""
    body = answer.body.decode("utf-8", "replace")
    seen = _seen(body, secrets) | {f"{name}, in a header" for name in _seen(answer.headers, secrets)}
    if seen:
        yield Finding(code="HEALTH-LEAKS", seen=f"it shows {', '.join(sorted(seen))}", where=answer.where)


def _seen(text: str, secrets: Planted) -> set[str]:
    found: set[str] = set()
    for form in _unescaped(text):
        found |= {name for value, name in secrets.values.items() if value in form}
        found |= {name for name, pattern in secrets.patterns.items() if pattern.search(form)}
        found |= {kind for kind, pattern in _COMPILED.items() if pattern.search(form)}
        if any(_is_of_the_inside(match[1]) for match in _IPV6.finditer(form)):
            found.add("an address of the inside")
    return found


def _unescaped(text: str) -> Iterator[str]:
    """A text as it stands, and as its escapes are read, which may hold others."""
    yield text
    for _ in range(_NESTED):
        read = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _ESCAPED.get(match[2], match[2]), text)
        if read == text:
            return
        yield read
        text = read


def _is_of_the_inside(address: str) -> bool:
    try:
        read = ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return read.is_loopback or read.is_link_local or read in ipaddress.IPv6Network("fc00::/7")

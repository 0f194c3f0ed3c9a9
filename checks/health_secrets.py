"""What a stranger must not learn from a health endpoint: secrets, addresses, traces of the program's inside."""

from __future__ import annotations

import base64
import binascii
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


def planted(configuration: Mapping[str, str]) -> dict[str, str]:
    """What must not be shown, as value to a name that may be: secrets, whole addresses with them, hosts and ports."""
    found: dict[str, str] = {}
    for variable, value in configuration.items():
        if len(value) >= SHORTEST and any(word in variable.upper() for word in SECRET_WORDS):
            found |= dict.fromkeys(_forms(value), variable)
        try:
            parts = urllib.parse.urlsplit(value)
            host, port, password = parts.hostname, parts.port, parts.password
        except ValueError:
            continue
        if not parts.scheme or not host:
            continue
        if password and len(password) >= SHORTEST:
            found |= dict.fromkeys({*_forms(password), *_forms(urllib.parse.unquote(password)), value}, variable)
        if port:
            found[f"{host}:{port}"] = f"the host of {variable}"
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


def judge_secrets(answer: Answer, secrets: Mapping[str, str]) -> Iterator[Finding]:
    """Nothing of the inside in a body, no secret in a header. A finding says of what kind, never what it was."""
    body = answer.body.decode("utf-8", "replace")
    seen = {name for value, name in secrets.items() if value in body}
    seen |= {f"{name}, in a header" for value, name in secrets.items() if value in answer.headers}
    plain = body.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\/", "/")
    seen |= {kind for kind, pattern in _COMPILED.items() if pattern.search(plain)}
    if seen:
        yield Finding(code="HEALTH-LEAKS", seen=f"it shows {', '.join(sorted(seen))}", where=answer.where)

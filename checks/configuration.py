"""Does a restored configuration equal what the backup held, without either showing a value; do its secrets open."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from checks.differences import summed_up
from reports.records import Finding


def digest_configuration(values: Mapping[str, str], key: bytes) -> dict[str, str]:
    """Each variable's HMAC-SHA-256 in hexadecimal (RFC 2104), over its name and value so that equal values differ."""
    return {
        name: hmac.new(key, f"{name}={value}".encode(), hashlib.sha256).hexdigest()
        for name, value in sorted(values.items())
    }


def compare_configuration(expected: Mapping[str, str], observed: Mapping[str, str]) -> list[Finding]:
    """Variables lost, altered or unexpected, by two mappings that ``digest_configuration`` made under one key."""
    lost = [name for name in expected if name not in observed]
    unexpected = [name for name in observed if name not in expected]
    altered = [
        name
        for name in expected
        if name in observed and not hmac.compare_digest(expected[name].encode(), observed[name].encode())
    ]
    return [
        finding
        for code, names in (
            ("CONFIGURATION-LOST", lost),
            ("CONFIGURATION-ALTERED", altered),
            ("CONFIGURATION-UNEXPECTED", unexpected),
        )
        for finding in summed_up(code, "variables", [(0, name) for name in sorted(names)])
    ]


def check_sealed(pairs: Iterable[tuple[str, bool]]) -> tuple[list[Finding], dict[str, int]]:
    """Whether what the secrets sealed opens again.

    Args:
        pairs: what was tried, and whether it opened to what it must be.

    Returns:
        A finding where anything stays shut, and counts: ``tried``, ``opened``. With nothing tried nothing is shown:
        the caller makes that ``not tested``.
    """
    tried, opened = 0, 0
    shut: list[tuple[int, str]] = []
    for what, opens in pairs:
        tried += 1
        if opens:
            opened += 1
        elif len(shut) < 4:
            shut.append((0, what))
    return summed_up("SECRET-USELESS", "sealed values", shut, count=tried - opened), {"tried": tried, "opened": opened}

"""Which version of the application it is that answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx

from checks.differences import summed_up
from fixtures.providers.sandbox import Sandbox
from fixtures.upgrade_settings import UpgradeSettings
from reports.records import Finding

SECONDS: Final = 5.0


def versions_of(sandbox: Sandbox, upgrade: UpgradeSettings) -> dict[str, str]:
    """What each booted service says that it is; services that do not say are left out."""
    found = {}
    with httpx.Client(timeout=SECONDS, trust_env=False) as client:
        for service in sandbox.services:
            try:
                said = client.get(f"{service.url}{upgrade.version_path}").raise_for_status().json()
                found[service.name] = str(said[upgrade.version_field])[:100]
            except (httpx.HTTPError, ValueError, LookupError, TypeError):
                continue
    return found


def judge_versions(found: Mapping[str, str], wanted: str) -> list[Finding]:
    """Those that are of another version than the one wanted: one that begins otherwise."""
    other = [(0, f"{name} says {said!r}, not {wanted}") for name, said in found.items() if not _is_of(said, wanted)]
    return summed_up("UPGRADE-OTHER-VERSION", "version", other)


def _is_of(said: str, wanted: str) -> bool:
    """Whether a version is the one wanted, or one of it: 3.1.4 is of 3.1, and 3.10 is not."""
    return said.startswith(wanted) and not said[len(wanted) :][:1].isdigit()

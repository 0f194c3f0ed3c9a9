"""After how long a run's evidence is stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.population import STALE_DAYS


def stale_days(evidence: Mapping[str, Any]) -> int:
    """Days from a run to when its evidence is stale: as the profile says it, else 90."""
    return int(evidence.get("context", {}).get("stale_days", STALE_DAYS))

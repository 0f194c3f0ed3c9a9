"""Whether who leads a cluster is who is to lead it."""

from __future__ import annotations

from collections.abc import Sequence

from fixtures.cluster import Member
from reports.records import Finding


def led_wrongly(members: Sequence[Member], wanted: Sequence[str], where: str) -> list[Finding]:
    """Who leads although it should not, or does not although it should; ``wanted`` is one node's name, or nobody's."""
    leads = [each.node for each in members if each.role == "leader"]
    if leads == list(wanted):
        return []
    seen = f"{', '.join(leads) or 'nobody'} led where {', '.join(wanted) or 'nobody'} was to"
    return [Finding(code="WRONG-LEADER", seen=seen, where=where)]

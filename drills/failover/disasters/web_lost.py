"""One of the two Web processes is killed."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, ServiceFault

DISASTER: Final[ClusterDisaster] = ServiceFault(name="web_lost", service="web")

"""One of the two Job processes is killed."""

from __future__ import annotations

from typing import Final

from drills.failover.contract import ClusterDisaster, ServiceFault

DISASTER: Final[ClusterDisaster] = ServiceFault(name="job_lost", service="job")

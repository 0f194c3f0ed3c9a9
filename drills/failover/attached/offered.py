"""Which failover drills somebody else's cluster lets one do, and under which settings."""

from __future__ import annotations

import dataclasses
from typing import Final

from drills.failover.contract import NodeFault, ServiceFault, Variant
from drills.failover.scenario import Outage
from fixtures.cluster import USUAL_SETTINGS, ClusterAct, ClusterSettings, Part
from fixtures.providers.attached.cluster import offers
from fixtures.providers.attached.redundant import AttachedClusterDeployment

RENEWS: Final = (
    "services are renewed in it, and an attached deployment's are its operator's: drill it on the suite's own"
)
NO_AGENTS: Final = (
    "none of cluster.nodes has patroni, its REST address, by which the timing and the settings in force are read"
)


def reason_against(outage: Outage, theirs: AttachedClusterDeployment) -> str:
    """Why a drill cannot be done there; empty text where it can."""
    cluster, disaster = theirs.cluster, outage.disaster
    if not cluster.agents:
        return NO_AGENTS
    if Part.SERVICES in disaster.needs and not isinstance(disaster, ServiceFault):
        return RENEWS
    service = disaster.service if isinstance(disaster, ServiceFault) else ""
    for need in sorted(disaster.needs):
        if why := theirs.lacks(need, service) if isinstance(need, Part) else offers(cluster, need):
            return why
    if isinstance(disaster, NodeFault) and disaster.paper == "noticed" and cluster.starts_again_seconds:
        return (
            f"primary_start_timeout is {cluster.starts_again_seconds} s: its agent starts the killed server again, and"
            " nobody else is to lead"
        )
    wanted, now = wanted_settings(outage.variant, cluster.settings), cluster.settings
    differs = [key for key, value in wanted.as_record().items() if value != now.as_record()[key]]
    if differs and (why := cluster.lacks(ClusterAct.CONFIGURE)):
        key = differs[0]
        return f"{key} is {now.as_record()[key]} there, and this drill is of {wanted.as_record()[key]}; {why}"
    return ""


def wanted_settings(variant: Variant, now: ClusterSettings) -> ClusterSettings:
    """Under which settings a drill is done there: the usual ones leave the operator his own limit of the lag."""
    if variant.settings != USUAL_SETTINGS:
        return variant.settings
    return dataclasses.replace(USUAL_SETTINGS, maximum_lag_on_failover=now.maximum_lag_on_failover)


def fitted(outage: Outage, now: ClusterSettings) -> Outage:
    """The outage under the settings that it has there."""
    wanted = wanted_settings(outage.variant, now)
    if wanted == outage.variant.settings:
        return outage  # disasters tell their variants apart by which object they are
    return dataclasses.replace(outage, variant=dataclasses.replace(outage.variant, settings=wanted))

"""Every database server, and every service of which there are two, is restarted in order, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drills.failover.contract import (
    ClusterDisaster,
    PlannedWork,
    Struck,
    one_after_the_other,
    started,
)
from fixtures.cluster import ClusterAct, Part

PAIRED: Final = ("job", "web")
ALONE: Final = "there is one of each: to restart it is an outage of what it does, which uploads wait for in the queue"


def restart(struck: Struck) -> None:
    """Servers first, the leader's last, then the services."""
    deployment = struck.deployment
    struck.noted.update({node.name: started(node) for node in deployment.cluster.nodes})
    struck.noted.update(deployment.service_processes())
    one_after_the_other(struck, lambda node: deployment.cluster.restart(node.name))
    deployment.renew_services(PAIRED)
    struck.not_tested.append({"what": "restarts of LLM and OCR without an outage", "reason": ALONE})


def processes(struck: Struck) -> Mapping[str, str]:
    """Each server, and each process of the services."""
    deployment = struck.deployment
    now = {node.name: started(node) for node in deployment.cluster.nodes} | {
        name: process for name, process in deployment.service_processes().items() if name.startswith(PAIRED)
    }
    return {name: "it is still the same" if struck.noted[name] == seen else "" for name, seen in now.items()}


DISASTER: Final[ClusterDisaster] = PlannedWork(
    name="rolling_restart",
    needs=frozenset({ClusterAct.RESTART, ClusterAct.SWITCH_OVER, Part.SERVICES}),
    work=restart,
    proof=processes,
)

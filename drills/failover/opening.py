"""The first line of a failover drill in the journal: which cluster, under which settings, against which objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from drills import ledger
from drills.failover.site import FailoverSite
from drills.identity import identity_of
from fixtures.objectives import Objective

RECOVERED = "the first business transaction that went through whole after the last that failed"


def open_failover(site: FailoverSite, *, scale: Mapping[str, Any], objectives: Mapping[str, Objective]) -> None:
    """Write it."""
    deployment, profile, outage = site.deployment, site.profile, site.outage
    disaster, settings, cluster = outage.disaster, outage.variant.settings, deployment.cluster
    floor = disaster.floor(cluster.timing, settings)
    site.journal.write(
        "drill.opened",
        drill=site.id,
        level="failover",
        deployment=identity_of(deployment, profile),
        architecture=outage.architecture,
        provider=deployment.provider,
        stand_in=deployment.stand_in,
        disaster=disaster.name,
        methods={
            "database": f"{'' if settings.synchronous_mode else 'a'}synchronous replication",
            "objects": "copy on a second server",
            "configuration": "kept",
        },
        tools=deployment.versions(),
        scale=dict(scale) if profile.attached is None else {},
        objectives={name: dataclasses.asdict(objective) for name, objective in objectives.items()},
        recovery_basis=RECOVERED,
        ledger={
            "channels": list(ledger.CHANNELS),
            "interval_ns": site.interval_ns,
            "intervals_ns": ledger.intervals(site.interval_ns),
        },
        probe={"interval_ns": profile.probe_interval_ns},
        cluster={
            "timing": {**dataclasses.asdict(cluster.timing), "label": cluster.timing.label},
            "settings": settings.as_record(),
            "nodes": [{"name": node.name, "address": node.address} for node in cluster.nodes],
            "variant": outage.variant.name,
            "planned": disaster.planned,
            "expects": list(outage.variant.expects),
            "floor": dataclasses.asdict(floor) if floor else None,
        },
    )

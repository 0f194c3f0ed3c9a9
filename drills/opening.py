"""The first line of a drill in the journal: what is drilled, by which methods, against which objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from drills import ledger
from drills.identity import identity_of
from drills.redundancy import timing_of
from drills.site import Site
from fixtures.objectives import Objective


def open_drill(site: Site, *, scale: Mapping[str, Any], objectives: Mapping[str, Objective]) -> None:
    """Write it."""
    scenario, deployment, profile = site.scenario, site.deployment, site.profile
    site.journal.write(
        "drill.opened",
        drill=site.id,
        deployment=identity_of(deployment, profile),
        architecture=scenario.architecture,
        provider=deployment.provider,
        stand_in=deployment.stand_in,
        disaster=scenario.disaster.name,
        methods={
            "database": scenario.database.name,
            "objects": scenario.objects.name,
            "configuration": scenario.configuration.name,
        },
        plan=site.plan.as_record(),
        tools=deployment.versions(),
        scale=dict(scale) if profile.attached is None else {},
        objectives={name: dataclasses.asdict(objective) for name, objective in objectives.items()},
        ledger={
            "channels": list(ledger.CHANNELS),
            "interval_ns": profile.load_interval_ns,
            "intervals_ns": ledger.intervals(profile.load_interval_ns),
        },
        probe={"interval_ns": profile.probe_interval_ns},
        **timing_of(deployment),
        places={
            "backup set": str(site.sets / "backups"),
            "configuration backup": str(site.sets / "backups-apart"),
            "archive": str(site.archive),
            "data directory": str(deployment.database.data_directory),
            "scratch": str(deployment.processes.logs),
        },
    )

"""Where one failover drill takes place: everything that its steps share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from drills.failover.scenario import Outage
from drills.ledger import own_login
from drills.load import Load
from drills.record import Record
from drills.watch import Watch
from fixtures.cluster import RedundantDeployment
from fixtures.profile import Profile
from reports.records import Journal

# An outage lasts seconds: half as many writes as in a restore drill show it, and leave the machine to the cluster.
SLOWER: Final = 2


@dataclasses.dataclass(kw_only=True)
class Before:
    """What the drills before on the same cluster left behind.

    ``orphaned``: objects without a row. ``broken``: the last drill did not pass, and it may not be well.
    ``spoilt``: the last one was to do harm, and did.
    """

    number: int = 0
    orphaned: int = 0
    broken: bool = False
    spoilt: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class FailoverSite:
    """What the steps of one drill work on; ``tag`` stands in the names of all that it writes."""

    outage: Outage
    deployment: RedundantDeployment
    profile: Profile
    record: Record
    directory: Path
    load: Load
    watch: Watch
    tag: str
    before: Before

    @property
    def id(self) -> str:
        """The drill's name in the journal."""
        return self.outage.id

    @property
    def interval_ns(self) -> int:
        """From one write of a channel to the next, in nanoseconds."""
        return SLOWER * self.profile.load_interval_ns

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self.record.journal


def open_failover_site(
    *,
    outage: Outage,
    deployment: RedundantDeployment,
    profile: Profile,
    record: Record,
    directory: Path,
    before: Before,
) -> FailoverSite:
    """The site of the next failover drill on a cluster."""
    before.number += 1
    tag = f"{record.run_id}-f{before.number}"
    beside = record.drill_directory(outage.id)
    ledger, witness = beside / "ledger.jsonl", beside / "witness.jsonl"
    load = Load(
        deployment=deployment, journal=record.journal, drill=outage.id, path=ledger,
        relative=Path(record.relative(ledger)), tag=tag,
        # A role is not made on somebody else's server.
        login=own_login(deployment) if profile.own else None,
    )  # fmt: skip
    watch = Watch(
        processes=deployment.processes, journal=record.journal, drill=outage.id, path=witness,
        relative=Path(record.relative(witness)),
    )  # fmt: skip
    return FailoverSite(
        outage=outage, deployment=deployment, profile=profile, record=record, directory=directory, load=load,
        watch=watch, tag=tag, before=before,
    )  # fmt: skip

"""Where one drill takes place: everything that its steps share."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from drills.contract import Archives, Job, KeepsInStore, Target
from drills.keys import KeyPair
from drills.load import Load
from drills.plan import Plan, plan
from drills.record import Record
from drills.scenario import Scenario
from fixtures.backup_set import BackupSet
from fixtures.cluster import Replicates
from fixtures.deployment import Deployment
from fixtures.kept import kept_directory
from fixtures.profile import Profile
from reports.records import NANOSECONDS, Journal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """What the steps of one drill work on.

    ``number`` counts the drills of a run; ``tag`` stands in the names of all that this drill writes; ``directory`` is
    for scratch files, inside the run's work directory; ``sets`` for the backups, which may have to outlive the run;
    ``keys`` are what backups are encrypted to.
    """

    scenario: Scenario
    deployment: Deployment
    profile: Profile
    record: Record
    keys: KeyPair
    directory: Path
    sets: Path
    load: Load
    number: int
    tag: str

    @property
    def id(self) -> str:
        """The drill's name in the journal."""
        return self.scenario.id

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self.record.journal

    @property
    def archive(self) -> Path:
        """The write-ahead log's archive, which outlives the deployment."""
        return self.directory / "archive"

    @property
    def archives(self) -> Archives | None:
        """The database method, where it archives the log."""
        method = self.scenario.database
        return method if isinstance(method, Archives) else None

    @functools.cached_property
    def plan(self) -> Plan:
        """What has to be restored."""
        each = self.scenario
        return plan(each.database, each.objects, each.disaster, streams=self.streams)

    @property
    def streams(self) -> bool:
        """Whether the log's archive holds every commit that was acknowledged."""
        return self.archives is not None and self.archives.streams(self.stream_wal)

    @property
    def stream_wal(self) -> bool:
        """Whether the log is streamed into its archive, and each commit waits for that.

        Not from a cluster: whom its leader waits for is its agent's to say. There whole segments are archived.
        """
        return self.profile.stream_wal and not isinstance(self.deployment, Replicates)

    def backup_set(self, number: int) -> BackupSet:
        """The place of the drill's first, second … backup set."""
        name = f"{self.tag}-{number}"
        return BackupSet(directory=self.sets / "backups" / name, apart=self.sets / "backups-apart" / name)

    def target(self, name: str, *, time: str, lsn: str) -> Target:
        """An instant to restore to, named in the way that is this drill's turn, so that a run tries all three."""
        by = ("name", "time", "lsn")[self.number % 3]
        return Target(name=name, time=time, lsn=lsn, by=by)  # type: ignore[arg-type]  # mypy sees str, not the three

    def job(self, limit_ns: int, **more: Any) -> Job:
        """What a method may use, with so many nanoseconds for one command."""
        in_store = isinstance(self.scenario.objects, KeepsInStore)
        return Job(
            processes=self.deployment.processes,
            jobs=self.profile.jobs,
            seconds=limit_ns / NANOSECONDS,
            recipient=self.keys.recipient,
            passphrase=self.keys.passphrase,
            archive=self.archive,
            own=self.deployment.own,
            stream_wal=self.stream_wal,
            commands=self.profile.commands,
            store=self.deployment.backup_store() if in_store else None,
            **more,
        )

    def restore_job(self, until: Target | None = None) -> Job:
        """What a method may use to restore."""
        return self.job(self.profile.restore_limit_ns, identity=self.keys.identity, until=until)


def open_site(
    *,
    scenario: Scenario,
    deployment: Deployment,
    profile: Profile,
    record: Record,
    keys: KeyPair,
    directory: Path,
    number: int,
) -> Site:
    """The site of the run's drill of this number, counted from 0."""
    tag = f"{record.run_id}-{number}"
    path = record.drill_directory(scenario.id) / "ledger.jsonl"
    load = Load(
        deployment=deployment,
        journal=record.journal,
        drill=scenario.id,
        path=path,
        relative=Path(record.relative(path)),
        tag=tag,
    )
    return Site(
        scenario=scenario,
        deployment=deployment,
        profile=profile,
        record=record,
        keys=keys,
        directory=directory,
        sets=directory if profile.own else kept_directory(directory.parent.parent, record.run_id, scenario.id),
        load=load,
        number=number,
        tag=tag,
    )

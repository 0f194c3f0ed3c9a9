"""Where a shadow drill takes place, and what was taken from the deployment before it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from checks.database import Fingerprint
from checks.heartbeat import Beats
from checks.snapshot import SequencePosition
from drills.progress import Progress
from drills.record import Record
from fixtures.deployment import Observed
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import Processes
from fixtures.profile import Profile
from fixtures.providers.sandbox import Sandbox
from fixtures.shadow_settings import ShadowSettings
from reports.records import Journal


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShadowSite:
    """The deployment that is read, the sandbox that its backup is restored into, and what the steps share.

    ``settings`` say where the backups come from. The queries are those of the application's schema, empty where nobody
    knows them. ``role`` is whom the application connects as, empty where that is not known; ``api_key`` that of the
    reference application. ``key`` keys digests.
    """

    id: str
    deployment: Observed
    sandbox: Sandbox
    settings: ShadowSettings
    profile: Profile
    record: Record
    directory: Path
    tools: PostgresTools
    processes: Processes
    progress: Progress
    references_query: str = ""
    tenant_pattern: str = ""
    role: str = ""
    api_key: str = dataclasses.field(default="", repr=False)
    key: bytes = dataclasses.field(repr=False)

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self.record.journal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """What the deployment held when it was looked at: by its own clock, and ``at_ns`` of the run's.

    ``bytes`` and ``objects`` are what comes back, about; ``beats`` the heartbeat of its two stores, where there is one.
    """

    database_time: str
    at_ns: int
    database_bytes: int
    objects: int
    object_bytes: int
    inventory: Path
    beats: Beats | None
    object_beats: Beats | None
    can_write: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    """What a backup that was taken for this drill must give: the deployment at its snapshot."""

    fingerprint: Fingerprint
    sequences_until: dict[str, SequencePosition]

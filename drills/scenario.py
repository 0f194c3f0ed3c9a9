"""A scenario: which methods against which disaster on which architecture."""

from __future__ import annotations

import dataclasses

from drills.contract import ConfigurationMethod, DatabaseMethod, Disaster, ObjectMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One drill's plan. Its id reads ``single-node-pg_dump-rclone-total_loss``."""

    architecture: str
    database: DatabaseMethod
    objects: ObjectMethod
    configuration: ConfigurationMethod
    disaster: Disaster

    @property
    def id(self) -> str:
        """The name under which it is selected, journalled and reported."""
        return "-".join([self.architecture, self.database.name, self.objects.name, self.disaster.name])

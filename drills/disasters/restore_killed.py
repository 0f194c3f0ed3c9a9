"""Everything is gone, and the machine that restores it fails half-way: the restore is run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.deployment import Deployment


class RestoreKilled:
    """See ``drills.contract.Disaster``."""

    name = "restore_killed"
    database: Literal["", "gone", "wrong"] = "gone"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "gone"
    configuration = True
    health = True
    kills_restore = True

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL every process of the deployment, then remove all it kept."""
        deployment.strike_everything()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Every port and directory of the deployment."""
        return deployment.places()


DISASTER: Final[Disaster] = RestoreKilled()

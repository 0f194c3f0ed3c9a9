"""Everything is gone at once: processes, data directory, bucket, configuration, caches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.deployment import Deployment


class TotalLoss:
    """See ``drills.contract.Disaster``."""

    name = "total_loss"
    database: Literal["", "gone", "wrong"] = "gone"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "gone"
    configuration = True
    health = True

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL every process of the deployment, then remove all it kept."""
        deployment.strike_everything()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Every port and directory of the deployment."""
        return deployment.places()


DISASTER: Final[Disaster] = TotalLoss()

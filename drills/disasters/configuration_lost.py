"""Configuration and secrets are lost, and with them the services; both stores live on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.damage import silent_services, unreadable_configuration
from fixtures.deployment import Deployment


class ConfigurationLost:
    """See ``drills.contract.Disaster``."""

    name = "configuration_lost"
    database: Literal["", "gone", "wrong"] = ""
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = True
    health = True

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL the services, which hold it in memory, and remove the files."""
        deployment.discard_configuration()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The configuration, read, and each service's port."""
        return {"configuration": unreadable_configuration(deployment)} | silent_services(deployment)


DISASTER: Final[Disaster] = ConfigurationLost()

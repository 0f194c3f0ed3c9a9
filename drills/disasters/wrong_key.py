"""Configuration and secrets are lost, and the first key that is tried is not the one they were sealed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.damage import silent_services, unreadable_configuration
from fixtures.deployment import Deployment


class WrongKey:
    """See ``drills.contract.Disaster``."""

    name = "wrong_key"
    database: Literal["", "gone", "wrong"] = ""
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = True
    health = True
    tries_wrong_key = True

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL the services, which hold it in memory, and remove the files."""
        deployment.discard_configuration()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The configuration, read, and each service's port."""
        return {"configuration": unreadable_configuration(deployment)} | silent_services(deployment)


DISASTER: Final[Disaster] = WrongKey()

"""The password was rotated after the backup, because the old one had become known; then everything is gone at once.

The restore brings the old password back with the roles and the configuration, and whoever knows it gets in again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.deployment import Deployment
from fixtures.rotation import VARIABLE, Credential, credential_in, new_credential, put_in_force, set_password


class CredentialRotated:
    """See ``drills.contract.Disaster``."""

    name = "credential_rotated"
    database: Literal["", "gone", "wrong"] = "gone"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "gone"
    configuration = True
    health = True

    def rotate(self, deployment: Deployment) -> Sequence[Credential]:
        """Give the application's user a fresh password, put it in force, and have the services use it."""
        old = credential_in(deployment.configuration()[VARIABLE])
        new = new_credential(old.user, deployment.processes.redactor)
        with deployment.database.connect() as connection:
            set_password(connection, new)
        put_in_force(deployment, new)
        deployment.restart_services([service.name for service in deployment.services], {})
        return [old]

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL every process of the deployment, then remove all it kept."""
        deployment.strike_everything()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Every port and directory of the deployment."""
        return deployment.places()


DISASTER: Final[Disaster] = CredentialRotated()

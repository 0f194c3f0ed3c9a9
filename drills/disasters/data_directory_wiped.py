"""The database server is gone with its files; objects and configuration live on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.damage import nobody_at
from fixtures.deployment import Deployment


class DataDirectoryWiped:
    """See ``drills.contract.Disaster``."""

    name = "data_directory_wiped"
    database: Literal["", "gone", "wrong"] = "gone"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = ""
    configuration = False
    health = True
    needs_files = True

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL the server and remove its files."""
        deployment.discard_database()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The server's port and its directory."""
        database = deployment.database
        entries = sum(1 for _ in database.data_directory.rglob("*"))
        return {
            f"PostgreSQL, port {database.port}": nobody_at(database.host, database.port),
            "data directory": f"{entries:,} entries" if entries or database.data_directory.exists() else "",
        }


DISASTER: Final[Disaster] = DataDirectoryWiped()

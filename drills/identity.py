"""Which deployment a drill was of, for whoever reads its evidence."""

from __future__ import annotations

from checks.snapshot import telling
from fixtures.deployment import Observed
from fixtures.profile import Profile


def identity_of(deployment: Observed, profile: Profile) -> dict[str, str]:
    """Its name, and where its stores are; of a deployment that somebody else runs also which cluster it is.

    Raises:
        HarnessError: the cluster cannot be asked.
    """
    database, objects = deployment.database, deployment.objects
    told = {
        "name": deployment.name,
        "database": f"{database.host}:{database.port}/{database.name}",
        "bucket": f"{objects.bucket} at {objects.endpoint}",
    }
    if profile.own:
        return told
    with telling("asking which cluster it is"), database.connect() as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    return {**told, "system_identifier": str(row[0]) if row else ""}

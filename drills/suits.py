"""Which scenarios suit a deployment that a profile describes: its server's settings and files are not the suite's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from drills.contract import (
    Archives,
    DatabaseMethod,
    Disaster,
    KeepsInBucket,
    KeepsInStore,
    NeedsFiles,
    NeedsTenants,
    ObjectMethod,
    RotatesCredential,
)
from drills.scenario import Scenario
from fixtures.cluster_settings import HIGH_AVAILABILITY
from fixtures.profile import Profile

INSTEAD: Final = "drill it on the suite's own deployment"
OF_ONE_SERVER: Final = "strikes the files of one server, and a cluster's others have theirs: a failover drill does that"


def unsuited(profile: Profile, scenario: Scenario) -> str:
    """Why a scenario cannot be drilled on the profile's deployment; empty text where it can."""
    return next(iter(unsuited_parts(profile, [scenario]).values()), "")


def unsuited_parts(profile: Profile, scenarios: Iterable[Scenario]) -> dict[tuple[str, str], str]:
    """The methods and disasters of these scenarios that cannot be drilled there, by kind and name, with the reason."""
    if profile.provider == HIGH_AVAILABILITY:
        struck = {each.disaster.name for each in scenarios if isinstance(each.disaster, NeedsFiles)}
        return {("disaster", name): f"{name} {OF_ONE_SERVER}" for name in sorted(struck)}
    if profile.attached is None:
        return {}
    reasons = {}
    for each in scenarios:
        reasons["database", each.database.name] = _database(profile, each.database)
        reasons["objects", each.objects.name] = _objects(profile, each.objects)
        reasons["disaster", each.disaster.name] = _disaster(profile, each.disaster)
    return {part: reason for part, reason in reasons.items() if reason}


def _database(profile: Profile, method: DatabaseMethod) -> str:
    if method.into == "files":
        if profile.own:
            return f"{method.name} restores a server's files, and those of a compose project lie in a volume; {INSTEAD}"
        return f"{method.name} restores a server's files, and the attached server lives on; {INSTEAD}"
    if isinstance(method, Archives):
        whose = "the compose file's" if profile.own else "its operator's"
        return f"{method.name} wants settings of the server that are {whose}; {INSTEAD}"
    return ""


def _objects(profile: Profile, method: ObjectMethod) -> str:
    if isinstance(method, KeepsInStore) and not profile.own:
        return f"{method.name} copies into a second object store, which the profile does not describe; {INSTEAD}"
    if isinstance(method, KeepsInBucket):
        return f"{method.name} relies on the bucket's own versions, which nobody has asked about here; {INSTEAD}"
    return ""


def _disaster(profile: Profile, disaster: Disaster) -> str:
    assert profile.attached is not None
    if isinstance(disaster, NeedsFiles):
        if profile.own:
            return (
                f"{disaster.name} takes away files of a server that lie in a volume of the compose project; {INSTEAD}"
            )
        return f"{disaster.name} takes away files of a server that is not the suite's; {INSTEAD}"
    if isinstance(disaster, RotatesCredential):
        return f"{disaster.name} puts a new password in force in services that the suite does not configure; {INSTEAD}"
    if isinstance(disaster, NeedsTenants) and not profile.attached.queries.tenant_pattern:
        return f"{disaster.name} needs queries.tenant_pattern, which tells a tenant's keys"
    if disaster.configuration and not (disaster.database or disaster.objects) and not profile.attached.configuration:
        return f"{disaster.name} needs configuration.file, the services' environment file"
    return ""


def told_by_health(profile: Profile, disaster: Disaster) -> bool:
    """Whether the services' health endpoints must tell of a disaster.

    Of services that the suite does not know, those do that stop, or that need what is struck, as ``services.X.needs``
    says.
    """
    if not disaster.health or profile.attached is None:
        return disaster.health
    if disaster.configuration:
        return True
    needs = {need for service in profile.services.values() for need in service.needs}
    return ("database" in needs and bool(disaster.database)) or ("objects" in needs and bool(disaster.objects))

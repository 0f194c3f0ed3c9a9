"""Makes a shadow drill ready: the deployment that is read, and the sandbox beside it."""

from __future__ import annotations

import secrets
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from drills.identity import identity_of
from drills.progress import Progress
from drills.record import Record
from drills.shadow import DRILL
from drills.shadow_site import ShadowSite
from fixtures.deployment import Deployment, NotGiven, Observed
from fixtures.ground import Ground
from fixtures.profile import Profile
from fixtures.providers.postgresql import SUPERUSER
from fixtures.providers.sandbox import Sandbox
from fixtures.refapp.booted import REFERENCE
from fixtures.refapp.install import preload_model
from reports.records import NANOSECONDS, UsageProblem


def open_shadow(
    deployment: Observed,
    *,
    reference: Deployment | None,
    profile: Profile,
    record: Record,
    ground: Ground,
    directory: Path,
    progress: Progress,
) -> ShadowSite:
    """The site of a shadow drill.

    Args:
        deployment: what is shadowed.
        reference: the same, where it is the suite's own reference application, which no profile describes.
        directory: an empty one of the run's.

    Raises:
        UsageProblem: the deployment cannot be reached, or is another than the profile's.
    """
    deployment.versions()  # tells what keeps it from being reached
    _require_the_very(deployment, profile)
    processes = ground.workspace.processes
    attached = profile.attached
    sandbox = open_sandbox(deployment, directory / "sandbox", profile=profile, record=record, ground=ground)
    queries = reference if reference is not None else None
    return ShadowSite(
        id=DRILL,
        deployment=deployment,
        sandbox=sandbox,
        settings=profile.shadow,
        profile=profile,
        record=record,
        directory=directory,
        tools=ground.tools,
        processes=processes,
        progress=progress,
        references_query=queries.references_query if queries else attached.queries.references if attached else "",
        tenant_pattern=queries.tenant_pattern if queries else attached.queries.tenant_pattern if attached else "",
        role=_role(deployment),
        api_key=reference.client_access().api_key if reference is not None else "",
        key=secrets.token_bytes(32),
    )


def open_sandbox(deployment: Observed, directory: Path, *, profile: Profile, record: Record, ground: Ground) -> Sandbox:
    """A sandbox for a copy of a deployment, described and not yet provisioned."""
    sandbox = Sandbox(
        directory=directory,
        database=deployment.database.name,
        bucket=deployment.objects.bucket,
        superuser=_superuser(deployment),
        settings=profile.shadow.settings,
        booted=REFERENCE if profile.attached is None else profile.shadow.services,
        profiles=profile.services,
        tools=ground.tools,
        unprivileged=ground.unprivileged,
        processes=ground.workspace.processes,
        redactor=record.redactor,
        start_seconds=profile.start_limit_ns / NANOSECONDS,
    )
    if profile.attached is None:
        for service in sandbox.services:
            preload_model(sandbox.home(service.name))  # no service may reach a model hub
    return sandbox


def _require_the_very(deployment: Observed, profile: Profile) -> None:
    """See that the cluster is the one that the profile names, where it names one."""
    wanted = profile.attached.system_identifier if profile.attached else None
    found = identity_of(deployment, profile).get("system_identifier", "")
    if wanted and found and wanted != found:
        raise UsageProblem(
            f"profile {profile.path}, postgresql.system_identifier",
            seen=f"another cluster answers, {found}",
            remedy="see where postgresql.dsn leads, or correct the number",
        )


def _superuser(deployment: Observed) -> str:
    """Who made the cluster: the role with the first number."""
    with deployment.database.connect() as connection:
        row = connection.execute("SELECT rolname FROM pg_roles WHERE oid = 10").fetchone()
    return str(row[0]) if row else SUPERUSER


def _role(deployment: Observed) -> str:
    """Whom the application connects as; empty where nobody says."""
    try:
        return str(conninfo_to_dict(deployment.client_access().dsn).get("user", ""))
    except NotGiven:
        return ""

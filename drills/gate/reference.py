"""How the upgrade of the deployment in question is done: as its profile says, or as the reference application's."""

from __future__ import annotations

import dataclasses
import sys
from typing import Final

from drills.gate.ways_out import refuse_production
from fixtures.processes import CHECKOUT
from fixtures.profile import Profile
from fixtures.refapp.booted import UPGRADED
from fixtures.refapp.upgrade import LOSSY
from fixtures.upgrade_settings import ADMIN_DSN, UpgradeSettings
from reports.records import NANOSECONDS, UsageProblem

UPGRADE: Final = (sys.executable, "-m", "fixtures.refapp", "upgrade", "--to")
LOSES_A_ROW: Final = (*UPGRADE, LOSSY)
REFERENCE: Final = UpgradeSettings(
    old="3.0",
    new="3.1",
    commands=((*UPGRADE, "3.1"),),
    environment={"DATABASE_URL": f"{{{ADMIN_DSN}}}", "PYTHONPATH": str(CHECKOUT)},
    variables=(),
    limit_ns=60 * NANOSECONDS,
    renamed={"app.document_repositories.username": "login_name"},
    may_change=("app.schema_version",),
    version_path="/version",
    version_field="version",
    services=UPGRADED,
)


def upgrade_of(profile: Profile) -> UpgradeSettings | None:
    """The upgrade that is rehearsed; ``None`` where nobody says how one is done.

    Of a deployment of the suite's own a profile may name other commands: the rest is known.
    """
    if profile.attached is not None:
        return _seen(profile, profile.upgrade) if profile.upgrade else None
    return dataclasses.replace(REFERENCE, commands=profile.upgrade.commands) if profile.upgrade else REFERENCE


def _seen(profile: Profile, upgrade: UpgradeSettings) -> UpgradeSettings:
    """The same, where it can be seen that another version runs, and that what runs is in the sandbox's network.

    Raises:
        UsageProblem: nothing is booted, nothing tells the new version from the old one, or it is handed what leads to
            the deployment itself.
    """
    if not profile.shadow.services:
        seen = "[shadow.services] boots nothing: neither version would be started, nor kept from the network"
    elif not upgrade.services and not upgrade.version_path:
        seen = "nothing tells the new version from the old one: a command that does nothing would pass"
    else:
        refuse_production(profile, upgrade)
        return upgrade
    remedy = "say in [shadow.services] and [upgrade.services] how each is booted, or give upgrade.version_path"
    raise UsageProblem(f"profile {profile.path}, upgrade", seen=seen, remedy=remedy)

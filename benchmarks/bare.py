"""The other side of the comparison: a deployment made as the drill makes it, handed to ``bare_drill.sh``."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyrage

from benchmarks.sameness import compression_of, read_commands
from benchmarks.stages import MEASURED, Bare, Drilled
from fixtures.postgres_tools import PostgresTools, Unprivileged
from fixtures.processes import Processes
from fixtures.profile import Profile
from fixtures.providers.embedded.deployment import EmbeddedDeployment
from fixtures.providers.embedded.postgresql import OPEN, SETTINGS
from fixtures.refapp.scales import Sizes
from fixtures.tools import find_rclone
from reports.records import NANOSECONDS, HarnessError, Redactor

HERE: Final = Path(__file__).parent
SCRIPT: Final = HERE / "bare_drill.sh"
APART: Final = "apart: rclone check --download"
# The script reads the wall clock: where it and the monotonic clock disagree by more, somebody set it meanwhile.
CLOCKS_AGREE: Final = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground:
    """What a deployment is made of and with."""

    profile: Profile
    sizes: Sizes
    processes: Processes
    tools: PostgresTools
    unprivileged: Unprivileged
    redactor: Redactor


def run_bare(
    ground: Ground,
    *,
    directory: Path,
    like: Drilled,
    progress: Callable[[str, int, int], None],
) -> Bare:
    """Make and seed a deployment in a new directory, have the script lose and restore it, and remove all of it.

    Args:
        like: a drill at this scale; the dump is compressed as there, and as much time lies between the first copy of
            the objects and the rest of the backup, and between backup and loss.

    Raises:
        HarnessError: the deployment or the script broke, or the wall clock was set meanwhile.
    """
    deployment = EmbeddedDeployment(
        profile=ground.profile,
        sizes=ground.sizes,
        directory=directory / "deployment",
        tools=ground.tools,
        unprivileged=ground.unprivileged,
        processes=ground.processes,
        redactor=ground.redactor,
    )
    try:
        deployment.spin_up({})
        deployment.seed(progress)
        deployment.await_quiet(seconds=60)
        finished = ground.processes.run(
            ["/bin/sh", SCRIPT],
            timeout=(ground.profile.backup_limit_ns + ground.profile.restore_limit_ns) / NANOSECONDS,
            env=_environment(ground, deployment, directory, like),
        )
        seen = read_stages(finished.output.read_text(), elapsed_ns=finished.ended_ns - finished.started_ns)
        return dataclasses.replace(seen, commands=read_commands(_ran(directory).read_text("utf-8")))
    finally:
        deployment.strike_everything()
        shutil.rmtree(directory, ignore_errors=True)


def read_stages(output: str, *, elapsed_ns: int) -> Bare:
    """The script's stages.

    Args:
        output: what it printed.
        elapsed_ns: how long it ran by the monotonic clock, at least the sum of its stages.
    """
    seen = {name: int(took) for name, _, took in (line.partition("\t") for line in output.splitlines())}
    # Its "recovery" is taken from the strike, so it covers the stages before it: they become its parts.
    parts = ("strike", "restore configuration", "provision", "restore database", "restore objects")
    stages = {f" {name}" if name in (*parts, "start and first transaction") else name: seen[name] for name in seen}
    check_ns = stages.pop(APART)
    stages["measured path"] = sum(stages[name] for name in MEASURED)
    by_wall_clock = stages["measured path"] + check_ns
    if not 0 <= by_wall_clock <= elapsed_ns * (1 + CLOCKS_AGREE):
        raise HarnessError(
            "the script's times",
            seen=f"{by_wall_clock} ns by the wall clock of {elapsed_ns} ns by the monotonic one",
            remedy="somebody set the clock meanwhile: repeat",
        )
    return Bare(stages=stages, check_objects_ns=check_ns, commands=())


def _ran(directory: Path) -> Path:
    return directory / "ran"


def _environment(ground: Ground, deployment: EmbeddedDeployment, directory: Path, like: Drilled) -> dict[str, str]:
    """Everything that the script is told."""
    database, objects, logs = deployment.database, deployment.objects, ground.processes.logs
    alive = {running.name: running for running in ground.processes.services if running.alive()}
    ours = ("postgresql", "object-server", *(service.name for service in deployment.services))
    ready = {service.name: f"{service.url.removeprefix('http://')}{service.ready}" for service in deployment.services}
    identity = pyrage.x25519.Identity.generate()
    (directory / "backup").mkdir(mode=0o700)
    password_file = directory / "initdb-password"
    password_file.touch(mode=0o600)
    password_file.write_text(database.password)
    settings = directory / "postgresql.settings"
    settings.write_text(
        "".join(f"{key} = '{value}'\n" for key, value in (SETTINGS | {"port": str(database.port)}).items())
    )
    access = directory / "pg_hba.conf"
    access.write_text(OPEN)
    # What each service finds in its cache is no part of a backup: an operator puts it there again.
    shutil.copytree(deployment.directory / "home", directory / "models", symlinks=True)
    return {
        **database.environment(),
        **objects.rclone_environment("store"),
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": database.user,
        "DATABASE": database.name,
        "DATA": str(deployment.directory / "postgresql" / "data"),
        "SETTINGS": str(settings),
        "ACCESS": str(access),
        "PASSWORD_FILE": str(password_file),
        "BIN": str(database.tools.directory),
        "UNPRIVILEGED": " ".join(ground.unprivileged.prefix),
        "OWNER": "" if ground.unprivileged.owner is None else str(ground.unprivileged.owner),
        "COMPRESSION": compression_of(like.commands),
        "PAUSE_BETWEEN": f"{like.between_ns / NANOSECONDS:.3f}",
        "PAUSE": f"{like.pause_ns / NANOSECONDS:.3f}",
        "RAN": str(_ran(directory)),
        "JOBS": str(ground.profile.jobs),
        "RCLONE": str(find_rclone()),
        "OBJECTS": str(deployment.directory / "objects"),
        "OBJECTS_PORT": str(urllib.parse.urlsplit(objects.endpoint).port),
        "BUCKET": objects.bucket,
        "ENVIRONMENT_FILE": str(deployment.environment_file),
        "HOMES": str(deployment.directory / "home"),
        "MODELS": str(directory / "models"),
        "BACKUP": str(directory / "backup"),
        "LOGS": str(logs),
        "PYTHON": sys.executable,
        "SITE": str(Path(pyrage.__file__).parents[1]),
        "CLIENT": str(HERE / "bare_client.py"),
        "AGE_RECIPIENT": str(identity.to_public()),
        "AGE_IDENTITY": ground.redactor.learn(str(identity)),
        "API_KEY": deployment.client_access().api_key,
        "SERVICES": " ".join(ready.values()),
        "WEB": ready["web"],
        "PIDS": " ".join(str(alive[name].pid) for name in ours),
        "POSTMASTER": str(alive["postgresql"].pid),
    }

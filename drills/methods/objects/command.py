"""The operator's own commands for the objects, from the profile's ``backup.commands``; see ``docs/methods.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drills.contract import Job, Means
from fixtures.commands import missing, run_command
from fixtures.deployment import ObjectStore


class Command:
    """See ``drills.contract.ObjectMethod``."""

    name = "command"
    plain = False

    def unavailable(self, means: Means) -> str:
        """See ``drills.contract.NeedsMeans``."""
        return missing("objects", means.commands)

    def back_up(self, source: ObjectStore, target: Path, job: Job) -> None:
        """Run ``objects_backup``; the second time, the directory holds what the first left."""
        target.mkdir(parents=True, exist_ok=True)
        run_command(job, "objects", "backup", backup=target, environment=_access(source))

    def restore(self, backup: Path, target: ObjectStore, job: Job) -> None:
        """Run ``objects_restore``."""
        environment = _access(target) | ({"DRILL_UNTIL": job.until.time} if job.until else {})
        run_command(job, "objects", "restore", backup=backup, environment=environment)


def _access(store: ObjectStore) -> dict[str, str]:
    """Address and bucket, and the keys as every S3 client looks for them."""
    return {
        "DRILL_S3_ENDPOINT": store.endpoint,
        "DRILL_S3_BUCKET": store.bucket,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_REGION": "us-east-1",
    }


METHOD: Final = Command()

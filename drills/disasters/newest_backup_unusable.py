"""Everything is gone, and the newest backup turns out to be cut short: the one before it has to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.backup_set import BackupSet
from fixtures.deployment import Deployment
from reports.records import HarnessError


class NewestBackupUnusable:
    """See ``drills.contract.Disaster``."""

    name = "newest_backup_unusable"
    database: Literal["", "gone", "wrong"] = "gone"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "gone"
    configuration = True
    health = True

    def strike(self, deployment: Deployment) -> None:
        """SIGKILL every process of the deployment, then remove all it kept."""
        deployment.strike_everything()

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """Every port and directory of the deployment."""
        return deployment.places()

    def spoil(self, backup: BackupSet) -> None:
        """Cut the largest file of the database's backup to half, as a full disk or a broken transfer does.

        Raises:
            HarnessError: there is no file with anything in it.
        """
        place = backup.place("database")
        sizes = {path: path.stat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink()}
        largest = max(sizes, key=lambda path: (sizes[path], str(path)), default=None)
        if largest is None or not sizes[largest]:
            raise HarnessError(
                "the newest backup's database", seen="no file with anything in it", remedy="see the phase 'back up'"
            )
        _cut_to_half(largest)


def _cut_to_half(file: Path) -> None:
    # In a copy that takes its place: the file of an older set may be the same one, by a hard link.
    shorter = file.with_name(file.name + ".cut")
    shutil.copy2(file, shorter)
    os.truncate(shorter, file.stat().st_size // 2)
    shorter.replace(file)


DISASTER: Final[Disaster] = NewestBackupUnusable()

"""The bucket, copied now."""

from __future__ import annotations

from typing import Final

from drills.sources.contract import Fetched, Fetching
from fixtures import rclone
from fixtures.shadow_settings import Kept
from fixtures.tree import files_below
from reports.records import utc_stamp


class Take:
    """See ``drills.sources.contract.Source``."""

    name = "take"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """Copy every object into the target; the bucket is only read."""
        del kept
        at = utc_stamp()
        rclone.copy(
            rclone.bucket(fetching.deployment.objects),
            rclone.directory(fetching.target),
            choice="changed by time" if any(fetching.target.iterdir()) else "everything",
            processes=fetching.processes,
            jobs=fetching.jobs,
            seconds=fetching.seconds,
            # An object that goes while it is copied fails the first try; the second no longer finds it in the list.
            retries=3,
        )
        return Fetched(
            place=fetching.target, form="objects", label="copied now", instant=at,
            known_by="the clock at the copy's start", taken=True,
            bytes=sum(file.stat(follow_symlinks=False).st_size for file in files_below(fetching.target)),
        )  # fmt: skip


SOURCE: Final = Take()

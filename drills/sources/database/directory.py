"""Backups that lie in a directory of this machine: the newest of them."""

from __future__ import annotations

from typing import Final

from drills.sources.contract import Fetched, Fetching
from drills.sources.recognising import newest_dump
from fixtures.shadow_settings import Kept


class Directory:
    """See ``drills.sources.contract.Source``. It is read where it lies."""

    name = "directory"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """The newest dump, or the newest set of this suite's."""
        assert kept.path is not None
        return newest_dump(kept.path, fetching)


SOURCE: Final = Directory()

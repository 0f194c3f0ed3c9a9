"""A copy of the bucket that lies in a directory of this machine: a file for each object, named by its key."""

from __future__ import annotations

from typing import Final

from drills.sources.contract import Fetched, Fetching
from drills.sources.recognising import copy_of_objects
from fixtures.shadow_settings import Kept


class Directory:
    """See ``drills.sources.contract.Source``. It is read where it lies."""

    name = "directory"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """The directory itself, or the newest set of this suite's in it."""
        del fetching
        assert kept.path is not None
        return copy_of_objects(kept.path)


SOURCE: Final = Directory()

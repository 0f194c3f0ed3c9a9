"""The operator's own command, which fetches the newest backup; what it leaves is recognised as in a directory."""

from __future__ import annotations

import dataclasses
from typing import Final

from drills.sources.contract import Fetched, Fetching
from drills.sources.fetching import run_fetch
from drills.sources.recognising import copy_of_objects
from fixtures.shadow_settings import Kept


class Command:
    """See ``drills.sources.contract.Source``."""

    name = "command"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """Run it, and see what it brought."""
        began = run_fetch(kept, fetching, "objects")
        return dataclasses.replace(copy_of_objects(fetching.target, began=began), ours=True)


SOURCE: Final = Command()

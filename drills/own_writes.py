"""What the suite itself wrote into a deployment, so that it is not taken for the deployment's own."""

from __future__ import annotations

import dataclasses
from typing import Final

# An upload makes one object, and Job another.
PER_UPLOAD: Final = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnWrites:
    """Objects of the suite have keys that begin with ``prefix``, of which ``attempted`` names each.

    ``unanswered`` counts the uploads after the strike that ended without an answer: nobody knows what became of them.
    ``uploads`` counts all uploads that were attempted, by when they were (nanoseconds of the run's clock).
    """

    prefix: str
    attempted: frozenset[str] = frozenset()
    unanswered: int = 0
    uploads: tuple[int, ...] = ()

    def uploads_since(self, since: int) -> int:
        """How many uploads were attempted after an instant."""
        return sum(at > since for at in self.uploads)

"""The record of a run, as far as a drill uses it. The room reports makes it; no room imports another for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fixtures.ground import RunRecord
from reports.records import Finding


class Record(RunRecord, Protocol):
    """What the engine needs of a run's record."""

    def drill_directory(self, drill: str) -> Path:
        """A directory for the drill's ledger."""

    def relative(self, path: Path) -> str:
        """The path as the journal names it."""

    def findings_if_observed(self, drill: str, observed: Iterable[Mapping[str, Any]]) -> list[Finding]:
        """What the ledger's accounting finds had just these lines been observed."""

    def findings_if(self, drill: str, **given: Any) -> list[Finding]:
        """What a failover drill's account finds had just these ``observed`` or ``witness`` lines been written."""

    def assess(self, drill: str) -> dict[str, Any]:
        """Figures and verdict of a drill that has ended."""

    def assess_rehearsal(self) -> dict[str, Any]:
        """What became of the rehearsal of an upgrade that has ended."""

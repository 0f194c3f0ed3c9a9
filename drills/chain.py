"""A chain of steps: each a phase in the journal, and how the whole of it ended and what it comes to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from reports.records import Failure, HarnessError, Journal, Verdict


class Chain:
    """What a drill and a shadow restore have in common. ``id`` is its name in the journal."""

    def __init__(self, journal: Journal, drill: str) -> None:
        self.journal, self.id = journal, drill
        self.outcome, self.problem, self.passed = "error", "the drill did not come to its end", False
        self._closed = False

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[dict[str, Any]]:
        with self._step(name), self.journal.phase(name, drill=self.id) as seen:
            yield seen

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Note how the chain ended where one of its steps ends it."""
        try:
            yield
        except BaseException as problem:
            self.outcome = "failed" if isinstance(problem, Failure) else "error"
            self.problem = f"{name}: {str(problem) or 'interrupted'}"
            raise

    def _write_closed(self) -> None:
        self.journal.write("drill.closed", drill=self.id, outcome=self.outcome, error=self.problem[:2000])

    def _require_passed(self, assessment: Mapping[str, Any]) -> None:
        """End as what was assessed.

        Raises:
            Failure: an objective missed, a finding, or a control not caught.
            HarnessError: something could not be verified.
        """
        findings = [row for row in assessment["findings"] if row["severity"] == "failure"]
        told = "; ".join(f"{row['code']} {row['seen']}" for row in findings) or f"verdict {assessment['verdict']}"
        if assessment["verdict"] == Verdict.FAILED:
            raise Failure(told)
        if assessment["verdict"] != Verdict.PASSED:
            seen = "; ".join([told, *assessment["reasons"]])
            raise HarnessError(f"drill {self.id}", seen=seen, remedy="see the checks with the verdict error")
        self.passed = True

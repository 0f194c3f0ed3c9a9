"""One check of a drill: run, timed and journalled, also when it breaks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from reports.records import Failure, Finding, HarnessError, Journal


@dataclasses.dataclass(kw_only=True)
class Check:
    """What a check fills in while it runs."""

    looked_at: dict[str, int] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    not_tested: list[dict[str, str]] = dataclasses.field(default_factory=list)
    error: str = ""

    def require(self) -> None:
        """End the drill here unless the check held: what comes next rests on it.

        Raises:
            Failure: it found something.
            HarnessError: it broke.
        """
        if self.error:
            raise HarnessError("a check that the drill rests on", seen=self.error, remedy="see the message")
        if self.findings:
            raise Failure("; ".join(f"{finding.code} {finding.where}: {finding.seen}" for finding in self.findings[:5]))


@contextlib.contextmanager
def checked(journal: Journal, drill: str, name: str, *, expected: bool = False) -> Iterator[Check]:
    """Run one check. If it breaks, that is journalled as its error and the next check goes on.

    Args:
        expected: the disaster planted what this check must find; it then passes by finding something.
    """
    check, started = Check(error="interrupted"), journal.clock.now()
    try:
        yield check
        check.error = ""
    except Exception as problem:
        # Whatever breaks a checker means that nothing was verified: an error in the evidence, never a pass.
        check.error = f"{type(problem).__name__}: {problem}"
    finally:
        journal.write(
            "check",
            drill=drill,
            check=name,
            started_ns=started,
            ended_ns=journal.clock.now(),
            looked_at=check.looked_at,
            findings=[finding.as_record() for finding in check.findings],
            error=check.error[:2000],
            not_tested=check.not_tested,
            **({"expected": True} if expected else {}),
        )

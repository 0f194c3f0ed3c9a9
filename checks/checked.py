"""One check of a drill or of a deployment: run, timed and journalled, also when it breaks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from fixtures.deployment import NotGiven
from reports.records import Failure, Finding, HarnessError, Journal, Severity


@dataclasses.dataclass(kw_only=True)
class Check:
    """What a check fills in while it runs."""

    looked_at: dict[str, int] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    not_tested: list[dict[str, str]] = dataclasses.field(default_factory=list)
    error: str = ""

    def saw(self, codes: Sequence[str]) -> bool:
        """Whether any of these was found."""
        return any(finding.code in codes for finding in self.findings)

    def require_saw(self, codes: Sequence[str]) -> None:
        """End the test here unless one of these was found.

        Raises:
            Failure: something else was found, or nothing.
            HarnessError: it broke.
        """
        if self.error:
            raise HarnessError("a check that has to see a fault", seen=self.error, remedy="see the message")
        if not self.saw(codes):
            seen = ", ".join(sorted({finding.code for finding in self.findings})) or "nothing"
            raise Failure(f"expected {' or '.join(codes)}, saw {seen}")

    def require(self) -> None:
        """End the drill, or the test, here unless the check held: what comes next rests on it.

        Raises:
            Failure: it found something.
            HarnessError: it broke.
        """
        if self.error:
            raise HarnessError("a check that the drill rests on", seen=self.error, remedy="see the message")
        accused = [finding for finding in self.findings if finding.kind.severity is Severity.FAILURE]
        if accused:
            raise Failure("; ".join(f"{finding.code} {finding.where}: {finding.seen}" for finding in accused[:5]))


@contextlib.contextmanager
def checked(
    journal: Journal, drill: str, name: str, *, expected: bool = False, optional: bool = False, title: str = "",
    guide: str = "", supports: Sequence[str] = (),
) -> Iterator[Check]:  # fmt: skip
    """Run one check. If it breaks, that is journalled as its error and the next check goes on.

    Args:
        drill: empty for a check of the deployment itself.
        expected: the disaster planted what this check must find; it then passes by finding something.
        optional: where there was nothing for it to look at, only that and the reason are journalled.
        title: what must be so, in a sentence.
        guide: the line of the Operations Guide that it answers.
        supports: the controls of standards that its result supports.
    """
    check, started = Check(error="interrupted"), journal.clock.now()
    try:
        yield check
        check.error = ""
    except NotGiven as absent:
        check.error = ""
        check.not_tested.append({"what": absent.probed, "reason": f"{absent.seen}. {absent.remedy}"})
    except Exception as problem:
        # Whatever breaks a checker means that nothing was verified: an error in the evidence, never a pass.
        check.error = f"{type(problem).__name__}: {problem}"
    finally:
        _journal(journal, {"drill": drill} if drill else {}, check, optional, {
            "check": name,
            "started_ns": started,
            "ended_ns": journal.clock.now(),
            **({} if drill else {"title": title, "guide": guide, "supports": list(supports)}),
            **({"expected": True} if expected else {}),
        })  # fmt: skip


def _journal(journal: Journal, whose: dict[str, str], check: Check, optional: bool, said: dict[str, Any]) -> None:
    if optional and not (check.looked_at or check.findings or check.error):
        for remark in check.not_tested:
            journal.write("not_tested", **whose, **remark)
        return
    journal.write(
        "check",
        **whose,
        **said,
        looked_at=check.looked_at,
        findings=[finding.as_record() for finding in check.findings],
        error=check.error[:2000],
        not_tested=check.not_tested,
    )


@contextlib.contextmanager
def proven(journal: Journal, name: str, *, breaks: str, expects: Sequence[str]) -> Iterator[Check]:
    """A negative control of a deployment's check: while something is broken, it must find one of these codes."""
    check, started = Check(error="interrupted"), journal.clock.now()
    try:
        yield check
        check.error = ""
    except Exception as problem:
        check.error = f"{type(problem).__name__}: {problem}"
    finally:
        journal.write(
            "control",
            control=name,
            breaks=breaks,
            expects=list(expects),
            saw=sorted({finding.code for finding in check.findings}),
            caught=check.saw(expects),
            error=check.error[:2000],
            started_ns=started,
            ended_ns=journal.clock.now(),
        )

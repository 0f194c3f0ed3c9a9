"""Whether a standby holds what its leader holds, at one position of the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from checks.database import Fingerprint, compare
from checks.snapshot import SequencePosition
from reports.records import Finding, Severity

# SEQ_LOG_VALS of PostgreSQL's sequence.c, and the value itself.
LOGGED_AHEAD: Final = 33


def differences(leader: Fingerprint, standby: Fingerprint, name: str) -> list[Finding]:
    """In what they differ; ``name`` is the standby's."""
    observed = dataclasses.replace(standby, sequences=_within_logged(leader.sequences, standby.sequences))
    return [
        Finding(
            code="STANDBY-DIFFERS", seen=f"{each.code} {each.seen}", where=f"{name}, {each.where}", count=each.count
        )
        for each in compare(leader, observed)
        if each.kind.severity is Severity.FAILURE
    ]  # fmt: skip


def _within_logged(
    expected: Mapping[str, SequencePosition], observed: Mapping[str, SequencePosition]
) -> dict[str, SequencePosition]:
    """The positions, those taken for equal that differ by no more than the log runs ahead of what was handed out.

    A server logs a sequence once for so many values, and who replays that stands at their end (manual, "CREATE
    SEQUENCE", Notes); one that led before keeps its own position until the next value is logged. No value comes twice.
    """
    return {
        name: there
        if (there := expected.get(name)) is not None
        and there.increment == here.increment
        and abs(here.next - there.next) <= LOGGED_AHEAD * abs(here.increment)
        else here
        for name, here in observed.items()
    }

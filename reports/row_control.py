"""A drill that is itself a negative control of its row: a cluster set up so that the drills must find fault. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from reports.measures import Event
from reports.records import Finding, Severity, Verdict

# No setting of the database's replication loses an object.
UNREPLICATED: Final = ("ledger channel object",)
EXPECTED: Final = "expected of this negative control: "
_LOSS: Final = frozenset({"ACKNOWLEDGED-WRITES-LOST", "ZOMBIE-ACKNOWLEDGED", "WRITES-HOLE", "REFERENCE-DANGLING",
                          "OBJECTS-ORPHANED"})  # fmt: skip
# What comes of an expected finding is no fault of its own; it does not count as having caught anything.
_FOLLOWS: Final[Mapping[str, frozenset[str]]] = {
    "SPLIT-BRAIN": _LOSS,
    "ACKNOWLEDGED-WRITES-LOST": _LOSS,
}


def excused(expects: Iterable[str], seen: Iterable[str]) -> frozenset[str]:
    """The codes that are no failure of such a drill: those it expects, and what follows from those that were seen."""
    wanted = frozenset(expects)
    return wanted.union(*(_FOLLOWS.get(code, ()) for code in wanted & frozenset(seen)))


def excuse(findings: Iterable[Mapping[str, Any]], codes: frozenset[str]) -> list[dict[str, Any]]:
    """The findings, those of these codes as notices that say why."""
    return [
        {**each, "severity": Severity.NOTICE.value, "seen": f"{EXPECTED}{each['seen']}"}
        if each["code"] in codes and each.get("where") not in UNREPLICATED else dict(each)
        for each in findings
    ]  # fmt: skip


def excuse_checks(events: Sequence[Event], codes: frozenset[str]) -> list[Event]:
    """The events, the findings of the checks among them excused."""
    return [
        {**event, "findings": excuse(event["findings"], codes)} if event["kind"] == "check" else event
        for event in events
    ]


def judge(
    variant: str, disaster: str, expects: Sequence[str], seen: Iterable[str], lasted_ns: int
) -> tuple[dict[str, Any], list[Finding]]:
    """The drill as one row among its own negative controls, and what is found where nothing of it was caught."""
    saw = sorted(set(seen))
    caught = bool(set(expects) & set(saw))
    name = f"the cluster itself: {variant or 'as it was set up'}"
    row = {"control": name, "twin": False, "breaks": disaster, "caught": caught, "expects": list(expects), "saw": saw,
           "error": "", "duration_ns": max(lasted_ns, 0),
           "verdict": (Verdict.PASSED if caught else Verdict.FAILED).value}  # fmt: skip
    if caught:
        return row, []
    told = f"{name} ({disaster}): expected {' or '.join(expects)}, saw {', '.join(saw) or 'nothing'}"
    return row, [Finding(code="CONTROL-NOT-CAUGHT", seen=told, where=f"control {name}")]

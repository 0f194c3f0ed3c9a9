"""The differences between two fingerprints of a database, as findings: one for each code and kind, not for each row.

Pure: nothing here reads anything. Every finding says how many cases there are, the first and the worst of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from checks.catalogue import UNREADABLE, Catalogue
from checks.contents import LARGE_OBJECTS, TableDigest
from checks.snapshot import SequencePosition
from reports.records import Finding, HarnessError

_LOST: Final = {
    "table": "TABLE-LOST",
    "column": "COLUMN-LOST",
    "constraint": "CONSTRAINT-LOST",
    "index": "INDEX-LOST",
    "sequence": "SEQUENCE-LOST",
    "view": "VIEW-LOST",
    "materialised view": "VIEW-LOST",
    "function": "FUNCTION-LOST",
    "trigger": "TRIGGER-LOST",
    "policy": "POLICY-LOST",
    "row security": "POLICY-LOST",
    "role": "ROLE-LOST",
    "membership": "ROLE-LOST",
    "setting": "SETTING-LOST",
    "grant": "GRANT-LOST",
    # What had been taken away from PUBLIC or an owner is there again.
    "revocation": "GRANT-UNEXPECTED",
    "extension": "EXTENSION-LOST",
    "large object": "LARGE-OBJECTS-DIFFER",
    # The system, or the way the database was made, gives no version to record.
    "collation version": "COLLATION-CHANGED",
}
_UNEXPECTED: Final = {
    "grant": "GRANT-UNEXPECTED",
    "revocation": "GRANT-LOST",
    "membership": "GRANT-UNEXPECTED",
    "large object": "LARGE-OBJECTS-DIFFER",
}
_ALTERED: Final = {"large object": "LARGE-OBJECTS-DIFFER", "setting": "SETTING-LOST"}
_SHOWN: Final = 3
# SEQ_LOG_VALS of src/backend/commands/sequence.c: how many values one log record runs ahead.
_LOGGED_AHEAD: Final = 32


class Cases:
    """Counts cases and keeps the first few and the heaviest: a million of them must not fill the memory."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[tuple[int, str]] = []
        self._worst: tuple[int, str] = (-1, "")

    def add(self, weight: int, text: str) -> None:
        """One case more. The heaviest is shown even where it is not among the first."""
        self.count += 1
        if len(self._kept) < _SHOWN:
            self._kept.append((weight, text))
        elif weight > self._worst[0]:
            self._worst = (weight, text)

    def findings(self, code: str, kind: str) -> list[Finding]:
        """No finding, or one with all of them."""
        if not self.count:
            return []
        said = "; ".join(text for _, text in self._kept)
        if self.count > _SHOWN:
            said += f"; … {self.count - _SHOWN} more"
            if self._worst[0] > max(weight for weight, _ in self._kept):
                said += f", the worst: {self._worst[1]}"
        return [Finding(code=code, seen=f"{kind}: {said}", where=kind, count=self.count)]


def summed_up(code: str, kind: str, cases: Iterable[tuple[int, str]], *, count: int | None = None) -> list[Finding]:
    """One finding for cases of (weight, text); ``count`` where a case stands for several."""
    gathered = Cases()
    for weight, text in cases:
        gathered.add(weight, text)
    return [dataclasses.replace(finding, count=count or finding.count) for finding in gathered.findings(code, kind)]


def of_catalogues(expected: Catalogue, observed: Catalogue, *, majors: tuple[int, int]) -> list[Finding]:
    """Lost, altered and unexpected catalogue objects, kind by kind."""
    findings: list[Finding] = []
    for kind in sorted(expected.keys() | observed.keys()):
        before, after = expected.get(kind, {}), observed.get(kind, {})
        lost = [name for name in before if name not in after]
        unexpected = [
            name for name in after if name not in before and not _new_in_major(kind, name, after[name], majors)
        ]
        findings += summed_up(_LOST.get(kind, "SCHEMA-LOST"), kind, [(0, name) for name in lost])
        if kind == "collation version":
            # One that was not recorded before may be wrong too: it is judged like one that changed.
            before, unexpected = before | dict.fromkeys(unexpected, "{}"), []
        findings += summed_up(_UNEXPECTED.get(kind, "SCHEMA-UNEXPECTED"), kind, [(0, name) for name in unexpected])
        altered: dict[str, list[tuple[int, str]]] = {}
        for name in before:
            if name in after and before[name] != after[name]:
                code, said = _altered(kind, json.loads(before[name]), json.loads(after[name]))
                if code:
                    altered.setdefault(code, []).append((0, f"{name}: {said}"))
        for code, cases in altered.items():
            findings += summed_up(code, kind, cases)
    return findings


def _altered(kind: str, before: dict[str, Any], after: dict[str, Any]) -> tuple[str, str]:
    """The code for what changed (empty where nothing did that counts) and what it was and is."""
    if kind == "collation version":
        said = f"recorded {after.get('recorded')}, the system's is {after.get('actual')}; was {before.get('recorded')}"
        mismatch = after.get("recorded") != after.get("actual")
        return ("COLLATION-MISMATCH" if mismatch else "COLLATION-CHANGED"), said
    changed = [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and not (name == "password" and UNREADABLE in (before.get(name), after.get(name)))
    ]
    if not changed:
        return "", ""
    if kind == "materialised view" and changed == ["populated"] and after["populated"] is False:
        return "MATVIEW-UNPOPULATED", "without content"
    said = ", ".join(
        "another password"
        if name == "password"
        else f"{name} was {_short(before.get(name))}, is {_short(after.get(name))}"
        for name in changed
    )
    return _ALTERED.get(kind, "SCHEMA-ALTERED"), said


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _new_in_major(kind: str, name: str, definition: str, majors: tuple[int, int]) -> bool:
    """Whether an upgrade alone brings this: MAINTAIN came with 17, constraints for NOT NULL with 18."""
    before, after = majors
    if kind == "grant":
        return before < 17 <= after and ": MAINTAIN" in name
    return kind == "constraint" and before < 18 <= after and json.loads(definition).get("contype") == "n"


def of_tables(
    expected: Mapping[str, TableDigest], observed: Mapping[str, TableDigest], *, known: Collection[str]
) -> list[Finding]:
    """Rows lost, too many or altered. A table that is not there at all is left to ``of_catalogues``.

    Raises:
        HarnessError: a table is there and was digested on one side only.
    """
    lost: list[tuple[int, str]] = []
    unexpected: list[tuple[int, str]] = []
    altered: list[tuple[int, str]] = []
    large: list[tuple[int, str]] = []
    for table, before in expected.items():
        after = observed.get(table)
        if after is None:
            if table in known or table == LARGE_OBJECTS:
                raise HarnessError(
                    "comparing contents", seen=f"{table} was digested on one side only", remedy="digest the same tables"
                )
            continue
        if before == after:
            continue
        missing = before.rows - after.rows
        said = f"{table} has {after.rows} of {before.rows} rows"
        if table == LARGE_OBJECTS:
            large.append((0, f"{after.rows} of {before.rows}, {after.bytes} of {before.bytes} bytes, another digest"))
        elif missing > 0:
            lost.append((missing, said))
        elif missing < 0:
            unexpected.append((-missing, said))
        else:
            altered.append((before.rows, f"{table} has its {before.rows} rows, with another digest"))
    return [
        *summed_up("ROWS-LOST", "rows", lost, count=sum(weight for weight, _ in lost)),
        *summed_up("ROWS-UNEXPECTED", "rows", unexpected, count=sum(weight for weight, _ in unexpected)),
        *summed_up("ROWS-ALTERED", "rows", altered),
        *summed_up("LARGE-OBJECTS-DIFFER", "large objects", large),
    ]


def of_sequences(
    expected: Mapping[str, SequencePosition],
    observed: Mapping[str, SequencePosition],
    *,
    until: Mapping[str, SequencePosition] | None,
) -> list[Finding]:
    """Sequences set back, or further ahead than the dump can have seen. One that wraps around has no order."""
    back: list[tuple[int, str]] = []
    ahead: list[tuple[int, str]] = []
    for name, start in expected.items():
        now = observed.get(name)
        if now is None or start.cycle or now.increment * start.increment < 0:
            continue
        direction = 1 if start.increment > 0 else -1
        behind = (start.next - now.next) * direction
        if behind > 0:
            back.append((behind, f"{name} gives {now.next} next, and would have given {start.next}"))
            continue
        end = until.get(name) if until is not None else None
        if end is not None:
            beyond = (now.next - end.next) * direction - _LOGGED_AHEAD * abs(end.increment)
            if beyond > 0:
                ahead.append((beyond, f"{name} gives {now.next} next, and would have given {end.next}"))
    return [*summed_up("SEQUENCE-SET-BACK", "sequence", back), *summed_up("SEQUENCE-AHEAD", "sequence", ahead)]

"""Which results of a run support which controls of which standards, by the table ``controls.toml``. Pure.

A result supports a control or is listed beside it; no result, and no number of them, makes a control met.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from reports import wording
from reports.records import Verdict

TABLE: Final = Path(__file__).with_name("controls.toml")
_NARROWED: Final = ("disasters", "checks", "targets")
_OBJECTIVES: Final = {"rto": "recovery time", "rpo": "recovery point"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of result: ``level`` for a kind of drill, ``suites`` of conformance checks for any other."""

    name: str
    title: str
    level: str = ""
    suites: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """Which results of a kind count: of these disasters, with these checks, held to targets of these objectives."""

    kind: str
    disasters: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
    """One control of a standard. ``name`` is what checks call it, ``about`` our paraphrase of it, in one line.

    ``limit`` is what no result of this suite shows of it; any of ``conditions`` lets a result count.
    """

    name: str
    standard: str
    version: str
    id: str
    about: str
    limit: str
    conditions: tuple[Condition, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of results that can support it."""
        return tuple(dict.fromkeys(condition.kind for condition in self.conditions))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One result of a run that bears on a control. ``supports`` only where it ran and passed, else ``why`` not."""

    run_id: str
    kind: str
    name: str  # the drill's or the check's; foreign text
    verdict: Verdict
    utc: str  # when the run was opened, RFC 3339
    stand_in: bool
    supports: bool
    why: str = ""


class Status(enum.StrEnum):
    """What a control's results come to."""

    SUPPORTED = "supported"
    STAND_IN = "supported on a stand-in only"
    NOT_SUPPORTED = "results, none of which supports it"
    NO_RESULT = "no result"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Support:
    """A control with all the results that bear on it, those that do not support it among them."""

    control: Control
    results: tuple[Result, ...] = ()

    @property
    def supporting(self) -> tuple[Result, ...]:
        """The results that support it."""
        return tuple(result for result in self.results if result.supports)

    @property
    def others(self) -> tuple[Result, ...]:
        """Those that do not: failed, not tested, broken, aborted, or not what the control asks for."""
        return tuple(result for result in self.results if not result.supports)

    @property
    def status(self) -> Status:
        """What they come to; a result on a stand-in says nothing of the product."""
        if self.supporting:
            return Status.STAND_IN if all(result.stand_in for result in self.supporting) else Status.SUPPORTED
        return Status.NOT_SUPPORTED if self.results else Status.NO_RESULT


def every_control() -> tuple[Control, ...]:
    """The table's controls, in its order."""
    return _tables()[1]


def every_kind() -> Mapping[str, Kind]:
    """The table's kinds of results, by name."""
    return _tables()[0]


def supported_by(evidence: Mapping[str, Any]) -> list[Support]:
    """Every control of the table with the results of one run that bear on it, none where there are none.

    Args:
        evidence: an ``evidence.json``, of any verdict.
    """
    return [Support(control=control, results=tuple(_bearing(control, evidence))) for control in every_control()]


def _bearing(control: Control, evidence: Mapping[str, Any]) -> Iterator[Result]:
    for drill in evidence["drills"]:
        for condition in control.conditions:
            if every_kind()[condition.kind].level == drill.get("level", "destroy") and _is_of(condition, drill):
                why = _why_not(condition, drill) or _aborted(evidence)
                yield _result(evidence, condition.kind, drill["drill"], drill, drill["stand_in"], why)
                break
    conformance = evidence["conformance"]
    for check in conformance["checks"] if conformance else ():
        kind = _kind_of(control, check)
        if kind:
            why = _check_why_not(check, conformance) or _aborted(evidence)
            yield _result(evidence, kind, check["check"], check, conformance["stand_in"], why)


def _result(
    evidence: Mapping[str, Any], kind: str, name: str, row: Mapping[str, Any], stand_in: bool, why: str
) -> Result:
    return Result(run_id=evidence["run_id"], kind=kind, name=name, verdict=Verdict(row["verdict"]),
                  utc=evidence["opened_utc"], stand_in=stand_in, supports=not why, why=why)  # fmt: skip


def _is_of(condition: Condition, drill: Mapping[str, Any]) -> bool:
    """Whether a drill bears on it at all; a negative control of a cluster is made to fail and proves only the drill."""
    if drill.get("failover", {}).get("expects"):
        return False
    return not condition.disasters or drill["disaster"] in condition.disasters


def _why_not(condition: Condition, drill: Mapping[str, Any]) -> str:
    """Why a drill does not support what it bears on; empty where it does."""
    if drill["verdict"] != Verdict.PASSED:
        return f"the drill's verdict is {drill['verdict']}"
    for name in condition.checks:
        if not any(check["check"] == name and check["verdict"] == Verdict.PASSED for check in drill["checks"]):
            return f"its check “{name}” did not pass, or was not made"
    for row in drill["objectives"]:
        if row["objective"] in condition.targets and row["verdict"] != Verdict.PASSED:
            said = "no target was set" if row["target_ns"] is None else f"held to its target it reads {row['verdict']}"
            return f"{_OBJECTIVES[row['objective']]}: {said}"
    return "its timing is not stock" if "rto" in condition.targets and wording.stock(drill) else ""


def _kind_of(control: Control, check: Mapping[str, Any]) -> str:
    """As what a conformance check bears on a control: it says so itself, or the table names the check; else empty."""
    suite = check["check"].partition("-")[0]
    for condition in control.conditions:
        named = check["check"] in condition.checks if condition.checks else control.name in check["supports"]
        if suite in every_kind()[condition.kind].suites and named:
            return condition.kind
    return ""


def _check_why_not(check: Mapping[str, Any], conformance: Mapping[str, Any]) -> str:
    """A check whose suite let a planted fault pass, or was not put to that proof, proves nothing by passing."""
    if check["verdict"] != Verdict.PASSED:
        return f"the check's verdict is {check['verdict']}"
    suite = check["check"].partition("-")[0]
    rows = [row for row in conformance["controls"]["rows"] if row["control"].partition("-")[0] == suite]
    if any(row["verdict"] != Verdict.PASSED for row in rows):
        return "a fault planted to prove the checks of its kind was not caught"
    return "" if any(row["expects"] for row in rows) else "no fault was planted to prove the checks of its kind"


def _aborted(evidence: Mapping[str, Any]) -> str:
    return "the run was aborted" if evidence["aborted"] else ""


@functools.cache
def _tables() -> tuple[Mapping[str, Kind], tuple[Control, ...]]:
    tables = tomllib.loads(TABLE.read_text("utf-8"))
    kinds = {
        name: Kind(name=name, title=row["title"], level=row.get("level", ""), suites=tuple(row.get("suites", ())))
        for name, row in tables["kind"].items()
    }
    controls = []
    for row in tables["control"]:
        standard = tables["standard"][row["standard"]]
        conditions = tuple(
            Condition(kind=each["kind"], **{key: tuple(each[key]) for key in _NARROWED if key in each})
            for each in row["results"]
        )
        controls.append(
            Control(name=f"{standard['name']} {row['id']}", standard=standard["title"], version=standard["version"],
                    id=row["id"], about=row["about"], limit=row["limit"], conditions=conditions)
        )  # fmt: skip
    return kinds, tuple(controls)

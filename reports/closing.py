"""The closing table of the terminal: one row per drill, then findings and what was not tested. At most 100 columns.

A run of more than three drills has a narrower row for each, and what several of them left out is told once.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reports import gate, wording
from reports.row_control import EXPECTED

WIDTH: Final = 100
_COLUMNS: Final = {"scenario": 20, "recovery time": 18, "recovery point": 16, "data verified": 18, "controls": 8,
                   "verdict": 10}  # fmt: skip
_MANY_COLUMNS: Final = {"scenario": 36, "recovery time": 15, "recovery point": 15, "checks": 6, "controls": 8,
                        "verdict": 10}  # fmt: skip
_MANY: Final = 3
_MOST_LINES: Final = 20
_MOST_LINES_OF_MANY: Final = 5
_STYLES: Final[Mapping[str, dict[str, bool]]] = {
    "error": {"red": True, "bold": True},
    "failed": {"red": True},
    "not tested": {"yellow": True},
    "passed": {"green": True},
}
_ORDER: Final = ("error", "failed", "not tested", "passed")
Line = tuple[str, dict[str, bool]]


def lines(evidence: Mapping[str, Any]) -> Iterator[Line]:
    """The closing lines of a run, each with the markup to write it with."""
    drills = evidence["drills"]
    many = len(drills) > _MANY
    columns, cells = (_MANY_COLUMNS, _short_cells) if many else (_COLUMNS, _cells)
    if drills:
        yield from _row(list(columns), columns, {"bold": True})
        yield "  ".join("-" * width for width in columns.values()), {}
    for drill in drills:
        yield from _row(cells(drill), columns, _STYLES.get(drill["verdict"], {}))
    if len(drills) > 1:
        yield from _sum(evidence)
    if labels := wording.not_stock(drills):
        yield "", {}
        yield from _wrapped("NOT STOCK: ", f"{len(labels)} of {len(drills)} drills ran with a timing that is not to be"
                            f" quoted: {labels[0]}", _STYLES["not tested"])  # fmt: skip
    for drill in drills:
        yield from _told(drill, _MOST_LINES_OF_MANY if many else _MOST_LINES, named=len(drills) > 1)
    if evidence["conformance"]:
        yield from _conformance(evidence["conformance"])
    yield from _not_tested(evidence)
    for reason in evidence["reasons"]:
        yield from _wrapped("run: ", reason, _STYLES.get(evidence["verdict"], {}))
    yield "", {}
    named = dict.fromkeys(
        drill["deployment"]["name"] for drill in drills if drill.get("deployment") and not drill["stand_in"]
    )
    if named:
        yield from _wrapped(f"{'of:':<10}", ", ".join(named), {})
    if any(part["stand_in"] for part in [*drills, *([evidence["conformance"]] if evidence["conformance"] else [])]):
        yield f"{'of:':<10}the reference application, a stand-in; not the Enprivacy product", {}
    yield f"{'verdict:':<10}{evidence['verdict']}", _STYLES.get(evidence["verdict"], {})
    if unset := no_target(evidence):
        yield f"{'targets:':<10}{unset}", _STYLES["not tested"]
    if "gate" in evidence:
        yield "", {}
        for text, style in gate.lines(evidence["gate"]):
            yield from _wrapped("", text, dict(style))


def no_target(evidence: Mapping[str, Any]) -> str:
    """That nobody set how long a recovery may take or what may be lost, for some drills or all; empty where all are."""
    rows = [row for drill in evidence["drills"] for row in drill["objectives"]]
    unset = sum(row["target_ns"] is None for row in rows)
    if unset == len(rows):
        return "no recovery target was set" if rows else ""
    return f"no recovery target was set for {unset} of {len(rows)} objectives" if unset else ""


def _cells(drill: Mapping[str, Any]) -> list[str]:
    rto, rpo = drill["objectives"]
    took, passed = drill["recovery_time"], sum(check["verdict"] == "passed" for check in drill["checks"])
    spread = "" if took["uncertainty_ns"] is None else f"{_sharp(took)}\n"
    least = "at least " if rpo["lower_bound"] else ""
    resolution_ns = drill["recovery_point"]["resolution_ns"]
    sharp = f"+/-{wording.duration(resolution_ns)}\n" if rpo["achieved_ns"] is not None and resolution_ns else ""
    looked: dict[str, int] = {}
    for check in drill["checks"]:
        for what, count in check["looked_at"].items():
            if what in ("rows", "objects"):
                looked[what] = max(looked.get(what, 0), count)
    return [
        _scenario(drill),
        f"{wording.duration(rto['achieved_ns'])}\n{spread}{_against(rto)}{_stock(drill)}",
        f"{least}{wording.duration(rpo['achieved_ns'])}\n{sharp}{_against(rpo)}\n{wording.lost(drill)}",
        "\n".join(
            [f"{passed}/{len(drill['checks'])} checks", *(f"{count:,} {what}" for what, count in looked.items())]
        ),
        drill["controls"]["score"],
        drill["verdict"],
    ]


def _short_cells(drill: Mapping[str, Any]) -> list[str]:
    rto, rpo = drill["objectives"]
    passed = sum(check["verdict"] == "passed" for check in drill["checks"])
    achieved = [f"{wording.duration(row['achieved_ns'])}" for row in (rto, rpo)]
    against = [f"\n{_against(row)}" if row["target_ns"] is not None else "" for row in (rto, rpo)]
    return [
        _scenario(drill),
        achieved[0] + against[0] + _stock(drill),
        ("at least " if rpo["lower_bound"] else "") + achieved[1] + against[1] + f"\n{wording.lost(drill)}",
        f"{passed}/{len(drill['checks'])}",
        drill["controls"]["score"],
        drill["verdict"],
    ]


def _scenario(drill: Mapping[str, Any]) -> str:
    control = drill.get("failover") and drill["failover"]["expects"]
    return f"{drill['drill']}\n(negative control)" if control else str(drill["drill"])


def _stock(drill: Mapping[str, Any]) -> str:
    return "\nNOT STOCK" if wording.stock(drill) else ""


def _sharp(took: Mapping[str, Any]) -> str:
    """How sharp a recovery time is: the most it can be where a probe failed; at least 0 where none did."""
    width = wording.duration(took["uncertainty_ns"])
    return f"+{width}/-0" if took["achieved_ns"] < took["upper_ns"] else f"+0/-{width}"


def _sum(evidence: Mapping[str, Any]) -> Iterator[Line]:
    """What all drills come to, below the table."""
    total = evidence["summary"]
    took, back = total["recovery_time"], total["recovery_point"]
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in total["verdicts"].items())
    least = "at least " if back["lower_bound"] else ""
    yield "", {}
    yield from _wrapped("recovery time:  ", f"median {wording.duration(took['median_ns'])},"
                        f" worst {wording.duration(took['worst_ns'])}{_in(took)}{_among(evidence)}", {})  # fmt: skip
    yield from _wrapped("recovery point: ", f"worst {least}{wording.duration(back['worst_ns'])}{_in(back)};"
                        " per disaster in the report", {})  # fmt: skip
    yield from _wrapped(f"{total['drills']} drills: ", f"{verdicts}; controls {evidence['controls']['score']} caught",
                        _STYLES.get(evidence["verdict"], {}))  # fmt: skip


def _among(evidence: Mapping[str, Any]) -> str:
    return "; NOT STOCK timing among them" if wording.not_stock(evidence["drills"]) else ""


def _in(worst: Mapping[str, Any]) -> str:
    return f" ({worst['worst_drill']})" if worst["worst_drill"] else ""


def _against(objective: Mapping[str, Any]) -> str:
    if objective["target_ns"] is None:
        return "no target"
    word = {"passed": "within", "failed": "over"}.get(objective["verdict"], "of")
    return f"{word} {wording.target(objective)}"


def _row(cells: Sequence[str], columns: Mapping[str, int], style: dict[str, bool]) -> Iterator[Line]:
    wrapped = [
        [line for part in cell.splitlines() for line in textwrap.wrap(_plain(part), width)] or [""]
        for cell, width in zip(cells, columns.values(), strict=True)
    ]
    for at in range(max(map(len, wrapped))):
        parts = [(cell[at] if at < len(cell) else "").ljust(width)
                 for cell, width in zip(wrapped, columns.values(), strict=True)]  # fmt: skip
        yield "  ".join(parts).rstrip(), style


def _told(drill: Mapping[str, Any], most: int, *, named: bool) -> Iterator[Line]:
    """Why a drill does not pass, and what was found in it."""
    findings = sorted(drill["findings"], key=lambda each: each["severity"] != "failure")
    expected = [each for each in findings if each["seen"].startswith(EXPECTED)]
    findings = [each for each in findings if each not in expected]
    if expected:
        codes = ", ".join(dict.fromkeys(each["code"] for each in expected))
        yield "", {}
        yield from _wrapped(f"{drill['drill']}: ", f"a negative control, expected to be found and found: {codes}", {})
    if findings or drill["reasons"]:
        yield "", {}
        if named and findings:
            yield from _wrapped("", f"{drill['drill']}:", {"bold": True})
    for reason in drill["reasons"]:
        yield from _wrapped(f"{drill['drill']}: ", reason, _STYLES.get(drill["verdict"], {}))
    yield from _findings(findings, most)


def _findings(findings: Sequence[Mapping[str, Any]], most: int) -> Iterator[Line]:
    for finding in findings[:most]:
        style = {"red": True} if finding["severity"] == "failure" else {"yellow": True}
        yield from _wrapped(f"{finding['code']}  ", f"{finding['title']}. {finding['seen']}", style)
        yield from _wrapped("    remedy: ", finding["remedy"], {})
    if len(findings) > most:
        yield f"... and {len(findings) - most} more findings, in the report", {}


def _conformance(conformance: Mapping[str, Any]) -> Iterator[Line]:
    """What was checked of the deployment itself: a line for each suite, then what was found."""
    suites: dict[str, list[str]] = {}
    for row in conformance["checks"]:
        suites.setdefault(row["check"].partition("-")[0].replace("_", " "), []).append(row["verdict"])
    yield "", {}
    for suite, verdicts in suites.items():
        counts = ", ".join(f"{verdicts.count(each)} {each}" for each in _ORDER if each in verdicts)
        worst = next(each for each in _ORDER if each in verdicts)
        yield f"{suite + ':':<22}{counts}", _STYLES.get(worst, {})
    controls = conformance["controls"]
    style = _STYLES["passed" if controls["caught"] == controls["planted"] else "failed"]
    yield f"{'planted faults seen:':<22}{controls['score'] if controls['planted'] else 'none planted'}", style
    for row in [*conformance["checks"], *controls["rows"]]:
        if row["error"]:
            yield from _wrapped(f"{row.get('check') or row['control']}: ", row["error"], _STYLES["error"])
    if conformance["findings"]:
        yield "", {}
    findings = sorted(conformance["findings"], key=lambda each: each["severity"] != "failure")
    yield from _findings(findings, _MOST_LINES)


def _not_tested(evidence: Mapping[str, Any]) -> Iterator[Line]:
    """What was left out, of the whole run and of its drills; what several drills left out alike, once."""
    drills, conformance = evidence["drills"], evidence["conformance"]
    remarks: dict[tuple[str, str], list[str]] = {
        (each["what"], each["reason"]): []
        for each in [*evidence["not_tested"], *(conformance["not_tested"] if conformance else [])]
    }
    for drill in drills:
        for each in drill["not_tested"]:
            remarks.setdefault((each["what"], each["reason"]), []).append(drill["drill"])
    if remarks:
        yield "", {}
    for (what, reason), names in list(remarks.items())[:_MOST_LINES]:
        others = len(dict.fromkeys(names))
        where = "" if not names or len(drills) == 1 else f" ({names[0] if others == 1 else f'in {others} drills'})"
        yield from _wrapped("not tested: ", f"{what}: {wording.one_line(reason, 300)}{where}", {"yellow": True})
    if len(remarks) > _MOST_LINES:
        yield f"... and {len(remarks) - _MOST_LINES} more not tested, in the report", {}


def _wrapped(lead: str, text: str, style: dict[str, bool]) -> Iterator[Line]:
    whole = _plain(lead) + _plain(text)
    for line in textwrap.wrap(whole, WIDTH, subsequent_indent="    ", drop_whitespace=True):
        yield line, style


def _plain(text: str) -> str:
    """Fit text for a terminal of any encoding and width: the few signs of ours that are not ASCII, spelled out."""
    spelled = str(text).replace("µ", "u").replace("…", "...").replace("\u00d7", "x")
    lead = " " * (len(spelled) - len(spelled.lstrip(" ")))
    trail = " " if spelled.endswith(": ") else "  " if spelled.endswith("  ") else ""
    return lead + wording.one_line(spelled, 400) + trail

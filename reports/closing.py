"""The closing table of the terminal: one row per drill, then findings and what was not tested. At most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reports import wording

WIDTH: Final = 100
_COLUMNS: Final = {"scenario": 20, "recovery time": 18, "recovery point": 16, "data verified": 18, "controls": 8,
                   "verdict": 10}  # fmt: skip
_MOST_LINES: Final = 20
_STYLES: Final[Mapping[str, dict[str, bool]]] = {
    "error": {"red": True, "bold": True},
    "failed": {"red": True},
    "not tested": {"yellow": True},
    "passed": {"green": True},
}
Line = tuple[str, dict[str, bool]]


def lines(evidence: Mapping[str, Any]) -> Iterator[Line]:
    """The closing lines of a run, each with the markup to write it with."""
    drills = evidence["drills"]
    if drills:
        yield from _row(list(_COLUMNS), {"bold": True})
        yield "  ".join("-" * width for width in _COLUMNS.values()), {}
    for drill in drills:
        yield from _row(_cells(drill), _STYLES.get(drill["verdict"], {}))
    for drill in drills:
        yield from _remarks(drill)
    for reason in evidence["reasons"]:
        yield from _wrapped("run: ", reason, _STYLES.get(evidence["verdict"], {}))
    yield "", {}
    yield f"{'verdict:':<10}{evidence['verdict']}", _STYLES.get(evidence["verdict"], {})


def _cells(drill: Mapping[str, Any]) -> list[str]:
    rto, rpo = drill["objectives"]
    took, passed = drill["recovery_time"], sum(check["verdict"] == "passed" for check in drill["checks"])
    spread = "" if took["uncertainty_ns"] is None else f"+0/-{wording.duration(took['uncertainty_ns'])}\n"
    least = "at least " if rpo["lower_bound"] else ""
    sharp = "" if rpo["achieved_ns"] is None else f"+/-{wording.duration(drill['recovery_point']['resolution_ns'])}\n"
    looked: dict[str, int] = {}
    for check in drill["checks"]:
        for what, count in check["looked_at"].items():
            if what in ("rows", "objects"):
                looked[what] = max(looked.get(what, 0), count)
    return [
        drill["drill"],
        f"{wording.duration(rto['achieved_ns'])}\n{spread}{_against(rto)}",
        f"{least}{wording.duration(rpo['achieved_ns'])}\n{sharp}{_against(rpo)}",
        "\n".join(
            [f"{passed}/{len(drill['checks'])} checks", *(f"{count:,} {what}" for what, count in looked.items())]
        ),
        drill["controls"]["score"],
        drill["verdict"],
    ]


def _against(objective: Mapping[str, Any]) -> str:
    if objective["target_ns"] is None:
        return "no target"
    word = {"passed": "within", "failed": "over"}.get(objective["verdict"], "of")
    return f"{word} {wording.target(objective)}"


def _row(cells: Sequence[str], style: dict[str, bool]) -> Iterator[Line]:
    wrapped = [
        [line for part in cell.splitlines() for line in textwrap.wrap(_plain(part), width)] or [""]
        for cell, width in zip(cells, _COLUMNS.values(), strict=True)
    ]
    for at in range(max(map(len, wrapped))):
        parts = [(cell[at] if at < len(cell) else "").ljust(width)
                 for cell, width in zip(wrapped, _COLUMNS.values(), strict=True)]  # fmt: skip
        yield "  ".join(parts).rstrip(), style


def _remarks(drill: Mapping[str, Any]) -> Iterator[Line]:
    findings = sorted(drill["findings"], key=lambda each: each["severity"] != "failure")
    if findings or drill["reasons"] or drill["not_tested"]:
        yield "", {}
    for reason in drill["reasons"]:
        yield from _wrapped(f"{drill['drill']}: ", reason, _STYLES.get(drill["verdict"], {}))
    for finding in findings[:_MOST_LINES]:
        style = {"red": True} if finding["severity"] == "failure" else {"yellow": True}
        yield from _wrapped(f"{finding['code']}  ", f"{finding['title']}. {finding['seen']}", style)
        yield from _wrapped("    remedy: ", finding["remedy"], {})
    if len(findings) > _MOST_LINES:
        yield f"... and {len(findings) - _MOST_LINES} more findings, in the report", {}
    for remark in drill["not_tested"][:_MOST_LINES]:
        yield from _wrapped("not tested: ", f"{remark['what']}: {remark['reason']}", {"yellow": True})
    if len(drill["not_tested"]) > _MOST_LINES:
        yield f"... and {len(drill['not_tested']) - _MOST_LINES} more not tested, in the report", {}


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

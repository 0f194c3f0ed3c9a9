"""Which method was drilled against which disaster, over the runs of a period, as inline SVG; what was not, and why.

Each cell says its verdict by a letter and how many of its drills passed; colour, where a page gives any,
only repeats it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from markupsafe import Markup

from reports import wording
from reports.figures import WIDTH, drawing, element
from reports.population import PastDrill, PastRun

MOST_ROWS: Final = 40
MOST_COLUMNS: Final = 40
MOST_REASONS: Final = 60
CANNOT, NEVER = "cannot run here", "never drilled"
LETTERS: Final = {"passed": "P", "failed": "F", "error": "E", "not tested": "N", CANNOT: "–", NEVER: "·"}
LEVELS: Final = {"destroy": "restore drills", "shadow": "shadow restores", "failover": "failover drills"}
_LONGEST: Final = 26  # characters of a name, for which there is room at the top, to the left and to the right
_LEFT, _RIGHT, _TOP, _STEP, _LANE = 210, 130, 150, 34, 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What one method and one disaster came to: ``kind`` is the newest verdict, ``CANNOT`` or ``NEVER``."""

    kind: str
    drilled: int = 0
    passed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatMap:
    """One architecture at one level of drill.

    ``cells`` is by (component, method) and disaster; ``reasons`` are what could not be drilled, and why, newest first.
    """

    title: str
    svg: Markup
    cells: Mapping[tuple[str, str], Mapping[str, Cell]]
    reasons: tuple[tuple[str, str], ...]
    reasons_left_out: int = 0


def heat_maps(runs: Sequence[PastRun], name: str) -> list[HeatMap]:
    """One map for each architecture and level that was drilled, the stand-in apart from the product.

    Args:
        runs: those of the period, oldest first; one run alone for the coverage of that run.
        name: what the drawings' ids begin with; unique on the page.
    """
    kinds = dict.fromkeys((drill.architecture, drill.level, drill.stand_in) for run in runs for drill in run.drills)
    return [_map(runs, kind, f"{name}-{number}") for number, kind in enumerate(sorted(kinds))]


def _map(runs: Sequence[PastRun], kind: tuple[str, str, bool], name: str) -> HeatMap:
    architecture, level, stand_in = kind
    drills: list[PastDrill] = []
    reasons: dict[str, str] = {}
    for run in runs:
        ours = [each for each in run.drills if (each.architecture, each.level, each.stand_in) == kind]
        drills += ours
        if ours:  # newest first, each once
            newer = dict(run.not_tested)
            reasons = newer | {what: why for what, why in reasons.items() if what not in newer}
    cells = _cells(drills, reasons)
    whose = "the stand-in" if stand_in else "the product"
    title = f"{wording.one_line(architecture, 60)}, {LEVELS.get(level, level)} of {whose}"
    counts: dict[str, int] = {}
    for row in cells.values():
        for cell in row.values():
            counts[cell.kind] = counts.get(cell.kind, 0) + 1
    description = f"methods by disasters; cells: {', '.join(f'{n} {what}' for what, n in counts.items())}"
    bounded = tuple((wording.one_line(what, 120), wording.one_line(why, 400)) for what, why in reasons.items())
    return HeatMap(
        title=title,
        svg=_svg(cells, title, description, name),
        cells=cells,
        reasons=bounded[:MOST_REASONS],
        reasons_left_out=max(len(bounded) - MOST_REASONS, 0),
    )


def _cells(drills: Iterable[PastDrill], reasons: Mapping[str, str]) -> dict[tuple[str, str], dict[str, Cell]]:
    """Every component's method by every disaster; what the run said cannot run here is a row or a column too.

    The remarks of a run read ``database method pgbackrest`` and ``disaster page_damaged``.
    """
    seen: dict[tuple[tuple[str, str], str], list[PastDrill]] = {}
    for drill in drills:
        for method in drill.methods.items():
            seen.setdefault((method, drill.disaster), []).append(drill)
    methods = dict.fromkeys(method for method, _ in seen)
    disasters = dict.fromkeys(disaster for _, disaster in seen)
    cannot_method, cannot_disaster = set(), set()
    for what in reasons:
        component, named, name = what.partition(" method ")
        if named and component in {each for each, _ in methods}:
            cannot_method.add((component, name))
        elif what.startswith("disaster "):
            cannot_disaster.add(what.removeprefix("disaster "))
    order = {"database": 0, "objects": 1, "configuration": 2}
    rows = sorted({*methods, *cannot_method}, key=lambda each: (order.get(each[0], 3), each))
    columns = sorted({*disasters, *cannot_disaster})

    def cell(method: tuple[str, str], disaster: str) -> Cell:
        if found := seen.get((method, disaster)):
            passed = sum(each.verdict == "passed" for each in found)
            return Cell(kind=found[-1].verdict.value, drilled=len(found), passed=passed)
        return Cell(kind=CANNOT if method in cannot_method or disaster in cannot_disaster else NEVER)

    return {row: {column: cell(row, column) for column in columns} for row in rows}


def _svg(cells: Mapping[tuple[str, str], Mapping[str, Cell]], title: str, description: str, name: str) -> Markup:
    rows = list(cells)[:MOST_ROWS]
    columns = list(next(iter(cells.values()), {}))[:MOST_COLUMNS]
    width = min(64.0, (WIDTH - _LEFT - _RIGHT) / max(len(columns), 1))
    parts = ['<g fill="currentColor">']
    for at, disaster in enumerate(columns):
        x = _LEFT + (at + 0.5) * width
        parts.append(element("text", _label(disaster), x=0, y=0, font_size=11.5,
                              transform=f"translate({x:.1f} {_TOP - 8}) rotate(-42)"))  # fmt: skip
    bottom = _TOP
    for number, row in enumerate(rows):
        if number == 0 or row[0] != rows[number - 1][0]:  # on a line of its own: names of methods are long
            parts.append(element("line", x1=0, x2=f"{_LEFT + width * len(columns):.1f}", y1=bottom, y2=bottom,
                                  stroke="currentColor", class_="lane"))  # fmt: skip
            parts.append(element("text", _label(row[0]), x=0, y=bottom + 16, class_="small"))
            bottom += _LANE
        y, bottom = bottom, bottom + _STEP
        parts.append(element("text", _label(row[1]), x=_LEFT - 8, y=y + 20, text_anchor="end",
                              font_size=11.5))  # fmt: skip
        for at, disaster in enumerate(columns):
            parts += _cell(cells[row][disaster], _LEFT + at * width, y, width)
    left_out = (len(cells) - len(rows), len(next(iter(cells.values()), {})) - len(columns))
    if any(left_out):
        note = f"{left_out[0]:,} methods and {left_out[1]:,} disasters are left out of this drawing"
        parts.append(element("text", note, x=0, y=bottom + 36, class_="small"))
    legend = ", ".join(f"{letter} {word}" for word, letter in LETTERS.items())
    told = f"{legend}; the newest drill's verdict, and beneath it how many of how many passed"
    parts += [element("text", told, x=0, y=bottom + 20, class_="small", font_size=11.5), "</g>"]
    return drawing(name, bottom + 42, title, description, parts)


def _label(name: str) -> str:
    whole = wording.one_line(name, 120)
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…"


def _cell(cell: Cell, x: float, y: float, width: float) -> list[str]:
    kind = cell.kind.replace(" ", "-")
    middle = f"{x + width / 2:.1f}"
    parts = [
        element("rect", x=f"{x + 1:.1f}", y=y + 1, width=f"{width - 2:.1f}", height=_STEP - 2, fill="none",
                stroke="currentColor", stroke_opacity=".35", class_=f"cell cell-{kind}"),
        element("text", LETTERS[cell.kind], x=middle, y=y + (15 if cell.drilled else 21), text_anchor="middle",
                class_="strong"),
    ]  # fmt: skip
    if cell.drilled:
        parts.append(element("text", f"{cell.passed}/{cell.drilled}", x=middle, y=y + 28, text_anchor="middle",
                              class_="small", font_size=10))  # fmt: skip
    return parts

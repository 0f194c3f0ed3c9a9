"""The recovery times, or the recovery points, of one scenario over past runs, as inline SVG with its figures as text.

It needs no style of the page it stands in: what is not coloured by a class is drawn in the current colour. Nothing is
told by colour alone: every kind of mark has a shape and, among few, a letter; a legend counts them in words.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup

from reports import wording
from reports.figures import WIDTH, drawing, element
from reports.population import PastDrill, PastRun, State
from reports.records import NANOSECONDS, format_duration

MOST_RUNS: Final = 1000
MOST_MARKS: Final = 240
MOST_LETTERS: Final = 60
TIME, POINT = "recovery time", "recovery point"
_LEFT, _RIGHT, _TOP, _BOTTOM, _LANE = 96, 96, 34, 190, 214
_LETTERS: Final = {"failed": "F", "error": "E", "not tested": "N", "aborted": "A"}
_WORDS: Final = {"passed": "passed", "failed": "failed (F)", "error": "error (E)", "not tested": "not tested (N)",
                 "aborted": "aborted (A)"}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """One drill as the trend shows it. Times in nanoseconds."""

    run_id: str
    day: str
    kind: str  # a verdict, or ``aborted``
    value_ns: int | None
    target_ns: int | None
    at_least: bool
    not_stock: bool
    slower: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """``svg`` to be shown; ``figures``: label and text of what stands beside it, the same figures as in words."""

    svg: Markup
    figures: tuple[tuple[str, str], ...]


def trend(drills: Sequence[tuple[PastRun, PastDrill]], what: str, name: str) -> Trend:
    """One figure of one scenario over its runs.

    Args:
        drills: the scenario's, oldest first, as ``population.scenarios`` gives them; the last ``MOST_RUNS`` are shown.
        what: ``TIME`` or ``POINT``.
        name: what the drawing's ids begin with; unique on the page.
    """
    marks = [_mark(run, drill, what) for run, drill in drills[-MOST_RUNS:]]
    told = figures(marks, left_out=len(drills) - len(marks))
    scenario = wording.one_line(drills[-1][1].drill, 120) if drills else "no drill"
    title = f"{what.capitalize()} of {scenario} over {len(marks):,} {'run' if len(marks) == 1 else 'runs'}"
    description = "; ".join(f"{label}: {text}" for label, text in told)
    parts = ['<g fill="currentColor">', *_parts(marks, what), "</g>"]
    return Trend(svg=drawing(name, _LANE + 62, title, description, parts), figures=told)


def figures(marks: Sequence[Mark], left_out: int = 0) -> tuple[tuple[str, str], ...]:
    """Last, median and worst of those that passed, the target in force, and how many there were of each kind.

    The median of an even number is the lower one, as everywhere in the evidence.
    """
    passed = [mark.value_ns for mark in marks if mark.kind == "passed" and mark.value_ns is not None]
    last = next((mark for mark in reversed(marks) if mark.value_ns is not None), None)
    target = marks[-1].target_ns if marks else None
    counts = {kind: sum(mark.kind == kind for mark in marks) for kind in _WORDS}
    rows = [
        ("last", "not measured" if last is None else f"{_value(last)}, {last.day or 'day not known'}, {last.kind}"),
        ("median of those passed", format_duration(statistics.median_low(passed)) if passed else "none passed"),
        ("worst of those passed", format_duration(max(passed)) if passed else "none passed"),
        ("target", "no target" if target is None else format_duration(target)),
        ("runs", ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "none"),
    ]
    if slower := sum(mark.slower for mark in marks):
        rows.append(("slower than the runs before", f"{slower:,}"))
    if fast := sum(mark.not_stock for mark in marks):
        rows.append(("timing NOT STOCK", f"{fast:,}"))
    if left_out:
        rows.append(("older runs left out", f"{left_out:,}"))
    return tuple(rows)


def _value(mark: Mark) -> str:
    stock = "; timing NOT STOCK" if mark.not_stock else ""
    return f"{'at least ' if mark.at_least else ''}{format_duration(mark.value_ns or 0)}{stock}"


def _mark(run: PastRun, drill: PastDrill, what: str) -> Mark:
    of_time = what == TIME
    return Mark(
        run_id=run.run_id,
        day=run.opened_utc[:10],
        kind="aborted" if run.state is State.ABORTED else drill.verdict.value,
        value_ns=drill.recovery_time_ns if of_time else drill.recovery_point_ns,
        target_ns=drill.recovery_time_target_ns if of_time else drill.recovery_point_target_ns,
        at_least=not of_time and drill.lower_bound,
        not_stock=bool(drill.not_stock),
        slower=of_time and drill.slower,
    )


def thin(marks: Sequence[Mark]) -> list[tuple[int, Mark]]:
    """At most ``MOST_MARKS`` marks with their places: in each stretch, the worst figure of each kind of mark."""
    placed = list(enumerate(marks))
    if len(placed) <= MOST_MARKS:
        return placed
    kinds = {(mark.kind, mark.not_stock, mark.slower) for mark in marks}
    slots = max(MOST_MARKS // len(kinds), 1)
    kept: dict[tuple[int, str, bool, bool], tuple[int, Mark]] = {}
    for at, mark in placed:
        slot = (at * slots // len(placed), mark.kind, mark.not_stock, mark.slower)
        if slot not in kept or (kept[slot][1].value_ns or 0) < (mark.value_ns or 0):
            kept[slot] = at, mark
    return sorted(kept.values(), key=lambda each: each[0])


def _parts(marks: Sequence[Mark], what: str) -> list[str]:
    if not marks:
        return [element("text", "no run of it", x=_LEFT, y=_TOP + 20)]
    shown = thin(marks)
    highest = max(mark.value_ns or 0 for mark in marks) or NANOSECONDS  # figures of 0 alone: a scale of 1 s
    targets = [mark.target_ns for mark in marks if mark.target_ns is not None]
    # A target far above every figure would press them all onto the axis: it is told in words instead.
    far = bool(targets) and min(targets) > 3 * highest
    top_ns = highest if far or not targets else max(highest, min(max(targets), 3 * highest))
    span = WIDTH - _RIGHT - _LEFT

    def x(at: int) -> float:
        return _LEFT + (span / 2 if len(marks) == 1 else at * span / (len(marks) - 1))

    def y(value_ns: int) -> float:
        return _BOTTOM - min(value_ns / top_ns, 1.05) * (_BOTTOM - _TOP)

    parts = [
        element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_BOTTOM, y2=_BOTTOM, stroke="currentColor", class_="lane"),
        element("text", "0", x=_LEFT - 8, y=_BOTTOM + 4, text_anchor="end"),
        element("text", format_duration(top_ns), x=_LEFT - 8, y=_TOP + 4, text_anchor="end"),
        element("line", x1=_LEFT - 4, x2=_LEFT, y1=_TOP, y2=_TOP, stroke="currentColor"),
        element("text", what, x=_LEFT, y=14, class_="strong"),
    ]
    if any(mark.value_ns is None for mark in marks):
        parts.append(element("text", "no figure", x=_LEFT - 8, y=_LANE + 4, text_anchor="end", class_="small"))
    parts += _days(marks, x)
    parts += _targets(shown, far, x, y)
    measured = [(x(at), y(mark.value_ns)) for at, mark in shown if mark.kind == "passed" and mark.value_ns is not None]
    if len(measured) > 1:
        line = "M" + "L".join(f"{left:.1f},{height:.1f}" for left, height in measured)
        parts.append(element("path", d=line, fill="none", stroke="currentColor", stroke_opacity=".45",
                              class_="trend-line"))  # fmt: skip
    placed = [(x(at), _LANE if mark.value_ns is None else y(mark.value_ns), mark) for at, mark in shown]
    parts += _shapes(placed)
    return parts + _legend(marks, thinned=len(shown) < len(marks))


def _days(marks: Sequence[Mark], x: Callable[[int], float]) -> list[str]:
    """The day of the first and of the last run, and of up to three between."""
    count = min(len(marks), 5)
    places = sorted({at * (len(marks) - 1) // max(count - 1, 1) for at in range(count)})
    parts, before = [], ""
    for at in places:
        if marks[at].day != before:
            parts.append(element("text", marks[at].day or "day not known", x=f"{x(at):.0f}", y=_LANE + 24,
                                  text_anchor="middle", class_="small"))  # fmt: skip
        before = marks[at].day
    return parts


def _targets(
    shown: Sequence[tuple[int, Mark]], far: bool, x: Callable[[int], float], y: Callable[[int], float]
) -> list[str]:
    """The target in force at each run as a stepped, dashed line; one far above the figures as words at the top."""
    last = next((mark.target_ns for _, mark in reversed(shown) if mark.target_ns is not None), None)
    if last is None:
        return [element("text", "no target", x=WIDTH - _RIGHT, y=14, text_anchor="end", class_="small")]
    if far:
        told = f"target {format_duration(last)}, far above this scale ↑"
        return [element("text", told, x=WIDTH - _RIGHT, y=14, text_anchor="end", class_="strong")]
    path, drawn = "", False
    for at, mark in shown:
        if mark.target_ns is not None:
            left, height = x(at), y(mark.target_ns)
            path += f"H{left:.1f}V{height:.1f}" if drawn else f"M{left:.1f},{height:.1f}"
        drawn = mark.target_ns is not None
    path += f"H{WIDTH - _RIGHT + 6}" if drawn else ""
    line = element("path", d=path, fill="none", stroke="currentColor", stroke_width=1.5, stroke_dasharray="6 4",
                   class_="target-line")  # fmt: skip
    beside = element("text", f"target {format_duration(last)}", x=WIDTH - _RIGHT, y=14, text_anchor="end",
                     class_="strong")  # fmt: skip
    return [line, beside]


def _shape(kind: str, x: float, y: float) -> str:
    """A mark's path: a dot, a cross, a square, a bar, a slash."""
    return {
        "passed": f"M{x:.1f},{y:.1f}h0",  # drawn as a dot by its round end
        "failed": f"M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8",
        "error": f"M{x - 4:.1f},{y - 4:.1f}h8v8h-8z",
        "not tested": f"M{x - 5:.1f},{y:.1f}h10",
        "aborted": f"M{x - 3:.1f},{y + 6:.1f}l6,-12",
        "not stock": f"M{x:.1f},{y - 7:.1f}l7,7l-7,7l-7,-7z",
        "slower": f"M{x - 5:.1f},{y - 9:.1f}l5,-8l5,8z",
    }[kind]


def _drawn(kind: str, path: str) -> str:
    width = {"passed": 5, "failed": 2, "error": 1.6, "not tested": 3, "aborted": 2}.get(kind, 1.2)
    return element("path", d=path, fill="none", stroke="currentColor", stroke_width=width, stroke_linecap="round",
                   class_=f"run-{kind.replace(' ', '-')}")  # fmt: skip


def _shapes(placed: Sequence[tuple[float, float, Mark]]) -> list[str]:
    """All marks of one kind as one path, and a letter above each that did not pass, where there are few."""
    paths: dict[str, str] = {}
    for x, y, mark in placed:
        for kind in (mark.kind, *(["not stock"] if mark.not_stock else []), *(["slower"] if mark.slower else [])):
            paths[kind] = paths.get(kind, "") + _shape(kind, x, y)
    parts = [_drawn(kind, path) for kind, path in paths.items()]
    lettered = [(x, y, _LETTERS[mark.kind]) for x, y, mark in placed if mark.kind in _LETTERS]
    if len(lettered) <= MOST_LETTERS:
        parts += [element("text", letter, x=f"{x:.1f}", y=f"{y - 9:.1f}", text_anchor="middle", class_="strong halo")
                  for x, y, letter in lettered]  # fmt: skip
    return parts


def _legend(marks: Sequence[Mark], *, thinned: bool) -> list[str]:
    entries = [(kind, word, sum(mark.kind == kind for mark in marks)) for kind, word in _WORDS.items()]
    entries.append(("not stock", "timing NOT STOCK", sum(mark.not_stock for mark in marks)))
    entries.append(("slower", "slower than the runs before", sum(mark.slower for mark in marks)))
    parts, x, y = [], float(_LEFT), _LANE + 44
    for kind, word, count in entries:
        if count:
            told = f"{word}: {count:,}"
            parts.append(_drawn(kind, _shape(kind, x, y - 4 + (6 if kind == "slower" else 0))))
            parts.append(element("text", told, x=f"{x + 12:.0f}", y=y))
            x += 34 + 6.6 * len(told)
    if thinned:
        note = f"thinned to at most {MOST_MARKS} marks: the worst figure of each kind in each stretch stays"
        parts.append(element("text", note, x=_LEFT, y=y + 15, class_="small"))
    return parts

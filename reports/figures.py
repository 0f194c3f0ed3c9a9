"""Two drawings as inline SVG: the phases of a drill, and its ledger. Pure: records in, text out.

Nothing is told by colour alone: marks differ in shape and height, and every figure that matters is written beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from markupsafe import Markup

from reports import wording
from reports.records import format_duration
from reports.writes import Fate, Write, Writes

WIDTH: Final = 900
_LEFT: Final = 150
_RIGHT: Final = 24
MOST_MARKS: Final = 600


def element(name: str, text: str = "", **attributes: object) -> str:
    """One element of a drawing, escaped; ``class_`` and the like without their last underscore, ``_`` as ``-``."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    written = "".join(f' {key}="{escape(str(value))}"' for key, value in named.items())
    return f"<{name}{written}>{escape(text)}</{name}>"


def drawing(name: str, height: int, title: str, description: str, parts: Iterable[str]) -> Markup:
    """A whole drawing: what stands in it, told in words too. Its parts must be escaped already."""
    head = element("title", title, id=f"{name}-title") + element("desc", description, id=f"{name}-desc")
    return Markup(  # noqa: S704 - every text in it went through ``element``, which escapes
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-desc"'
        f' xmlns="http://www.w3.org/2000/svg">{head}{"".join(parts)}</svg>'
    )


def timeline(drill: Mapping[str, Any], name: str) -> Markup:
    """The phases as bars on a time axis that starts at the strike; those before it in a part of their own scale.

    Args:
        drill: one drill of the evidence.
        name: what the drawing's ids begin with; unique on the page.
    """
    strike = drill["recovery_time"]["strike_ns"]
    rows = [row for row in drill["phases"] if row["duration_ns"] is not None]
    zero = strike if strike is not None else max((_end(row) for row in rows), default=0)
    before = max([zero - row["opened_ns"] for row in rows] + [1])
    after = max([_end(row) - zero for row in rows] + [drill["recovery_time"]["upper_ns"] or 0, 1])
    split = _LEFT + 160 if strike is not None else WIDTH - _RIGHT - 90
    span = WIDTH - _RIGHT - 90 - split

    def x(time: int) -> float:
        """Where an instant stands: two linear scales, joined at the strike."""
        offset = time - zero
        scale = span / after if offset >= 0 else (split - _LEFT) / before
        return float(split + max(offset, -before) * scale)

    top, step = 58, 24
    height = top + step * len(rows) + 44
    parts = [element("rect", x=_LEFT, y=top - 6, width=split - _LEFT, height=step * len(rows) + 6, class_="muted")]
    if strike is not None:
        parts.append(element("line", x1=split, x2=split, y1=top - 14, y2=height - 30, class_="strike"))
        word = "recovery begins" if drill.get("shadow") else "strike"
        parts.append(element("text", word, x=split - 6, y=top - 16, text_anchor="end", class_="strong"))
        parts.append(element("text", "before: own scale", x=_LEFT, y=height - 8, class_="small"))
        parts.append(element("text", f"+{format_duration(after)}", x=split + span, y=height - 8, text_anchor="end"))
        parts.append(element("text", "0", x=split, y=height - 8))
    for at, row in enumerate(rows):
        y = top + at * step
        left, right = x(row["opened_ns"]), x(_end(row))
        label = wording.duration(row["duration_ns"]) + ("" if row["outcome"] == "done" else f", {row['outcome']}")
        class_ = "bar" if row["opened_ns"] >= zero or row["phase"] == "strike" else "bar early"
        class_ += "" if row["outcome"] == "done" else " broken"
        parts.append(element("text", wording.one_line(row["phase"], 22), x=_LEFT - 10, y=y + 13, text_anchor="end"))
        parts.append(element("rect", x=f"{left:.1f}", y=y + 2, width=f"{max(right - left, 1.5):.1f}", height=14,
                              class_=class_))  # fmt: skip
        # A figure that would run across the strike's line stands before its bar.
        crosses = right < split + 2 and right + 8 + 7 * len(label) > split and left - 8 * len(label) > _LEFT
        parts.append(element("text", label, x=f"{left - 6 if crosses else right + 6:.1f}", y=y + 13, class_="figure",
                              text_anchor="end" if crosses else "start"))  # fmt: skip
    parts += _bracket(drill["recovery_time"], x)
    told = "; ".join(f"{row['phase']} {wording.duration(row['duration_ns'])}" for row in rows)
    return drawing(name, height, "Phases of the drill", wording.one_line(told), parts)


def _end(row: Mapping[str, Any]) -> int:
    return int(row["opened_ns"] + row["duration_ns"])


def _bracket(took: Mapping[str, Any], x: Callable[[int], float]) -> list[str]:
    """The recovery time as a bracket above the bars; its uncertain end is hatched between the two probes."""
    if took["achieved_ns"] is None:
        return []
    start = x(took["strike_ns"])
    low, high = x(took["strike_ns"] + took["lower_ns"]), x(took["strike_ns"] + took["upper_ns"])
    told = (f"recovery time {format_duration(took['achieved_ns'])}, uncertain by"
            f" {format_duration(took['uncertainty_ns'])}")  # fmt: skip
    return [
        element("path", d=f"M{start:.1f},36V28H{high:.1f}V36", class_="bracket"),
        element("rect", x=f"{low:.1f}", y=24, width=f"{max(high - low, 2):.1f}", height=8, class_="uncertain"),
        element("text", told, x=f"{start:.1f}", y=17, class_="strong"),
    ]


def ledger(
    writes: Writes, drill: Mapping[str, Any], name: str, *, closely: bool = False, most: int = MOST_MARKS
) -> Markup:
    """Every acknowledged write as a mark on its channel's lane, with the strike, the recovery points and the return.

    Args:
        writes: the ledger joined with what was observed.
        drill: the same drill's part of the evidence.
        name: what the drawing's ids begin with; unique on the page.
        closely: only what lies around the strike and the recovery point, where a whole drill's scale shows nothing.
        most: how many marks a lane may have; beyond it they are thinned, and the drawing says so.
    """
    strike = drill["recovery_time"]["strike_ns"] or 0
    times = [_when(write) for lane in writes.channels.values() for write in lane] + [strike]
    first, last = min(times), max(times)
    if closely:
        point = drill["recovery_point"]
        around = max(8 * point["resolution_ns"], (point["achieved_ns"] or 0) * 3 // 2, 1)
        outage = drill["recovery_time"]["felt"]["outage_ns"] or 0 if drill.get("failover") else 0
        first, last = max(first, strike - max(around, outage // 6)), min(last, strike + around // 3 + outage * 5 // 4)
    span = WIDTH - _LEFT - _RIGHT

    def x(time: int) -> float:
        return float(_LEFT + (time - first) * span / max(last - first, 1))

    top, step = 46, 62
    lanes = [row for row in drill["recovery_point"]["channels"] if row["channel"] in writes.channels]
    bottom = top + step * len(lanes)
    parts, thinned = [], False
    for at, lane in enumerate(lanes):
        y = top + at * step + 26
        shown = [write for write in writes.channels[lane["channel"]] if first <= _when(write) <= last]
        marks = thin(shown, first, last, most)
        thinned = thinned or len(marks) < len(shown)
        parts.append(element("text", wording.one_line(lane["channel"], 20), x=_LEFT - 10, y=y - 2, text_anchor="end",
                              class_="strong"))  # fmt: skip
        parts.append(element("text", f"{len(shown):,} attempted", x=_LEFT - 10, y=y + 13, text_anchor="end"))
        parts.append(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="lane"))
        parts += [_marks(fate, [x(_when(write)) for write in marks if write.fate is fate], y) for fate in Fate]
        if first <= (lane["recovery_point_ns"] or -1) <= last:
            at_x = x(lane["recovery_point_ns"])
            parts.append(element("path", d=f"M{at_x:.1f},{y - 24}v48", class_="point"))
            parts.append(element("path", d=f"M{at_x - 5:.1f},{y - 26}h10l-5,8z", class_="pointer"))
    parts.append(element("line", x1=f"{x(strike):.1f}", x2=f"{x(strike):.1f}", y1=22, y2=bottom, class_="strike"))
    parts.append(element("text", "strike", x=f"{x(strike) - 6:.1f}", y=18, text_anchor="end", class_="strong"))
    shut = drill["recovery_time"]["shut_ns"]
    if shut is not None and first <= shut <= last:
        parts.append(element("line", x1=f"{x(shut):.1f}", x2=f"{x(shut):.1f}", y1=22, y2=bottom, class_="shut"))
        at_end = x(shut) > WIDTH - 110
        y = 34 if at_end and x(shut) - x(strike) < 110 else 18  # else it would be written over the strike's own word
        parts.append(element("text", "clients shut out", x=f"{x(shut) + (-6 if at_end else 6):.1f}", y=y,
                              text_anchor="end" if at_end else "start"))  # fmt: skip
    felt = drill["recovery_time"]["felt"]
    if first <= (felt["first_after_ns"] or -1) <= last:
        back = x(felt["first_after_ns"])
        told = f"first write after, {format_duration(felt['first_after_ns'] - strike)} later"
        near_end = back > WIDTH - 260
        parts.append(element("line", x1=f"{back:.1f}", x2=f"{back:.1f}", y1=36, y2=bottom, class_="back"))
        parts.append(element("text", told, x=f"{back + (-6 if near_end else 0):.1f}", y=34,
                              text_anchor="end" if near_end else "start"))  # fmt: skip
    parts += _legend(bottom + 24)
    parts.append(element("text", f"{format_duration(last - first)} shown", x=WIDTH - _RIGHT, y=bottom + 42,
                          text_anchor="end", class_="small"))  # fmt: skip
    if thinned:
        note = f"thinned to at most {most} marks a lane; no kind of mark is left out where it occurs"
        parts.append(element("text", note, x=_LEFT, y=bottom + 54, class_="small"))
    told = "; ".join(f"{row['channel']}: {row['recovered']} recovered, {row['lost']} lost, {row['altered']} altered,"
                     f" {row['indeterminate']} indeterminate" for row in lanes)  # fmt: skip
    title = "The same, around the strike" if closely else "Acknowledged writes and what became of them"
    return drawing(name, bottom + (64 if thinned else 50), title, told, parts)


def _when(write: Write) -> int:
    return write.attempted_ns if write.acknowledged_ns is None else write.acknowledged_ns


def thin(lane: Sequence[Write], first: int, last: int, most: int = MOST_MARKS) -> list[Write]:
    """At most ``most`` writes that stand for a lane: one of each fate in each of equally long slots of time."""
    if len(lane) <= most:
        return list(lane)
    slots = most // len(Fate)
    kept = {((_when(write) - first) * slots // (last - first + 1), write.fate): write for write in lane}
    return list(kept.values())


def _marks(fate: Fate, places: Sequence[float], y: float) -> str:
    """The marks of one fate on a lane, as one path: their shape and their height tell the fate."""
    shapes = {
        Fate.RECOVERED: lambda x: f"M{x:.1f},{y - 7:g}v14",
        Fate.LOST: lambda x: f"M{x:.1f},{y - 18:g}v36M{x - 3.5:.1f},{y - 18:g}l7,7m0,-7l-7,7",
        Fate.ALTERED: lambda x: f"M{x:.1f},{y - 13:g}l5,6l-5,6l-5,-6z",
        Fate.INDETERMINATE: lambda x: f"M{x - 4:.1f},{y + 12:g}a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
        Fate.DUPLICATED: lambda x: f"M{x - 2:.1f},{y - 11:g}v22m4,-22v22",
    }
    drawn = "".join(map(shapes[fate], places))
    return f'<path class="mark {fate.value}" d="{drawn}"/>' if drawn else ""


def _legend(y: int) -> list[str]:
    parts, x = [], float(_LEFT)
    for fate in Fate:
        lift = 13 if fate is Fate.INDETERMINATE else 5  # on a lane it hangs below the line
        parts.append(f'<g transform="translate({x:.0f} {y - lift}) scale(.7)">{_marks(fate, [6], 0)}</g>')
        parts.append(element("text", fate.value, x=f"{x + 14:.0f}", y=y))
        x += 34 + 7 * len(fate.value)
    parts.append(element("path", d=f"M{x:.0f},{y - 10}h10l-5,8z", class_="pointer"))
    parts.append(element("text", "recovery point achieved", x=f"{x + 14:.0f}", y=y))
    return parts

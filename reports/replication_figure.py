"""The replication timeline as inline SVG: what each node of a cluster was when, and when its clients felt an outage.

Pure: records in, text out. States differ in height and pattern, not in colour alone, and each is named in the legend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from reports import wording
from reports.figures import WIDTH, drawing, element
from reports.records import NANOSECONDS, format_duration

_LEFT: Final = 150
_RIGHT: Final = 24
_TOP: Final = 64
_STEP: Final = 50
_BEFORE_NS: Final = 2 * NANOSECONDS
# Half of a bar's height, and the class that gives its pattern; a node that is away has no bar, and crosses on its line.
_BARS: Final[Mapping[str, tuple[int, str]]] = {
    "accepts": (12, "accepts"),
    "refuses": (12, "refuses"),
    "standby": (4, "standby"),
    "hangs": (8, "hangs"),
    "away": (0, "away"),
}
_MEANS: Final[Mapping[str, str]] = {
    "accepts": "leader, accepts writes",
    "refuses": "leader, refuses writes",
    "standby": "standby",
    "hangs": "hangs",
    "away": "away",
}
_FELT: Final = (("write", "writes"), ("read", "reads"))
_TICKS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


def window(drill: Mapping[str, Any], *, closely: bool = False) -> tuple[int, int] | None:
    """From when to when the drawing shows, in nanoseconds of the run; ``None`` where there is nothing to show.

    Args:
        drill: one failover drill of the evidence.
        closely: only the strike, the longest outage and some of what lies around them, where that is less than a
            third of the whole.
    """
    cluster, strike = drill["failover"], drill["recovery_time"]["strike_ns"]
    seen = [span for node in cluster["nodes"] for span in node["spans"]]
    if not seen:
        return None
    first, last = min(span["from_ns"] for span in seen), max(span["to_ns"] for span in seen)
    if strike is None:
        return first, last
    first = max(first, strike - max(_BEFORE_NS, (last - strike) // 12))
    if not closely:
        return first, last
    gaps = [gap for row in cluster["outages"] for gap in row["spans"]]
    longest = max(gaps, key=lambda gap: gap["to_ns"] - gap["from_ns"], default={"to_ns": strike})
    near = max(strike + 3 * NANOSECONDS, strike + (longest["to_ns"] - strike) * 5 // 4)
    near_first = max(first, strike - max(NANOSECONDS, (near - strike) // 6))
    return (near_first, near) if (near - near_first) * 3 < last - first else None


def replication(drill: Mapping[str, Any], name: str, *, closely: bool = False) -> Markup | None:
    """One lane for each node, with strike, mended and redundant; below them the outages as clients felt them.

    Args:
        drill: one failover drill of the evidence.
        name: what the drawing's ids begin with; unique on the page.
        closely: as of ``window``.

    Returns:
        The drawing, or ``None`` where there is nothing to show.
    """
    shown = window(drill, closely=closely)
    if shown is None:
        return None
    first, last = shown
    cluster, strike = drill["failover"], drill["recovery_time"]["strike_ns"]

    def x(time: int) -> float:
        return float(_LEFT + (min(max(time, first), last) - first) * (WIDTH - _LEFT - _RIGHT) / max(last - first, 1))

    felt = [row for kind, _ in _FELT if (row := _felt(cluster["outages"], kind)) is not None]
    bottom = _TOP + _STEP * len(cluster["nodes"]) + 30 * len(felt)
    parts = [_patterns(name)]
    told = []
    for at, node in enumerate(cluster["nodes"]):
        y = _TOP + at * _STEP + 25
        spans = [span for span in node["spans"] if span["to_ns"] > first and span["from_ns"] < last]
        parts += [
            element("text", wording.one_line(node["name"], 20), x=_LEFT - 10, y=y - 1, text_anchor="end",
                    class_="strong"),
            element("text", wording.one_line(node["address"], 22), x=_LEFT - 10, y=y + 13, text_anchor="end",
                    class_="small"),
            element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="lane"),
        ]  # fmt: skip
        for span in spans:
            parts += _span(span, x, y, name)
        told.append(f"{node['name']}: " + ", ".join(_in_words(span, strike) for span in spans))
    for at, row in enumerate(felt):
        y = _TOP + _STEP * len(cluster["nodes"]) + 30 * at + 14
        parts += _felt_lane(row, x, y)
    if strike is not None:
        parts += _instants(cluster, strike, x, (first, last), bottom)
        parts += _axis(strike, x, (first, last), bottom)
    parts += _legend(name, bottom + 46)
    title = "The same, around the outage" if closely else "Who led when: what each node was"
    return drawing(name, bottom + 60, title, wording.one_line("; ".join(told)), parts)


def _patterns(name: str) -> str:
    """The fills, under ids of this drawing: a page holds several. Their lines take their colours from the page."""
    return (
        f'<defs><pattern id="{name}-refuses" width="6" height="6" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><path d="M0,0V6" class="stripe"/></pattern>'
        f'<pattern id="{name}-hangs" width="5" height="5" patternUnits="userSpaceOnUse">'
        '<circle cx="2" cy="2" r="1.2" class="dot"/></pattern></defs>'
    )


def _span(span: Mapping[str, Any], x: Callable[[int], float], y: int, name: str) -> Iterator[str]:
    left, right = x(span["from_ns"]), x(span["to_ns"])
    half, class_ = _BARS[span["state"]]
    width = max(right - left, 1.0)
    if not half:
        yield _crosses(left, width, y)
        return
    filled = {"fill": f"url(#{name}-{class_})"} if class_ in ("refuses", "hangs") else {}
    yield element("rect", x=f"{left:.1f}", y=y - half, width=f"{width:.1f}", height=2 * half, class_=f"node {class_}",
                  **filled)  # fmt: skip
    if span["state"] == "accepts" and span["timeline"] is not None:
        label = f"timeline {span['timeline']}"
        if width < 72:
            label = str(span["timeline"])
        if width >= 16:
            yield element("text", label, x=f"{left + 5:.1f}", y=y + 4, class_="on-bar")


def _crosses(left: float, width: float, y: int) -> str:
    """A broken line with a cross at its beginning: nobody is there."""
    cross = f"M{left + 1:.1f},{y - 5}l8,10m0,-10l-8,10" if width >= 10 else ""
    return f'<path class="away" d="M{left:.1f},{y}H{left + width:.1f}"/><path class="gone" d="{cross}"/>'


def _felt(rows: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """The worst channel of one kind; of equals the application's."""
    ours = [row for row in rows if row["kind"] == kind]
    return max(ours, key=lambda row: (row["longest_ns"], row["channel"] == "api"), default=None)


def _felt_lane(row: Mapping[str, Any], x: Callable[[int], float], y: int) -> Iterator[str]:
    what = f"{row['kind']}s, {wording.one_line(row['channel'], 12)}"
    yield element("text", what, x=_LEFT - 10, y=y + 4, text_anchor="end")
    yield element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="lane")
    free = 0.0
    for gap in row["spans"]:
        left, right = x(gap["from_ns"]), x(gap["to_ns"])
        if right <= _LEFT or left >= WIDTH - _RIGHT:
            continue
        end = f"M{right:.1f},{y - 5}v10" if gap["ended"] else "l-6,-5m6,5l-6,5"  # an arrow: not over yet
        yield f'<path class="felt" d="M{left:.1f},{y - 5}v10M{left:.1f},{y}H{right:.1f}{end}"/>'
        label = format_duration(gap["to_ns"] - gap["from_ns"])
        room = right + 8 * len(label) + 6 < WIDTH - _RIGHT
        if left < free:  # many short ones: their figures would stand on each other
            continue
        free = right + 8 * len(label) + 12
        yield element("text", label, x=f"{right + 6 if room else left - 6:.1f}", y=y + 4, class_="figure",
                      text_anchor="start" if room else "end")  # fmt: skip


def _instants(
    cluster: Mapping[str, Any], strike: int, x: Callable[[int], float], shown: tuple[int, int], bottom: int
) -> Iterator[str]:
    """The upright lines, each with its name on a row of its own, so that two near each other can both be read."""
    marks = [("strike", strike, "strike", 16)]
    marks += [("mended", event["at_ns"], "shut", 34) for event in cluster["mended"][-1:]]
    marks += [("redundant again", cluster["redundant"]["at_ns"], "back", 52)] if cluster["redundant"] else []
    for word, at_ns, class_, row in marks:
        if not shown[0] <= at_ns <= shown[1]:
            continue
        at = x(at_ns)
        label = word if at_ns == strike else f"{word}, +{format_duration(at_ns - strike)}"
        near_end = at > WIDTH - _RIGHT - 8 * len(label)
        yield element("line", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=row - 10, y2=bottom, class_=class_)
        yield element("text", label, x=f"{at + (-6 if near_end else 6):.1f}", y=row, class_="strong halo",
                      text_anchor="end" if near_end else "start")  # fmt: skip


def _axis(strike: int, x: Callable[[int], float], shown: tuple[int, int], bottom: int) -> Iterator[str]:
    """Seconds from the strike, at most a dozen of them."""
    first, last = shown
    lasts = (last - first) // NANOSECONDS
    step = next((each for each in _TICKS if lasts <= 12 * each), _TICKS[-1] * (lasts // (12 * _TICKS[-1]) + 1))
    second = -((strike - first) // NANOSECONDS // step) * step
    while strike + second * NANOSECONDS <= last:
        at = x(strike + second * NANOSECONDS)
        yield element("line", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=bottom, y2=bottom + 5, class_="tick")
        yield element("text", f"{second:+d} s" if second else "0", x=f"{at:.1f}", y=bottom + 18, text_anchor="middle",
                      class_="small")  # fmt: skip
        second += step


def _legend(name: str, y: int) -> Iterator[str]:
    x = float(_LEFT)
    for state, means in _MEANS.items():
        half, class_ = _BARS[state]
        if half:
            filled = {"fill": f"url(#{name}-{class_})"} if class_ in ("refuses", "hangs") else {}
            half = min(half, 8)
            yield element("rect", x=f"{x:.0f}", y=y - 4 - half, width=22, height=2 * half, class_=f"node {class_}",
                          **filled)  # fmt: skip
        else:
            yield _crosses(x, 22, y - 4)
        yield element("text", means, x=f"{x + 28:.0f}", y=y)
        x += 50 + 6.6 * len(means)


def _in_words(span: Mapping[str, Any], strike: int | None) -> str:
    since = span["from_ns"] - (strike or 0)
    on = f" on timeline {span['timeline']}" if span["state"] == "accepts" and span["timeline"] is not None else ""
    return f"{span['state']}{on} from {'-' if since < 0 else '+'}{format_duration(abs(since))}"

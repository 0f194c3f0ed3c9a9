"""What the population of runs comes to, put together once for the terminal, for JSON and for a page.

All text from the runs is foreign: it is bounded and made harmless here, and escaped by the page's template.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from reports import heat_map, trend, wording
from reports.population import STALE_DAYS, LastSuccess, PastDrill, PastRun, State, last_successes, scenarios
from reports.records import Verdict, format_duration

MOST_LISTED: Final = 1000
MOST_TRENDS: Final = 40
LONGEST: Final = 160
_RESTORES: Final = ("destroy", "shadow")  # a failover restores nothing: no age of a restore counts from it


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """A population at one instant. ``runs`` are those asked for, oldest first; the rest is of all runs."""

    runs: Sequence[PastRun]
    successes: Sequence[LastSuccess]
    stale: Sequence[str]
    stale_days: int
    now: datetime.datetime


def history(
    everything: Sequence[PastRun],
    shown: Sequence[PastRun],
    now: datetime.datetime,
    stale_days: int = STALE_DAYS,
) -> History:
    """Put together what is told of a population.

    Args:
        everything: all of its runs, oldest first: ages count from these, whatever is shown.
        shown: those to be listed and drawn.
        now: aware.
        stale_days: a restore that last passed more days ago is stale.
    """
    successes = last_successes(everything, now)
    stale = stale_restores(successes, now, stale_days)
    return History(runs=shown, successes=successes, stale=stale, stale_days=stale_days, now=now)


def stale_restores(successes: Sequence[LastSuccess], now: datetime.datetime, stale_days: int) -> list[str]:
    """A sentence for each architecture whose restore did not pass within so many days; the stand-in apart.

    One of which only failovers were drilled is among them: no restore of it has ever passed.
    """
    restores: dict[tuple[str, bool], list[int]] = {}
    for each in successes:
        days = restores.setdefault((each.architecture, each.stand_in), [])
        if each.level in _RESTORES and (since := each.days(now)) is not None:
            days.append(since)
    if not restores:
        return ["no restore was ever drilled"]
    return [
        f"{_text(architecture)}, {whose(stand_in)}: "
        + (f"a restore last passed {wording.counted(min(days), 'day')} ago" if days else "no restore has ever passed")
        for (architecture, stand_in), days in restores.items()
        if not days or min(days) > stale_days
    ]


def whole(text: str) -> int:
    """A number of days or runs, from an option.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise argparse.ArgumentTypeError(f"{_text(text, 30)!r} is no whole number below 100,000")
    return int(text)


def whose(stand_in: bool) -> str:
    """Of what a figure is."""
    return "the stand-in" if stand_in else "the product"


def _text(text: object, longest: int = LONGEST) -> str:
    return wording.one_line(text, longest)


def _held(run: PastRun) -> list[PastDrill]:
    return [drill for drill in run.drills if not drill.negative_control]


def figures_of(run: PastRun) -> dict[str, Any]:
    """A run's figures in nanoseconds: median (the lower one) and worst recovery time, worst recovery point.

    Negative controls of a row are in no figure, as in the evidence.
    """
    times = [drill.recovery_time_ns for drill in _held(run) if drill.recovery_time_ns is not None]
    furthest = max(
        (drill for drill in _held(run) if drill.recovery_point_ns is not None),
        key=lambda drill: (drill.recovery_point_ns or 0, drill.lower_bound),
        default=None,
    )
    verdicts = [drill.verdict for drill in run.drills]
    return {
        "verdicts": {each.value: verdicts.count(each) for each in Verdict if each in verdicts},
        "recovery_time_median_ns": statistics.median_low(times) if times else None,
        "recovery_time_worst_ns": max(times, default=None),
        "recovery_point_worst_ns": furthest.recovery_point_ns if furthest else None,
        "recovery_point_lower_bound": bool(furthest and furthest.lower_bound),
        "not_stock": any(drill.not_stock for drill in _held(run)),
        "slower": [drill.drill for drill in run.drills if drill.slower],
    }


def cells(run: PastRun) -> dict[str, str]:
    """One run as the cells of a table."""
    told = figures_of(run)
    median, worst = told["recovery_time_median_ns"], told["recovery_time_worst_ns"]
    stock = " NOT STOCK" if told["not_stock"] else ""
    least = "at least " if told["recovery_point_lower_bound"] else ""
    point = told["recovery_point_worst_ns"]
    state = "" if run.state is State.CLOSED else run.state.value
    drills = ", ".join(f"{count:,} {verdict}" for verdict, count in told["verdicts"].items())
    checked = f"checks {run.conformance.value}" if run.conformance else ""
    return {
        "run": _text(run.run_id, 60),
        "opened (UTC)": run.opened_utc[:16].replace("T", " ") or "not known",
        "verdict": ", ".join(part for part in (run.verdict.value if run.verdict else "", state) if part),
        "drills": "; ".join(part for part in (drills, checked) if part) or "–",
        "recovery time, median / worst": f"{format_duration(median)} / {format_duration(worst)}{stock}" if times(told)
        else "–",
        "recovery point, worst": "–" if point is None else f"{least}{format_duration(point)}",
        "controls": run.score if run.planted else "–",
        "slower": f"{len(told['slower']):,}" if told["slower"] else "–",
        "kept as": kept_as(run),
    }  # fmt: skip


def times(told: Mapping[str, Any]) -> bool:
    """Whether any recovery time was measured."""
    return told["recovery_time_median_ns"] is not None


def kept_as(run: PastRun) -> str:
    """What is there of a seal, a signature, sign-offs and the register; that they hold, ``verify`` says."""
    if run.state in (State.RETIRED, State.MISSING):
        lost = f", sign-offs deleted with it: {run.sign_offs}" if run.sign_offs else ""
        return f"register: {_text(run.registered, 20)}{lost}"
    words = ["sealed" if run.sealed else "not sealed", "signed" if run.signed else "not signed"]
    words += [f"sign-offs: {run.sign_offs}"] if run.sign_offs else []
    return ", ".join([*words, f"register: {_text(run.registered, 20)}" if run.registered else "not in the register"])


def success_cells(each: LastSuccess, told: History) -> dict[str, str]:
    """One kind of drill and its last success, as the cells of a table."""
    days = each.days(told.now)
    return {
        "architecture": _text(each.architecture, 60),
        "of": whose(each.stand_in),
        "drills": heat_map.LEVELS.get(each.level, each.level),
        "last all passed": "never" if each.run is None else each.run.opened_utc[:16].replace("T", " "),
        "days ago": "–" if days is None else f"{days:,}",
        "run": "–" if each.run is None else _text(each.run.run_id, 60),
    }


def count_line(told: History) -> str:
    """How many runs there are of each state, and of the closed ones of each verdict."""
    states = [run.state for run in told.runs]
    verdicts = [run.verdict for run in told.runs if run.state is State.CLOSED]
    parts = [f"{states.count(state):,} {state.value}" for state in State if state in states]
    closed = ", ".join(f"{verdicts.count(each):,} {each.value}" for each in reversed(Verdict) if each in verdicts)
    of_closed = f"; of the closed ones {closed}" if closed else ""
    return f"{wording.counted(len(states), 'run')}: {', '.join(parts) or 'none'}{of_closed}"


def remarks(told: History) -> list[str]:
    """What of single runs must not be overlooked, newest first: broken, missing, aborted, ahead of time, got slower."""
    lines = []
    for run in reversed(told.runs):
        if run.problem:
            lines.append(f"{_text(run.run_id, 60)} {run.state.value}: {_text(run.problem, 300)}")
        if run.opened and run.opened > told.now:
            lines.append(f"{_text(run.run_id, 60)} was opened after this moment, by some clock that is wrong: it counts"
                         " as no success")  # fmt: skip
        lines += [f"{_text(run.run_id, 60)} slower than the runs before it: {_text(drill)}"
                  for drill in figures_of(run)["slower"]]  # fmt: skip
    return lines


def as_text(told: History) -> Iterator[str]:
    """The lines for a terminal."""
    yield count_line(told)
    yield ""
    yield from _table([success_cells(each, told) for each in told.successes])
    for sentence in told.stale:
        yield f"STALE (more than {told.stale_days:,} days): {sentence}"
    if not told.stale:
        yield f"every architecture's restore has passed within {told.stale_days:,} days"
    yield ""
    yield from _table([cells(run) for run in told.runs[: -MOST_LISTED - 1 : -1]])
    if len(told.runs) > MOST_LISTED:
        older = wording.counted(len(told.runs) - MOST_LISTED, "older run")
        yield f"… and {older}; --since narrows, --format json has them all"
    if lines := remarks(told):
        yield ""
        yield from lines[:MOST_LISTED]


def _table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    if not rows:
        return
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def as_json(told: History) -> str:
    """The same for programs, every run in it, newest first; ASCII, so that nothing in it steers a terminal."""
    rows = [
        {
            "run_id": _text(run.run_id, 60),
            "state": run.state.value,
            "verdict": run.verdict.value if run.verdict else None,
            "problem": _text(run.problem, 300),
            "opened_utc": run.opened_utc,
            "ahead_of_time": run.opened is not None and run.opened > told.now,
            "closed_utc": run.closed_utc,
            "stand_in": run.stand_in,
            **figures_of(run),
            "slower": [_text(drill) for drill in figures_of(run)["slower"]],
            "controls": {"planted": run.planted, "caught": run.caught},
            "conformance": run.conformance.value if run.conformance else None,
            "sealed": run.sealed,
            "signed": run.signed,
            "sign_offs": run.sign_offs,
            "registered": _text(run.registered, 20),
        }
        for run in reversed(told.runs)
    ]
    successes = [
        {
            "architecture": _text(each.architecture, 60),
            "level": each.level,
            "stand_in": each.stand_in,
            "run_id": _text(each.run.run_id, 60) if each.run else None,
            "days": each.days(told.now),
        }
        for each in told.successes
    ]
    whole = {"stale_days": told.stale_days, "stale": list(told.stale), "last_successes": successes, "runs": rows}
    return json.dumps(whole, indent=2) + "\n"


def as_html(told: History) -> str:
    """One page, self-contained: the last successes, the coverage, every scenario's trends, and all runs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = scenarios(told.runs)
    # Of many scenarios those that were drilled last.
    kept = sorted(found, key=lambda each: found[each][-1][0].opened_utc, reverse=True)[:MOST_TRENDS]
    trends = [
        {
            "name": f"{_text(each.drill)}",
            "where": f"{_text(each.provider, 40)}, profile {_text(each.profile, 60) or 'not named'}, of"
            f" {whose(each.stand_in)}",
            "drawn": [
                trend.trend(found[each], what, f"trend-{number}-{at}")
                for at, what in enumerate((trend.TIME, trend.POINT))
            ],
        }
        for number, each in enumerate(sorted(kept))
    ]
    return environment.get_template("history.html.j2").render(
        told=told,
        counted=count_line(told),
        made=told.now.isoformat(timespec="minutes").replace("+00:00", "Z"),
        style=Markup("".join(_style(name) for name in ("shared.css", "history.css"))),  # noqa: S704 - our own files
        successes=[success_cells(each, told) for each in told.successes],
        maps=heat_map.heat_maps(told.runs, "coverage"),
        trends=trends,
        trends_left_out=len(found) - len(kept),
        rows=[cells(run) for run in told.runs[: -MOST_LISTED - 1 : -1]],
        rows_left_out=max(len(told.runs) - MOST_LISTED, 0),
        remarks=remarks(told)[:MOST_LISTED],
    ) + "\n"  # fmt: skip


def _style(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")

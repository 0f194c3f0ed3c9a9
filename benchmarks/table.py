"""The comparison as figures and as a table for people."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.stages import BUDGET, STAGES, VERIFY_DATABASE_BUDGET, VERIFY_OBJECTS_BUDGET, Round
from reports.records import NANOSECONDS, format_duration

BESIDE = ("fingerprint", "verify", "controls")


def figures(rounds: Sequence[Round]) -> dict[str, Any]:
    """Every figure, for machines: durations in nanoseconds, one for each round, ratios of their medians."""
    return {
        "stages": {name: _pair(rounds, functools.partial(_stage, name), BUDGET) for name in STAGES},
        "verification": {
            "database, over its dump": _pair(
                rounds, lambda each: (each.drilled.verify_database_ns, each.drilled.dump_ns), VERIFY_DATABASE_BUDGET
            ),
            "objects, over rclone check --download": _pair(
                rounds, lambda each: (each.drilled.verify_objects_ns, each.bare.check_objects_ns), VERIFY_OBJECTS_BUDGET
            ),
        },
        "beside": {
            "whole run": [each.drilled.whole_run_ns for each in rounds],
            **{phase: [each.drilled.phases[phase] for each in rounds] for phase in BESIDE},
        },
        "peak_bytes": [each.drilled.peak_bytes for each in rounds],
    }


def _stage(name: str, each: Round) -> tuple[int, int]:
    return each.drilled.stages[name], each.bare.stages[name]


def _pair(rounds: Sequence[Round], read: Callable[[Round], tuple[int, int]], budget: float) -> dict[str, Any]:
    ours, others = zip(*map(read, rounds), strict=True)
    return {
        "ours_ns": ours,
        "others_ns": others,
        "ratio": statistics.median(ours) / max(statistics.median(others), 1),
        "ratio_of_least": min(ours) / max(min(others), 1),
        "ratios": [one / max(other, 1) for one, other in zip(ours, others, strict=True)],
        "budget": budget,
    }


def render(value: Mapping[str, Any], *, title: str, small_peak: Sequence[int]) -> str:
    """The figures as text; ``small_peak``: peak sizes of the drill's process on small data, where they were taken."""
    rows = [_row(name, pair) for name, pair in value["stages"].items()]
    checks = [_row(name, pair) for name, pair in value["verification"].items()]
    heads = ("drill", "bare", "ratio", "of least", "by round", "budget")
    beside = "  ".join(f"{name} {_median(taken)}" for name, taken in value["beside"].items())
    peaks = {"small": small_peak, "here": value["peak_bytes"]}
    memory = ", ".join(f"{where} {max(taken) / 2**20:.0f} MiB" for where, taken in peaks.items() if taken)
    return "\n".join(
        [
            title,
            "",
            *_aligned([("stage", *heads), *rows]),
            "",
            *_aligned([("verifying", "check", "against", *heads[2:]), *checks]),
            "",
            f"the drill beside its measured path: {beside}",
            f"peak resident size of the drill's process: {memory}",
            "The drill's side carries the ledger's writer and the prober, the bare script's side carries no load: its",
            "second copy of the objects finds nothing new.",
            "A ratio is that of the medians, marked ! where over its budget; beside it that of the least times.",
        ]
    )


def _row(name: str, pair: Mapping[str, Any]) -> tuple[str, ...]:
    spread = f"{min(pair['ratios']):.3f}-{max(pair['ratios']):.3f}"
    over = " !" if pair["ratio"] > pair["budget"] else ""
    least = f"{pair['ratio_of_least']:.3f}"
    medians = _median(pair["ours_ns"]), _median(pair["others_ns"])
    return name, *medians, f"{pair['ratio']:.3f}{over}", least, spread, f"{pair['budget']:g}"


def _median(taken: Sequence[int]) -> str:
    middle = round(statistics.median(taken))
    # To the tenth of a second also where people would rather read minutes: ratios are looked at beside them.
    return f"{middle / NANOSECONDS:.1f} s" if middle >= 60 * NANOSECONDS else format_duration(middle)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]

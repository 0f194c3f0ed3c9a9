"""Damage to what was observed of the ledger's writes: the accounting must see each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drills.controls.bench import Bench, Control, Seen
from reports.records import read_lines


def controls(bench: Bench) -> Iterator[Control]:
    """The observation as it is, and each way to falsify it."""
    lines = list(read_lines(bench.observed))
    victim = _early_write(bench, lines)

    def accounted(changed: Iterable[Mapping[str, Any]]) -> Seen:
        if victim is None:
            return Seen()
        return Seen(victim=victim["id"], findings=bench.account(changed))

    altered = [{**line, "sha256": "0" * 64} if line is victim else line for line in lines]
    invented = {"channel": victim["channel"] if victim else "", "id": "never-attempted", "sha256": "0" * 64}
    for name, breaks, code, changed in (
        ("healthy twin of the ledger", "nothing", None, lines),
        ("early write lost", "the first recovered write taken away", "WRITES-HOLE",
         [line for line in lines if line is not victim]),
        ("write altered", "another digest", "WRITE-ALTERED", altered),
        ("write doubled", "one write found twice", "WRITE-DUPLICATED", [*lines, *([victim] if victim else [])]),
        ("write invented", "a write found that nobody attempted", "WRITE-PHANTOM", [*lines, invented]),
    ):  # fmt: skip
        yield Control(
            name=name,
            breaks=breaks,
            expects=(code,) if code else (),
            always=False,  # a slow ledger has no two writes to tell apart
            look=functools.partial(accounted, changed),
        )


def _early_write(bench: Bench, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first of at least two writes of one channel that were acknowledged before the strike and came back."""
    found = {(line["channel"], line["id"]): line for line in lines}
    attempted: dict[tuple[str, int], str] = {}
    recovered: dict[str, Mapping[str, Any]] = {}
    for entry in read_lines(bench.observed.with_name("ledger.jsonl")):
        channel = entry["channel"]
        if entry["event"] == "attempt":
            attempted[channel, entry["n"]] = entry["id"]
        elif entry["event"] == "acknowledged" and entry["t"] < bench.struck_ns:
            line = found.get((channel, attempted.pop((channel, entry["n"]))))
            if line is not None and channel in recovered:
                return recovered[channel]
            if line is not None:
                recovered[channel] = line
    return None

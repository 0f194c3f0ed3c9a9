"""Damage to what was observed of the ledger's writes: the accounting must see each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drills.controls.bench import Bench, Control, Seen
from drills.ledger import DELETE
from reports.records import read_lines


def controls(bench: Bench) -> Iterator[Control]:
    """The observation as it is, and each way to falsify it."""
    lines = list(read_lines(bench.observed))
    victim, late = _victims(bench, lines)

    def accounted(victim: Mapping[str, Any] | None, changed: Iterable[Mapping[str, Any]]) -> Seen:
        if victim is None:
            return Seen()
        return Seen(victim=victim["id"], findings=bench.account(changed))

    altered = [{**line, "sha256": "0" * 64} if line is victim else line for line in lines]
    invented = {"channel": victim["channel"] if victim else "", "id": "never-attempted", "sha256": "0" * 64}
    for name, breaks, code, line, changed in (
        ("healthy twin of the ledger", "nothing", None, victim, lines),
        ("early write lost", "the first recovered write taken away", "WRITES-HOLE", victim,
         [line for line in lines if line is not victim]),
        ("write altered", "another digest", "WRITE-ALTERED", victim, altered),
        ("write doubled", "one write found twice", "WRITE-DUPLICATED", victim, [*lines, *([victim] if victim else [])]),
        ("write invented", "a write found that nobody attempted", "WRITE-PHANTOM", victim, [*lines, invented]),
        ("late write lost", "the last write after recovery taken away", "WRITE-LOST-AFTER-RECOVERY", late,
         [line for line in lines if line is not late]),
    ):  # fmt: skip
        yield Control(
            name=name,
            breaks=breaks,
            expects=(code,) if code else (),
            always=False,  # a slow ledger has no two writes to tell apart
            look=functools.partial(accounted, line, changed),
        )


def _victims(
    bench: Bench, lines: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """An early and a late write, none where there is none.

    The early one is the first of at least two of one channel that were acknowledged before the strike and came back;
    the late one is the last that was acknowledged after the strike. Deletions are left out: what is found of them is
    what is absent.
    """
    found = {(line["channel"], line["id"]): line for line in lines if line["channel"] != DELETE}
    attempted: dict[tuple[str, int], str] = {}
    recovered: dict[str, Mapping[str, Any]] = {}
    early: Mapping[str, Any] | None = None
    late: Mapping[str, Any] | None = None
    for entry in read_lines(bench.observed.with_name("ledger.jsonl")):
        channel = entry["channel"]
        if entry["event"] == "attempt":
            attempted[channel, entry["n"]] = entry["id"]
        elif entry["event"] == "acknowledged":
            line = found.get((channel, attempted.pop((channel, entry["n"]))))
            if line is None:
                continue
            if entry["t"] >= bench.struck_ns:
                late = line
            elif early is None and channel in recovered:
                early = recovered[channel]
            recovered.setdefault(channel, line)
    return early, late

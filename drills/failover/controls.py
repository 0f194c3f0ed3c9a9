"""Falsified observations of a failover: the account must see each, and find nothing in those that are as they were."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from drills.controls.bench import Control, Seen
from drills.controls.prove import prove_each
from drills.failover.site import FailoverSite
from drills.ledger import DELETE
from reports.records import read_lines

Line = Mapping[str, Any]


def prove_failover(site: FailoverSite) -> None:
    """Run every control and journal what it saw."""
    prove_each(site.journal, site.id, site.deployment, controls(site))


def controls(site: FailoverSite) -> Iterator[Control]:
    """The observations as they are, and each way to falsify them."""
    observed, witness = list(read_lines(site.load.observed)), list(read_lines(site.watch.path))
    account = functools.partial(site.record.findings_if, site.id)
    known = set(account())
    lost = _acknowledged_and_found(site, observed)
    doubled = next((each for each in observed if each["channel"] != DELETE), None)
    second = _second_leader(witness)

    def look(victim: str, **changed: Sequence[Line]) -> Callable[[], Seen]:
        # What the drill itself has found is no merit of the control.
        def found() -> Seen:
            if not victim:
                return Seen()
            return Seen(victim=victim, findings=[each for each in account(**changed) if each not in known])

        return found

    yield Control(name="healthy twin of the account", breaks="nothing", look=look("all lines as they are"))
    yield Control(
        name="acknowledged write lost", breaks="a write that was acknowledged taken away",
        expects=() if lost is None else ("ACKNOWLEDGED-WRITES-LOST",), always=False,
        look=look(lost["id"] if lost else "", observed=[line for line in observed if line is not lost]),
    )  # fmt: skip
    yield Control(
        name="write found twice", breaks="one write found twice", expects=("WRITE-DUPLICATED",), always=False,
        look=look(doubled["id"] if doubled else "", observed=[*observed, *([doubled] if doubled else [])]),
    )  # fmt: skip
    yield Control(
        name="two leaders", breaks="a write that a standby is said to have taken", expects=("SPLIT-BRAIN",),
        always=False, look=look(second["node"] if second else "", witness=[*witness, *([second] if second else [])]),
    )  # fmt: skip


def _acknowledged_and_found(site: FailoverSite, observed: Sequence[Line]) -> Line | None:
    """A write that was acknowledged and is there; none where there is none."""
    attempted = dict[tuple[str, int], str]()
    acknowledged = set[tuple[str, str]]()
    for entry in read_lines(site.load.path):
        write = entry["channel"], entry["n"]
        if entry["event"] == "attempt":
            attempted[write] = entry["id"]
        elif entry["event"] == "acknowledged":
            acknowledged.add((entry["channel"], attempted[write]))
    there = (line for line in observed if (line["channel"], line["id"]) in acknowledged)
    return next((line for line in there if line["channel"] != DELETE), None)


def _second_leader(witness: Sequence[Line]) -> Line | None:
    """What a standby would have said had it taken a write between two that a leader took; none where none did."""
    taken = [line for line in witness if line["state"] == "accepts"]
    other = next((line["node"] for line in witness if taken and line["node"] != taken[0]["node"]), None)
    for first, second in itertools.pairwise(taken):
        same = first["node"] == second["node"] != other and first["timeline"] == second["timeline"]
        if same and other is not None and first["t"] + 2 < second["t0"]:
            between = {"t0": first["t"] + 1, "t": second["t0"] - 1, "timeline": first["timeline"] + 1}
            return {**first, "node": other, **between}
    return None

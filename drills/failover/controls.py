"""Falsified observations of a failover: the account must see each, and find nothing in those that are as they were."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from checks.database import Fingerprint
from drills.controls.bench import Control, Seen
from drills.controls.prove import prove_each
from drills.failover.leadership import led_wrongly
from drills.failover.site import FailoverSite
from drills.failover.standbys import differences
from drills.ledger import API, DELETE
from drills.redundancy import missing
from fixtures.cluster import Member
from reports.records import Finding, read_lines

Line = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """What the verification saw, for its controls: the leader's fingerprint where it was read, and the members."""

    fingerprint: Fingerprint | None
    members: Sequence[Member]


def prove_failover(site: FailoverSite, verified: Verified) -> None:
    """Run every control and journal what it saw."""
    prove_each(site.journal, site.id, site.deployment, [*of_the_account(site), *of_the_cluster(site, verified)])


def of_the_account(site: FailoverSite) -> Iterator[Control]:
    """The observations as they are, and each way to falsify them."""
    observed, witness = _lines(site.load.observed), _lines(site.watch.path)
    lost = _acknowledged_and_found(site, observed)
    doubled = next((each for each in observed if each["channel"] != DELETE), None)
    second = _second_leader(witness)
    late = _taken_after(site, second, observed)
    unread = {"channel": API, "n": 10**6, "t0": site.journal.clock.now() - 1, "t": site.journal.clock.now()}
    split = [*witness, *([second] if second else [])]
    falsified: list[tuple[str, str, str, str, dict[str, Any]]] = [
        ("acknowledged write lost", "a write that was acknowledged taken away", "ACKNOWLEDGED-WRITES-LOST",
         lost["id"] if lost else "", {"observed": [line for line in observed if line is not lost]}),
        ("write found twice", "one write found twice", "WRITE-DUPLICATED",
         doubled["id"] if doubled else "", {"observed": [*observed, *([doubled] if doubled else [])]}),
        ("two leaders", "a write that a standby is said to have taken", "SPLIT-BRAIN",
         second["node"] if second else "", {"witness": split}),
        ("zombie's write lost", "the same, and a write that its leader acknowledged then taken away",
         "ZOMBIE-ACKNOWLEDGED", late["id"] if late else "",
         {"witness": split, "observed": [line for line in observed if line is not late]}),
        ("planned work felt", "a read that failed while work was planned", "PLANNED-WORK-FELT", f"read {unread['n']}",
         {"planned": True, "reads": [*_lines(site.load.reads), {**unread, "outcome": "failed", "error": "planted"}]}),
    ]  # fmt: skip
    account = functools.partial(site.record.findings_if, site.id)
    yield Control(name="healthy twin of the account", breaks="nothing", look=_beyond(account, "all lines as they are"))
    for name, breaks, code, victim, changed in falsified:
        yield Control(
            name=name, breaks=breaks, expects=(code,), always=False, look=_beyond(account, victim, **changed)
        )  # fmt: skip


def _beyond(account: Callable[..., list[Finding]], victim: str, **changed: Any) -> Callable[[], Seen]:
    """What the account finds beyond what the drill itself has found, which is no merit of the control."""

    def look() -> Seen:
        if not victim:
            return Seen()
        known = set(account(**{name: value for name, value in changed.items() if name == "planned"}))
        return Seen(victim=victim, findings=[each for each in account(**changed) if each not in known])

    return look


def of_the_cluster(site: FailoverSite, verified: Verified) -> Iterator[Control]:
    """The members and a standby's content as they were seen, and each way to falsify them."""
    settings, members, original = site.outage.variant.settings, verified.members, verified.fingerprint
    leader = next((each for each in members if each.role == "leader"), None)
    standby = next((each for each in members if each.role == "standby"), None)
    victim = standby.node if leader and standby else ""

    def turned(**values: Any) -> list[Member]:
        return [dataclasses.replace(each, **values) if each is standby else each for each in members]

    yield Control(
        name="healthy twin of the members", breaks="nothing", always=False,
        look=lambda: Seen(victim=victim, findings=[
            *missing(members, settings, seconds=0), *led_wrongly(members, [leader.node] if leader else [], "twin"),
        ]),
    )  # fmt: skip
    yield Control(
        name="standby that does not stream", breaks="a standby said to be cut off", expects=("REDUNDANCY-NOT-BACK",),
        always=False,
        look=lambda: Seen(victim=victim, findings=missing(turned(streams=False, state=""), settings, seconds=0)),
    )  # fmt: skip
    yield Control(
        name="standby that leads", breaks="a standby said to lead as well", expects=("WRONG-LEADER",), always=False,
        look=lambda: Seen(
            victim=victim, findings=led_wrongly(turned(role="leader"), [leader.node] if leader else [], "control")
        ),
    )  # fmt: skip
    table = next(iter(original.tables), "") if original else ""

    def altered() -> Seen:
        if original is None or not table:
            return Seen()
        rows = dataclasses.replace(original.tables[table], rows=original.tables[table].rows + 1)
        other = dataclasses.replace(original, tables={**original.tables, table: rows})
        return Seen(victim=table, findings=differences(original, other, "control"))

    yield Control(
        name="standby that holds another row", breaks="a table said to have one more row",
        expects=("STANDBY-DIFFERS",), always=False, look=altered,
    )  # fmt: skip


def _lines(path: Path) -> list[Line]:
    return list(read_lines(path))


def _taken_after(site: FailoverSite, second: Line | None, observed: Sequence[Line]) -> Line | None:
    """A row that its leader acknowledged once another had taken a write, and which is there; none where none is."""
    if second is None:
        return None
    address = {node.name: node.address for node in site.deployment.cluster.nodes}
    leader = {address[name] for name in address if name != second["node"]}
    names = dict[int, str]()
    for entry in read_lines(site.load.path):
        if entry["channel"] != "row":
            continue
        if entry["event"] == "attempt":
            names[entry["n"]] = entry["id"]
        elif entry["event"] == "acknowledged" and entry["t"] > second["t"] and entry.get("by") in leader:
            there = (line for line in observed if line["channel"] == "row" and line["id"] == names[entry["n"]])
            return next(there, None)
    return None


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

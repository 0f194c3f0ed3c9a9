"""What the auditor's page says beside the figures: the period, retests, exceptions, isolation, backups, files."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import population, sealing
from reports.population import PastDrill, PastRun, Scenario, State
from reports.records import Verdict

ITSELF: Final = "evidence.html"
# The checks whose results tell that a restored copy stayed apart from what it was restored from.
ISOLATION: Final = (
    "no way out of the sandbox over the network",
    "the transaction reached the copy",
    "archiving of the restored server",
    "archive untouched",
    "reach of the application",
    "left as it was",
)
# For runs of before a profile could say anything, and for those whose profile says nothing.
NOTHING_SAID: Final[Mapping[str, Any]] = {
    "operator": "", "reviewer": "", "ticket": "", "environment": "", "data": "", "in_scope": [], "out_of_scope": [],
    "waivers": [], "stale_days": population.STALE_DAYS, "ci": None,
}  # fmt: skip


def parts(evidence: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """All that has findings and negative controls: what was deployed, then the rehearsal of an upgrade."""
    rehearsal = evidence.get("rehearsal")
    return deployed(evidence) + ([("rehearsal of the upgrade", rehearsal)] if rehearsal else [])


def deployed(evidence: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every drill by its name, then what was checked of the deployment itself."""
    named = [(drill["drill"], drill) for drill in evidence["drills"]]
    return named + ([("conformance of the deployment", evidence["conformance"])] if evidence["conformance"] else [])


def period(evidence: Mapping[str, Any], runs: Sequence[PastRun], days: int) -> dict[str, Any]:
    """The runs of the ``days`` days before this one was opened, newest first, with what they come to.

    ``older`` counts the runs before that, ``ages`` is the time since the last success of each kind as of this run's
    end, ``stale_on`` the day after which this run counts as recent no more, where it is a success.
    """
    now = instant(evidence["closed_utc"] or evidence["opened_utc"])
    begin = now.date() - datetime.timedelta(days=days)
    others = [run for run in runs if run.run_id != evidence["run_id"] and not _later(run, now)]
    ours = next((run for run in runs if run.run_id == evidence["run_id"]), None)
    shown = population.since(others, begin, now.date())
    successes = population.last_successes([*others, *([ours] if ours else [])], now)
    states = Counter(_state(run) for run in shown) + Counter([evidence["verdict"]])
    return {
        "begin": begin.isoformat(),
        "end": now.date().isoformat(),
        "runs": shown[::-1],
        "older": len(others) - len(shown),
        "states": states,
        "ages": [(each, each.days(now)) for each in successes],
        "stale_on": (now.date() + datetime.timedelta(days=days)).isoformat(),
    }


def instant(utc: str) -> datetime.datetime:
    """An aware instant of an evidence's stamp, which its schema has let pass."""
    return datetime.datetime.fromisoformat(utc)


def _later(run: PastRun, now: datetime.datetime) -> bool:
    """A run that was opened after this one had ended: a page that is rendered again must say what it said."""
    return run.opened is not None and run.opened > now


def _state(run: PastRun) -> str:
    return str(run.verdict) if run.state is State.CLOSED and run.verdict else str(run.state)


def retests(evidence: Mapping[str, Any], runs: Sequence[PastRun]) -> list[dict[str, str]]:
    """Every drill of the period that did not pass, newest first, with the next run of its scenario.

    A negative control of a cluster is made to fail and is left out.
    """
    found = []
    for scenario, drills in population.scenarios(runs).items():
        for at, (run, drill) in enumerate(drills):
            if drill.verdict is not Verdict.PASSED and not drill.negative_control:
                found.append(_retest(scenario, run, drill, drills[at + 1 :], evidence))
    return sorted(found, key=lambda row: row["run_id"], reverse=True)


def _retest(scenario: Scenario, run: PastRun, drill: PastDrill, later: Sequence[tuple[PastRun, PastDrill]],
            evidence: Mapping[str, Any]) -> dict[str, str]:  # fmt: skip
    row = {"drill": scenario.drill, "run_id": run.run_id, "verdict": str(drill.verdict), "again": "", "came_to": ""}
    if later:
        return {**row, "again": later[0][0].run_id, "came_to": str(later[0][1].verdict)}
    ours = [each for each in evidence["drills"] if each["drill"] == drill.drill and run.run_id != evidence["run_id"]]
    same = [each for each in ours if evidence["profile"]["name"] == scenario.profile
            and each["provider"] == scenario.provider and each["stand_in"] == scenario.stand_in]  # fmt: skip
    return {**row, "again": evidence["run_id"], "came_to": same[0]["verdict"]} if same else row


def waivers(evidence: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each waiver, whether it had expired when the run was opened, and what of this run it speaks of."""
    day = instant(evidence["opened_utc"]).date()
    spoken = {(finding["code"], name) for name, part in parts(evidence) for finding in part["findings"]}
    spoken |= {(remark["what"], where) for remark, where in _left_out(evidence)}
    return [
        {
            **waiver,
            "expired": datetime.date.fromisoformat(waiver["expires"]) < day,
            "of": sorted({where for what, where in spoken if what == waiver["covers"]}),
        }
        for waiver in context["waivers"]
    ]


def skips(evidence: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """What was not tested, with the reason, and the parts of the run that left it out alike."""
    found: dict[tuple[str, str], list[str]] = {}
    for remark, where in _left_out(evidence):
        places = found.setdefault((remark["what"], remark["reason"]), [])
        if where not in places:
            places.append(where)
    return [(what, reason, places) for (what, reason), places in found.items()]


def _left_out(evidence: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, str], str]]:
    yield from ((remark, "the run") for remark in evidence["not_tested"])
    for name, part in parts(evidence):
        yield from ((remark, name) for remark in part["not_tested"])


def objections(evidence: Mapping[str, Any], context: Mapping[str, Any]) -> list[str]:
    """What an auditor would ask about the people and the authorisation of a run."""
    said = []
    if not context["operator"]:
        said.append("No operator was named.")
    if not context["reviewer"]:
        said.append("No reviewer was named.")
    elif context["reviewer"].casefold() == context["operator"].casefold():
        said.append("Operator and reviewer are the same person; a review is another person's.")
    if not context["ticket"]:
        said.append("No authorisation or ticket was named.")
    if not evidence["suite"]["commit"]:
        said.append("The suite's commit is unknown; the digest of its sources identifies it.")
    if expired := sum(row["expired"] for row in waivers(evidence, context)):
        said.append(f"{expired} {'waiver' if expired == 1 else 'waivers'} had expired before this run.")
    return said


def backups(journal: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every backup that the run's drills made or fetched, in their order, and whether it was the one restored."""
    restored = {drill["drill"]: (drill["backup"] or {}).get("manifest_sha256") for drill in evidence["drills"]}
    return [
        {
            "drill": event.get("drill", ""),
            "utc": event["utc"],
            "manifest": event.get("manifest_sha256", ""),
            "what": event.get("label", "") or ", ".join(sorted(event.get("components", {}))),
            "bytes": event.get("bytes"),
            "restored": event["kind"] == "shadow.fetched"
            or restored.get(event.get("drill")) == event["manifest_sha256"],
        }
        for event in journal
        if event["kind"] in ("backup.made", "shadow.fetched")
    ]


def isolation(drill: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The checks of a drill that tell how the restored copy was kept apart, with their verdicts."""
    return [(row["check"], row["verdict"]) for name in ISOLATION for row in drill["checks"] if row["check"] == name]


def artefacts(directory: Path) -> list[tuple[str, str]]:
    """The files of a run as they are now, with their SHA-256; not this page, nor what seals the run after it.

    Raises:
        HarnessError: one of them is no plain file, or cannot be read.
    """
    names = {name: digest for name, digest in sealing.sums_of(directory).items() if name != ITSELF}
    return sorted(names.items(), key=lambda each: (each[0].count("/"), each[0]))

"""The auditor's page, ``evidence.html``: one self-contained file in the order in which an auditor asks."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from reports import auditor_facts as facts
from reports import closing, controls, heat_map, page, population, trend, wording
from reports.population import PastRun
from reports.records import read_lines
from reports.templates import MOST_ROWS, environment, figures_of, style

MOST_RUNS: Final = 40
MOST_TRENDS: Final = 6
SECTIONS: Final = (
    ("system", "System and boundary"),
    ("objectives", "Objectives"),
    ("population", "Population: backups and runs of the period"),
    ("scenario", "Scenario, authorisation, proof of destruction and isolation"),
    ("people", "People"),
    ("tools", "Tools, command and clock"),
    ("timeline", "Timeline"),
    ("results", "Results"),
    ("integrity", "Integrity"),
    ("controls", "Negative controls"),
    ("conformance", "Health, log and credentials"),
    ("exceptions", "Exceptions"),
    ("map", "Control map"),
    ("artefacts", "Artefacts and verification"),
    ("sign-off", "Sign-off and lessons learned"),
)
_LEVELS: Final = {"destroy": "restore drill", "shadow": "shadow restore", "failover": "failover drill"}
_VERDICTS: Final = {
    "passed": "Everything that was tested and must hold held.",
    "failed": "Something that must hold did not hold.",
    "not tested": "What was tested held; a check that belongs to the run found nothing to look at.",
    "error": "It could not be verified whether what must hold does hold. That is not a pass.",
}
_SUITES: Final = ("health-", "audit_log-", "audit_events-", "credentials-", "forwarding-", "whole_logs-")
_READ_OUT: Final = ("deployment", "server", "database", "bucket", "tables", "rows", "objects", "clients")


def render(evidence: Mapping[str, Any], directory: Path, runs: Sequence[PastRun]) -> str:
    """The page as text.

    Args:
        evidence: the content of ``evidence.json``.
        directory: the run's, with every other artefact in it, for their digests, the ledgers and the journal.
        runs: the runs of the runs directory, oldest first; this one may be among them.

    Raises:
        HarnessError: the journal or another file of the run cannot be read.
    """
    journal = list(read_lines(directory / "journal.jsonl"))
    context = {**facts.NOTHING_SAID, **evidence.get("context", {})}
    period = facts.period(evidence, runs, context["stale_days"])
    supports = [row for row in controls.supported_by(evidence) if row.results]
    return (
        environment()
        .get_template("auditor.html.j2")
        .render(
            evidence=evidence,
            context=context,
            sections=SECTIONS,
            levels=_LEVELS,
            verdict_words=_VERDICTS[evidence["verdict"]],
            counted=_counted(evidence),
            lasted=page.lasted(journal),
            command=shlex.join(evidence["command"]),
            stand_ins=any(part["stand_in"] for _, part in facts.parts(evidence)),
            not_stock=wording.not_stock(evidence["drills"]),
            timing_of=wording.timing_of,
            no_target=closing.no_target(evidence),
            drills=_drills(evidence, journal, directory),
            period=period,
            systems=_systems(evidence),
            scales=next((drill["scale"] for drill in evidence["drills"] if drill["scale"]), {}),
            objectives=_objectives(evidence),
            manifests=sorted({each["backup"]["manifest_sha256"] for each in evidence["drills"] if each["backup"]}),
            previous=evidence.get("previous"),
            key_id=evidence.get("key_id", ""),
            backups=facts.backups(journal, evidence),
            tools=_tools(evidence),
            looked=_looked(evidence),
            controlled=facts.parts(evidence),
            objections=facts.objections(evidence, context),
            failing=[each for each in facts.parts(evidence) if each[1]["findings"] or each[1]["verdict"] != "passed"],
            retests=facts.retests(evidence, period["runs"][::-1]),
            skips=facts.skips(evidence),
            waivers=facts.waivers(evidence, context),
            supports=supports,
            without=len(controls.every_control()) - len(supports),
            artefacts=facts.artefacts(directory),
            **_drawings(evidence, runs, period["runs"]),
            figure=figures_of(evidence),
            most=MOST_ROWS,
            most_runs=MOST_RUNS,
            style=style("shared.css", "auditor.css") + _running_head(evidence["run_id"]),
        )
    )


def _running_head(run_id: str) -> Markup:
    """The run and the page's number at the foot of every printed page; of the id only what may stand in a style."""
    safe = re.sub(r"[^A-Za-z0-9-]", "", run_id)[:40]
    foot = '@page {{ @bottom-left {{ content: "Run {}"; {} }} @bottom-right {{ content: "Page " counter(page) " of "' \
        " counter(pages); {} }} }}"  # fmt: skip
    look = "font: 8pt system-ui, sans-serif; color: #444"
    return Markup(foot.format(safe, look, look))  # noqa: S704 - letters, digits and dashes in a text of ours


def _drills(evidence: Mapping[str, Any], journal: list[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
    read_out = {event["drill"]: event for event in journal if event["kind"] == "read_out"}
    return [
        {
            **entry,
            "at": at,
            "of": {"level": "", **entry["of"]},
            "isolation": facts.isolation(entry["of"]),
            "read_out": {
                key: value for key, value in read_out.get(entry["of"]["drill"], {}).items() if key in _READ_OUT
            },
        }
        for at, entry in enumerate(page.described(evidence, journal, directory))
    ]


def _counted(evidence: Mapping[str, Any]) -> str:
    """How many drills, checks, rehearsals and failures there were, in one sentence."""
    drills, conformance = evidence["drills"], evidence["conformance"]
    failures = sum(each["severity"] == "failure" for _, part in facts.parts(evidence) for each in part["findings"])
    said = [f"{len(drills)} {'drill' if len(drills) == 1 else 'drills'}"] if drills or not conformance else []
    if conformance:
        skipped = sum(row["verdict"] == "not tested" for row in conformance["checks"])
        said.append(f"{len(conformance['checks'])} conformance checks ({skipped} not tested)")
    if rehearsal := evidence.get("rehearsal"):
        said.append(f"a rehearsal of an upgrade ({rehearsal['verdict']})")
    said.append(f"{failures} {'finding that fails' if failures == 1 else 'findings that fail'} the run")
    planted = evidence["controls"]["planted"]
    said.append(
        f"{evidence['controls']['score']} negative controls caught" if planted else "no negative control planted"
    )
    return ", ".join(said) + "."


def _systems(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every deployment once. Where its stores were is told of somebody else's; of the suite's own it changes."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for _, part in facts.deployed(evidence):
        told = part.get("deployment") or {}
        told = told if isinstance(told, Mapping) else {"name": told}
        name = told.get("name") or part["provider"]
        where = {} if part["stand_in"] else {key: text for key, text in told.items() if key != "name"}
        row = {"name": name, "architecture": part["architecture"], "provider": part["provider"],
               "stand_in": part["stand_in"], "where": where}  # fmt: skip
        known = found.setdefault((name, part["architecture"], part["provider"]), row)
        known["where"] = known["where"] or where
    return list(found.values())


def _objectives(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each objective once, with where it stands first and how many drills it was in force for."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for at, drill in enumerate(evidence["drills"]):
        for number, row in enumerate(drill["objectives"]):
            key = drill["architecture"], row["objective"], row["target_ns"], row["source"]
            first = {"architecture": drill["architecture"], "objective": row["objective"], "source": row["source"],
                     "path": f"drills.{at}.objectives.{number}", "drills": 0}  # fmt: skip
            found.setdefault(key, first)["drills"] += 1
    return list(found.values())


def _tools(evidence: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for _, part in facts.deployed(evidence):
        for tool, version in part["tools"].items():
            found.setdefault(tool, {})[version] = None
    return {tool: list(versions) for tool, versions in found.items()}


def _looked(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checks of health, log and credentials that drills made of what they restored."""
    return [
        {"drill": drill["drill"], "check": row}
        for drill in evidence["drills"]
        for row in drill["checks"]
        if row["check"].startswith(_SUITES)
    ]


def _drawings(evidence: Mapping[str, Any], runs: Sequence[PastRun], shown: Sequence[PastRun]) -> dict[str, Any]:
    """Coverage over the period by drills of this run's kinds, and trends of its scenarios that were drilled before."""
    ours = [run for run in runs if run.run_id == evidence["run_id"]]
    of_period = [*shown[::-1], *ours]
    kinds = {(each["architecture"], each.get("level", "destroy"), each["stand_in"]) for each in evidence["drills"]}
    alike = [
        dataclasses.replace(
            run, drills=tuple(each for each in run.drills if (each.architecture, each.level, each.stand_in) in kinds)
        )
        for run in of_period
    ]  # fmt: skip
    names = {drill["drill"] for drill in evidence["drills"]}
    several = [
        drills
        for scenario, drills in population.scenarios(of_period).items()
        if scenario.drill in names and scenario.profile == evidence["profile"]["name"] and len(drills) > 1
    ]
    trends = [
        {
            "drill": drills[-1][1].drill,
            "figures": [
                trend.trend(drills, what, f"trend-{number}-{which}")
                for which, what in enumerate((trend.TIME, trend.POINT))
            ],
        }
        for number, drills in enumerate(several[:MOST_TRENDS])
    ]
    return {
        "maps": heat_map.heat_maps(alike, "coverage"),
        "trends": trends,
        "scenarios_left_out": len(several) - len(trends),
    }

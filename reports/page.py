"""Our summary on top of pytest-html's page: verdict, objectives, drawings, findings, controls, checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from reports import closing, figures, replication_figure, wording
from reports.assessment import ledger_files
from reports.records import HarnessError, format_duration, read_lines
from reports.templates import MOST_ROWS, environment, figures_of, style
from reports.writes import gather

# Marks a lane of all drawings together: a page of many drills stays small enough to be opened and sent.
MARKS_IN_ALL: Final = 4_000


def render(evidence: Mapping[str, Any], directory: Path) -> str:
    """The summary as one HTML fragment, self-contained, styled under the one class ``restore-evidence``.

    Args:
        evidence: the content of ``evidence.json``.
        directory: the run's, for the ledger's drawing; a ledger that cannot be read leaves its drawing out.
    """
    journal = list(read_lines(directory / "journal.jsonl"))
    drills = described(evidence, journal, directory)
    return (
        environment()
        .get_template("summary.html.j2")
        .render(
            evidence=evidence,
            drills=drills,
            most=MOST_ROWS,
            figure=figures_of(evidence),
            style=style("shared.css", "summary.css"),
            lasted=lasted(journal),
            not_stock=wording.not_stock(evidence["drills"]),
            timing_of=wording.timing_of,
            no_target=closing.no_target(evidence),
        )
    )


def described(evidence: Mapping[str, Any], journal: list[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
    """Each drill (``of``) with its drawings and how sharp its figures are; all the names that templates ask for."""
    most = min(figures.MOST_MARKS, MARKS_IN_ALL // max(len(evidence["drills"]), 1))
    return [
        {
            "of": {"shadow": None, "failover": None, "rebuilt": None, "deployment": {}, **drill},
            "timeline": figures.timeline(drill, f"timeline-{number}"),
            "ledgers": _ledgers(journal, directory, drill, number, most),
            "replication": _replication(drill, number),
            "uncertainties": [wording.uncertainty(row, drill) for row in drill["objectives"]],
        }
        for number, drill in enumerate(evidence["drills"])
    ]


def lasted(journal: list[dict[str, Any]]) -> str:
    """How long a run lasted, up to the last event of its journal."""
    return format_duration(journal[-1]["t"]) if journal else ""


def _replication(drill: Mapping[str, Any], number: int) -> list[Markup]:
    """The drawings of who led when, whole and around the outage, of a failover drill that was watched."""
    if not drill.get("failover"):
        return []
    whole = replication_figure.replication(drill, f"replication-{number}")
    near = replication_figure.replication(drill, f"replication-near-{number}", closely=True)
    return [each for each in (whole, near) if each is not None]


def _ledgers(
    journal: list[dict[str, Any]], directory: Path, drill: Mapping[str, Any], number: int, most: int
) -> list[Markup]:
    """The ledger's two drawings, whole and around the strike, where there is a ledger that was observed."""
    ours = [event for event in journal if event.get("drill") == drill["drill"]]
    try:
        ledger, observed = ledger_files(ours, directory)
        if ledger is None or observed is None or not drill["recovery_point"]["channels"]:
            return []
        writes = gather(read_lines(ledger), read_lines(observed))
    except HarnessError:
        return []
    return [
        figures.ledger(writes, drill, f"ledger-{number}", most=most),
        figures.ledger(writes, drill, f"ledger-near-{number}", closely=True, most=most),
    ]

"""Our summary on top of pytest-html's page: verdict, objectives, drawings, findings, controls, checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from reports import figures, replication_figure, wording
from reports.assessment import ledger_files
from reports.records import HarnessError, format_duration, read_lines
from reports.writes import gather

MOST_ROWS: Final = 200


def render(evidence: Mapping[str, Any], directory: Path) -> str:
    """The summary as one HTML fragment, self-contained, styled under the one class ``restore-evidence``.

    Args:
        evidence: the content of ``evidence.json``.
        directory: the run's, for the ledger's drawing; a ledger that cannot be read leaves its drawing out.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bounded=wording.bounded,
        duration=wording.duration,
        looked_at=wording.looked_at,
        lost=wording.lost,
        size=wording.size,
        target=wording.target,
    )
    journal = list(read_lines(directory / "journal.jsonl"))
    drills = [
        {
            "of": {"shadow": None, "failover": None, "rebuilt": None, "deployment": {}, **drill},
            "timeline": figures.timeline(drill, f"timeline-{number}"),
            "ledgers": _ledgers(journal, directory, drill, number),
            "replication": _replication(drill, number),
            "uncertainties": [wording.uncertainty(row, drill) for row in drill["objectives"]],
        }
        for number, drill in enumerate(evidence["drills"])
    ]
    return environment.get_template("summary.html.j2").render(
        evidence=evidence,
        drills=drills,
        most=MOST_ROWS,
        style=Markup(_style()),  # noqa: S704 - our own file
        lasted=_lasted(journal),
        not_stock=wording.not_stock(evidence["drills"]),
        timing_of=wording.timing_of,
    )


def _style() -> str:
    return Path(__file__).with_name("summary.css").read_text("utf-8")


def _lasted(journal: list[dict[str, Any]]) -> str:
    return format_duration(journal[-1]["t"]) if journal else ""


def _replication(drill: Mapping[str, Any], number: int) -> list[Markup]:
    """The drawings of who led when, whole and around the outage, of a failover drill that was watched."""
    if not drill.get("failover"):
        return []
    whole = replication_figure.replication(drill, f"replication-{number}")
    near = replication_figure.replication(drill, f"replication-near-{number}", closely=True)
    return [each for each in (whole, near) if each is not None]


def _ledgers(journal: list[dict[str, Any]], directory: Path, drill: Mapping[str, Any], number: int) -> list[Markup]:
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
        figures.ledger(writes, drill, f"ledger-{number}"),
        figures.ledger(writes, drill, f"ledger-near-{number}", closely=True),
    ]

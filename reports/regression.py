"""Whether a recovery took longer than the last ones like it, by more than their spread.

What was compared with enters the journal as a fact (``history.read``), so that the judgement can be computed again from
the journal alone, whatever has become of the runs before.

The rule is ``docs/history.md``'s. Median and median absolute deviation stand where half of the figures may be wild. The
deviation times 1.4826 estimates the standard deviation of normal noise (P. J. Rousseeuw and C. Croux, "Alternatives to
the Median Absolute Deviation", Journal of the American Statistical Association 88 (1993), 1273-1283); three of them is
the conservative limit of C. Leys et al., Journal of Experimental Social Psychology 49 (2013), 764-766.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from reports import population_files as files
from reports.measures import Event, last_of, of_kind
from reports.population import PastDrill, PastRun, State, unassessed
from reports.records import Finding, Verdict, format_duration

KIND: Final = "history.read"
LEAST: Final = 5
MOST: Final = 20
SLOWER, NOT_SLOWER, TOO_FEW, NOT_MEASURED = "slower", "not slower", "too few to tell", "not measured"


def facts(events: Sequence[Event], runs: Sequence[PastRun]) -> Iterator[dict[str, Any]]:
    """The fields of one ``history.read`` for each drill of a run, but for negative controls of a row.

    Args:
        events: the run's, before it is closed.
        runs: the runs before it, oldest first.
    """
    told = msgspec.convert(next(event for event in events if event["kind"] == "run.opened"), files.Event)
    for event in of_kind(events, "drill.opened"):
        drill = unassessed(msgspec.convert(event, files.Event))
        if drill.negative_control:
            continue
        same = likeness(drill, told.profile.name, files.host_of(told.host))
        alike, unlike = [], 0
        for run in runs:
            for past in run.drills:
                if past.drill != drill.drill or not _counts(run, past):
                    continue
                if likeness(past, run.profile, run.host) == same:
                    alike.append({"run_id": run.run_id, "achieved_ns": past.recovery_time_ns})
                else:
                    unlike += 1
        yield {"drill": drill.drill, "same": same, "compared": alike[-MOST:], "unlike": unlike}


def likeness(drill: PastDrill, profile: str, host: str) -> dict[str, Any]:
    """What must be the same of two drills before their times are compared."""
    return {
        "level": drill.level,
        "architecture": drill.architecture,
        "provider": drill.provider,
        "stand_in": drill.stand_in,
        "disaster": drill.disaster,
        "methods": dict(drill.methods),
        "scale": dict(drill.scale),
        "not_stock": drill.not_stock,
        "profile": profile,
        "host": host,
    }


def _counts(run: PastRun, drill: PastDrill) -> bool:
    ended = run.state in (State.CLOSED, State.RETIRED)
    return ended and drill.verdict is Verdict.PASSED and drill.recovery_time_ns is not None


def limit(past_ns: Sequence[int], uncertainty_ns: int) -> tuple[int, int, int]:
    """Median, spread and limit of past recovery times, in nanoseconds; of an even number the lower median.

    The limit is the median and the greatest of three spreads, the measurement's own uncertainty and a tenth of the
    median. Integers all through, so that every reader computes the same.

    Raises:
        statistics.StatisticsError: there are none.
    """
    median = statistics.median_low(past_ns)
    spread = statistics.median_low([abs(each - median) for each in past_ns]) * 14826 // 10000
    return median, spread, median + max(3 * spread, uncertainty_ns, median // 10)


def with_history(drill: dict[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    """A drill's part of the evidence with the judgement beside it; as it was where the journal tells of no history.

    The finding is a notice: a recovery within its objective does not fail because the machine was slow today.
    """
    read = last_of(events, KIND)
    if read is None:
        return drill
    compared = [{"run_id": str(row["run_id"]), "achieved_ns": int(row["achieved_ns"])} for row in read["compared"]]
    took = drill["recovery_time"]
    row: dict[str, Any] = {
        "same": dict(read["same"]),
        "compared": compared,
        "unlike": int(read["unlike"]),
        "median_ns": None,
        "spread_ns": None,
        "limit_ns": None,
        "judgement": NOT_MEASURED if took["achieved_ns"] is None else TOO_FEW,
    }
    findings = list(drill["findings"])
    if len(compared) >= LEAST:
        past = [int(each["achieved_ns"]) for each in read["compared"]]
        row["median_ns"], row["spread_ns"], row["limit_ns"] = limit(past, took["uncertainty_ns"] or 0)
        if took["achieved_ns"] is not None:
            row["judgement"] = SLOWER if took["achieved_ns"] > row["limit_ns"] else NOT_SLOWER
    if row["judgement"] == SLOWER:
        seen = (f"{format_duration(took['achieved_ns'])}, where the last {len(compared)} runs like it took"
                f" {format_duration(row['median_ns'])} in the median: more than {format_duration(row['limit_ns'])} is"
                " beyond their spread")  # fmt: skip
        findings.append(Finding(code="RECOVERY-SLOWER", seen=seen, where="recovery time").as_record())
    return drill | {"history": row, "findings": findings}

"""The recovery point of a drill that has a ledger: its channels, their account, and how sharp it is. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from reports.accounting import Accounting, account
from reports.measures import Event, last_of
from reports.records import Verdict, format_duration

BASIS: Final = "acknowledged-write ledger"


def channels(events: Sequence[Event], opened: Event) -> tuple[list[str], dict[str, int]]:
    """The ledger's channels that were written to, and their intervals where they have one of their own."""
    ledger, started = opened["ledger"], last_of(events, "ledger.opened")
    names = started["channels"] if started and "channels" in started else ledger["channels"]
    return list(names), dict(ledger.get("intervals_ns", {}))


def account_of(
    events: Sequence[Event], opened: Event, strike_ns: int, gone_ns: int,
    ledger_lines: Iterable[Mapping[str, Any]], observed_lines: Iterable[Mapping[str, Any]],
) -> Accounting:  # fmt: skip
    """The account of a drill's ledger; arguments and errors as of ``accounting.account``."""
    names, apart = channels(events, opened)
    return account(ledger_lines, observed_lines, strike_ns, gone_ns=gone_ns, intervals_ns=apart,
                   interval_ns=opened["ledger"]["interval_ns"], channels=names)  # fmt: skip


def of(accounting: Accounting | None, opened: Event) -> dict[str, Any]:
    """The drill's ``recovery_point`` in ``evidence.json``."""
    return {
        "achieved_ns": accounting.rpo_achieved_ns if accounting else None,
        "lower_bound": bool(accounting and accounting.lower_bound),
        "worst_channel": accounting.worst_channel if accounting else "",
        "basis": BASIS,
        "resolution_ns": accounting.resolution_ns if accounting else opened["ledger"]["interval_ns"],
        "channels": [dataclasses.asdict(each) for each in accounting.channels] if accounting else [],
    }


def too_coarse(rpo: Mapping[str, Any], accounting: Accounting | None) -> list[tuple[Verdict, str]]:
    """Why an achieved recovery point does not show that its target was met, where it does not."""
    if accounting is None or rpo["achieved_ns"] is None or rpo["verdict"] != Verdict.ERROR:
        return []
    interval, target = format_duration(accounting.resolution_ns), format_duration(rpo["target_ns"])
    return [(Verdict.ERROR, f"no write was lost, and with one write every {interval} in channel"
                            f" {accounting.worst_channel} that does not show that at most {target} were: shorten the"
                            " load's interval")]  # fmt: skip

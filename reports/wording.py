"""How figures and foreign text are put into words, for the page and for the terminal alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from reports.records import format_duration

LONGEST: Final = 1200
_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)\Z")
# Controls, halves of pairs, and what Unicode calls default ignorable or draws as nothing (Unicode 15.0,
# DerivedCoreProperties.txt): fillers, joiners, variation selectors, annotations, tags.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def bounded(text: object, longest: int = LONGEST) -> str:
    """Foreign text, fit to be shown: terminal codes out, unseen and direction-turning characters named, length bounded.

    It is not escaped for HTML: the template does that.
    """
    whole = str(text)
    # Cut before searching: a text of many megabytes must not cost more than what is shown of it.
    shown = _UNSEEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", _ANSI.sub("", whole[: longest * 4]))
    if len(shown) <= longest and len(whole) <= longest * 4:
        return shown
    return f"{shown[:longest]}… ({len(whole):,} characters in all; the rest is in evidence.json)"


def one_line(text: object, longest: int = LONGEST) -> str:
    """As ``bounded``, on one line."""
    return " ".join(bounded(text, longest).split())


def duration(nanoseconds: int | None) -> str:
    """A duration, or ``not measured``."""
    return "not measured" if nanoseconds is None else format_duration(nanoseconds)


def instant(utc: str | None) -> str:
    """An instant of a journal, as ``2026-11-22 21:04:03 UTC``; of another form as it is, or ``not known``."""
    whole = _INSTANT.match(utc or "")
    return f"{whole[1]} {whole[2]} UTC" if whole else one_line(utc or "not known", 60)


def target(objective: Mapping[str, Any]) -> str:
    """An objective's target, or that there is none."""
    return "no target" if objective["target_ns"] is None else format_duration(objective["target_ns"])


def uncertainty(objective: Mapping[str, Any], drill: Mapping[str, Any]) -> str:
    """How sharp an objective's figure is: the interval of the recovery time, the resolution of the recovery point."""
    if objective["achieved_ns"] is None:
        return ""
    if objective["objective"] == "rpo" and not drill["recovery_point"]["resolution_ns"]:
        taken = any(backup["taken"] for backup in drill["shadow"]["backups"]) if drill.get("shadow") else False
        return "of a backup made for this drill" if taken else "of the backup's own account"
    if objective["objective"] == "rpo":
        known = f"resolution {format_duration(drill['recovery_point']['resolution_ns'])}"
        return f"{known}; {lost(drill)}, before or after the strike" if lost(drill) else known
    took = drill["recovery_time"]
    return f"between {format_duration(took['lower_ns'])} and {format_duration(took['upper_ns'])}{stock(drill)}"


def lost(drill: Mapping[str, Any]) -> str:
    """What must stand beside a failover drill's recovery point: writes acknowledged after the strike are not in it."""
    count = drill["failover"]["counts"]["lost"] if drill.get("failover") else 0
    return f"{count:,} acknowledged {'write' if count == 1 else 'writes'} lost" if count else ""


def stock(drill: Mapping[str, Any]) -> str:
    """What must stand beside every time of a cluster whose timing is not stock; empty for any other drill."""
    timing = timing_of(drill)
    return "; timing NOT STOCK" if timing and not timing["stock"] else ""


def timing_of(drill: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The timing of the cluster that was drilled; none where there was no cluster."""
    cluster = drill.get("failover") or drill.get("rebuilt")
    return cluster["timing"] if cluster else None


def not_stock(drills: Sequence[Mapping[str, Any]]) -> list[str]:
    """The labels of the timings that are not stock, one for each drill that had one."""
    return [timing["label"] for drill in drills if stock(drill) and (timing := timing_of(drill))]


def counted(count: int, what: str) -> str:
    """A number of things, by the word for one of them: ``1 run``, ``1,200 runs``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def looked_at(counts: Mapping[str, int]) -> str:
    """What a check looked at, such as ``1,200 rows, 34 tables``."""
    said = ((count, one_line(what, 60)) for what, count in counts.items())
    return ", ".join(f"{count:,} {_one_of(what) if count == 1 else what}" for count, what in said) or "nothing"


def _one_of(what: str) -> str:
    """``commands killed`` and ``index entries`` for one: the first word in the plural, or else the last, without it."""
    first, space, rest = what.partition(" ")
    if rest and not first.endswith("s"):
        before, space, last = what.rpartition(" ")
        return f"{before}{space}{_singular(last)}"
    return f"{_singular(first)}{space}{rest}"


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word if word.endswith(("ss", "us", "is")) else word.removesuffix("s")


def size(count: int) -> str:
    """Bytes in decimal units: ``840 B``, ``12.3 MB``."""
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"

"""What is told of a run to people who did not watch it: a few lines, worst first, bounded, every foreign text escaped.

The lines are Slack's mrkdwn (https://docs.slack.dev/messaging/formatting-message-text): ``&``, ``<`` and ``>`` are
escaped, so that no link and no mention can be made by what was found; foreign text stands between backticks, where
neither Slack nor Mattermost looks for formatting.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from reports import evidence, wording
from reports.assessment import assess_run, shaped
from reports.records import HarnessError

GATE_NAME: Final = "gate.json"
_DECISIONS: Final = ("go", "no-go", "undecided")
# In this order; what is not named is a pass.
WORST_FIRST: Final = ("error", "failed", "not tested")
_MENTION: Final = re.compile(r"@(?=(?:channel|here|everyone|all)\b)", re.IGNORECASE)
_LINK: Final = re.compile(r"https?://[!#-;=?-{}~]{1,500}")
_DRILLS, _FINDINGS, _REASONS = 8, 3, 3
_LONG, _SHORT = 200, 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notice:
    """What is told of one run: whether it is ``bad``, a title, and lines of mrkdwn of which the first matter most."""

    bad: bool
    title: str
    lines: tuple[str, ...]


def foreign(text: object, longest: int = _LONG) -> str:
    """Text that is not ours as one bounded piece of code, in which nothing is a link, a mention or a format."""
    shown = wording.one_line(text, longest).replace("`", "ˋ")
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"`{_MENTION.sub('＠', escaped) or ' '}`"


def link_to(link: str, run_id: str) -> str:
    """A link in mrkdwn; ``{run}`` in it becomes the run's id."""
    return f"<{link.replace('{run}', urllib.parse.quote(run_id)).replace('&', '&amp;')}>"


def is_link(text: str) -> bool:
    """Whether a text can be a link: a URL of the web that holds nothing by which it would end early."""
    return bool(_LINK.fullmatch(text))


def of_nothing(runs_directory: Path, since: str) -> Notice:
    """Of a drill that left no run: it could not be set up, its input was refused, or nothing was selected."""
    return Notice(
        bad=True,
        title="Restore drills: no run was recorded",
        lines=(
            f"no run since {foreign(since)} in {foreign(runs_directory)}",
            "remedy: read the scheduler's own log; exit code 4 is input that was refused, 5 a selection of nothing",
        ),
    )


def of_run(directory: Path, link: str = "") -> Notice:
    """Of the run in a directory, finished or aborted; one whose files cannot be read is told as that."""
    where = f"report: {link_to(link, directory.name) if link else foreign(_page(directory))}"
    try:
        kept = _evidence(directory)
        gate = evidence.read(directory / GATE_NAME) if (directory / GATE_NAME).exists() else None
        with shaped(directory):
            return _of_evidence(kept, gate, where)
    except HarnessError as problem:
        seen = (f"run {foreign(directory.name)}", where, foreign(problem, 400), "nothing of this run is proved")
        return Notice(bad=True, title="Restore drills: the record of a run cannot be read", lines=seen)


def _evidence(directory: Path) -> Mapping[str, Any]:
    """The run's evidence; of one that was aborted, what follows from its journal.

    Raises:
        HarnessError: neither can be used.
    """
    path = directory / evidence.FILE_NAME
    if not path.exists():
        with shaped(directory):
            return assess_run(directory)
    kept: Mapping[str, Any] = evidence.read(path)
    if wrong := evidence.problems(kept):
        raise HarnessError(str(path), seen=wrong[0], remedy="fetch the run's files from where they were first archived")
    return kept


def _page(directory: Path) -> Path:
    pages = (directory / name for name in ("evidence.html", "report.html"))
    return next((page for page in pages if page.exists()), directory)


def _of_evidence(kept: Mapping[str, Any], gate: Mapping[str, Any] | None, where: str) -> Notice:
    what = "Restore drills" if kept["drills"] or not kept["conformance"] else "Conformance checks"
    verdict = "aborted" if kept["aborted"] else kept["verdict"]
    bad, title = verdict != "passed", f"{what}: {verdict}"
    if gate is not None:
        decision = _DECISIONS[_DECISIONS.index(gate["decision"])]  # a title is not escaped: one of ours, or unreadable
        bad, title = bad or decision != "go", f"Gate before an upgrade: {decision}"
    return Notice(bad=bad, title=title, lines=(*_head(kept), where, *_gate(gate), *_body(kept)))


def _head(kept: Mapping[str, Any]) -> Iterator[str]:
    yield f"run {foreign(kept['run_id'], 60)}, begun {foreign(kept['opened_utc'], 60)}"
    yield f"profile {foreign(kept['profile']['name'], _SHORT)}"
    judged = [*kept["drills"], *([kept["conformance"]] if kept["conformance"] else [])]
    if any(each["stand_in"] for each in judged):
        yield "of the reference application, a stand-in; not the Enprivacy product"


def _gate(gate: Mapping[str, Any] | None) -> Iterator[str]:
    reasons = [each for each in (gate or {}).get("reasons", []) if each["verdict"] != "passed"]
    for each in reasons[: _REASONS * 2]:
        code = each.get("code") or each["verdict"]
        yield f"{foreign(code, 60)} {foreign(each['what'], _SHORT)}: {foreign(each['seen'])}"
        yield f"remedy: {foreign(each['remedy'])}"
    yield from _more(len(reasons) - _REASONS * 2, "reason")


def _body(kept: Mapping[str, Any]) -> Iterator[str]:
    yield from (foreign(reason) for reason in kept["reasons"][:_REASONS])
    drills = sorted((each for each in kept["drills"] if each["verdict"] in WORST_FIRST),
                    key=lambda each: WORST_FIRST.index(each["verdict"]))  # fmt: skip
    for drill in drills[:_DRILLS]:
        yield f"{foreign(drill['drill'], _SHORT)}: {drill['verdict']}; {'; '.join(_against(drill))}"
        yield from (foreign(reason) for reason in drill["reasons"][:_REASONS])
        yield from _judged(drill)
    yield from _more(len(drills) - _DRILLS, "drill that did not pass", "drills that did not pass")
    conformance = kept["conformance"]
    if conformance and conformance["verdict"] in WORST_FIRST:
        yield f"conformance of {foreign(conformance['deployment'], _SHORT)}: {conformance['verdict']}"
        yield from _judged(conformance)
    passed = [each for each in kept["drills"] if each["verdict"] not in WORST_FIRST]
    if passed:
        yield f"{len(passed)} of {len(kept['drills'])} {'drill' if len(kept['drills']) == 1 else 'drills'} passed"
        yield from (f"{foreign(each['drill'], _SHORT)}: {'; '.join(_against(each))}" for each in passed[:_DRILLS])
        yield from _more(len(passed) - _DRILLS, "drill that passed", "drills that passed")


def _against(drill: Mapping[str, Any]) -> Iterator[str]:
    """What a drill achieved against its objectives."""
    names = {"rto": "recovery time", "rpo": "recovery point"}
    for each in drill["objectives"]:
        least = "at least " if each["lower_bound"] else ""
        mark = wording.stock(drill) if each["objective"] == "rto" else ""
        target = wording.target(each)
        against = target if each["target_ns"] is None else f"target {target}, {each['verdict']}"
        achieved = wording.duration(each["achieved_ns"])
        yield f"{names[each['objective']]} {least}{achieved} ({against}{mark})"
    if lost := wording.lost(drill):
        yield lost


def _judged(part: Mapping[str, Any]) -> Iterator[str]:
    """What failed in a drill, or among the conformance checks: findings, checks that broke, controls not caught."""
    findings = [each for each in part["findings"] if each["severity"] == "failure"]
    for each in findings[:_FINDINGS]:
        yield f"{foreign(each['code'], 60)} {foreign(each['title'], _SHORT)}: {foreign(each['seen'])}"
        yield f"remedy: {foreign(each['remedy'])}"
    yield from _more(len(findings) - _FINDINGS, "finding")
    broken = [each for each in [*part["checks"], *part["controls"]["rows"]] if each["error"]]
    for each in broken[:_FINDINGS]:
        yield f"{foreign(each.get('check') or each['control'], _SHORT)} broke: {foreign(each['error'])}"
    missed = [each["control"] for each in part["controls"]["rows"] if each["verdict"] == "failed"]
    if missed:
        yield f"controls {part['controls']['score']} caught; first of those that were not: {foreign(missed[0], _SHORT)}"


def _more(count: int, one: str, many: str = "") -> Iterator[str]:
    if count > 0:
        yield f"… and {count:,} more {one if count == 1 else many or one + 's'}"

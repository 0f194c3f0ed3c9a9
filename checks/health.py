"""What health endpoints answered, judged: code and body, time, truth while a dependency is away, secrets."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from fixtures.health import Answer
from fixtures.health_convention import Convention, HealthProfile
from reports.records import Finding, format_duration

OK: Final = 200
# How many answers in a row make a state.
STEADY: Final = 3
Word = Literal["up", "degraded", "down", ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What a body says: a word of the convention, or none that it knows; ``problem``: why it cannot be read.

    ``parts_down``: parts of which it says that they are down.
    """

    word: Word = ""
    problem: str = ""
    parts_down: tuple[str, ...] = ()


def read_body(body: bytes, convention: Convention) -> Reading:
    """Read a body as the convention writes it. It never raises, whatever the bytes."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unambiguous, parse_constant=_no_number)
        word = value.get(convention.member) if isinstance(value, dict) else None
        known = _known(word, convention)
        if known or (convention.body == "text" and not isinstance(value, dict)):
            parts = value.get(convention.parts) if isinstance(value, dict) else None
            return Reading(word=known, parts_down=tuple(sorted(_down(parts, convention, convention.parts))))
        problem = f"its {convention.member!r} is no word of {convention.name}"
        return Reading(problem="" if convention.body == "text" else problem)
    except UnicodeDecodeError:
        return Reading(problem="it is not UTF-8")
    except (ValueError, RecursionError) as trouble:
        if convention.body == "text":
            return Reading(word=_word_of_text(body.decode("utf-8"), convention))
        return Reading(problem=f"it is not JSON ({type(trouble).__name__})" if body else "it is empty")


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _known(word: Any, convention: Convention) -> Word:
    if not isinstance(word, str):
        return ""
    if word in convention.down:
        return "down"
    if word in convention.degraded:
        return "degraded"
    return "up" if word in convention.up else ""


def _word_of_text(text: str, convention: Convention) -> Word:
    words = f" {' '.join(''.join(each if each.isalnum() else ' ' for each in text.casefold()).split())} "

    def holds(any_of: Sequence[str]) -> bool:
        return any(f" {each.casefold()} " in words for each in any_of)

    # "not ok" holds "ok", and a list of parts holds one that failed beside those that did not.
    if holds(convention.down):
        return "down"
    if holds(convention.degraded):
        return "degraded"
    return "up" if holds(convention.up) else ""


def _down(part: Any, convention: Convention, name: str) -> Iterator[str]:
    """The parts said to be down: words, objects that hold one, and lists and mappings of these."""
    if isinstance(part, str) and part in convention.down:
        yield name
    elif isinstance(part, list):
        for each in part:
            yield from _down(each, convention, name)
    elif isinstance(part, dict) and isinstance(part.get(convention.member), str):
        if part[convention.member] in convention.down:
            yield str(part.get("name", name))
    elif isinstance(part, dict):
        for key, each in part.items():
            yield from _down(each, convention, key)


def judge_body(answer: Answer, health: HealthProfile) -> Iterator[Finding]:
    """Code and body of one answer: both known, in agreement, readable, small."""
    convention = health.convention
    if answer.status == 0:
        # What was given up hangs, which is judged by its time.
        if not answer.late:
            yield Finding(code="HEALTH-NO-ANSWER", seen=_shown(answer), where=answer.where)
        return
    if answer.status not in (OK, *convention.unready_codes):
        known = ", ".join(map(str, (OK, *convention.unready_codes)))
        yield Finding(code="HEALTH-CODE-UNKNOWN", seen=f"{answer.status}, not of {known}", where=answer.where)
        return
    if len(answer.body) > health.body_bytes:
        seen = f"more than {health.body_bytes} bytes"
        yield Finding(code="HEALTH-BODY-TOO-LARGE", seen=seen, where=answer.where)
        return
    if answer.problem:
        if not answer.late:
            seen = f"it ended before its end ({answer.problem})"
            yield Finding(code="HEALTH-BODY-UNREADABLE", seen=seen, where=answer.where)
        return
    reading = read_body(answer.body, convention)
    if reading.problem:
        yield Finding(code="HEALTH-BODY-UNREADABLE", seen=reading.problem, where=answer.where)
    elif reading.word and (reading.word == "down") == (answer.status == OK):
        seen = f"the code is {answer.status}, the body says {reading.word}"
        yield Finding(code="HEALTH-BODY-DISAGREES", seen=seen, where=answer.where)
    elif reading.word == "up" and reading.parts_down:
        seen = f"the body says up, and down of {', '.join(reading.parts_down)}"
        yield Finding(code="HEALTH-BODY-DISAGREES", seen=seen, where=answer.where)


def judge_all_ready(answers: Iterable[Answer]) -> Iterator[Finding]:
    """Every answer says yes."""
    for answer in answers:
        if answer.status != OK:
            yield Finding(code="HEALTH-NOT-READY", seen=_shown(answer), where=answer.where)


def judge_time(answers: Iterable[Answer], longest_ns: int) -> Iterator[Finding]:
    """No answer takes longer than any may."""
    for answer in answers:
        if answer.late or answer.took_ns > longest_ns:
            seen = answer.problem if answer.late else f"{format_duration(answer.took_ns)}"
            yield Finding(
                code="HEALTH-HANGS", seen=f"{seen}, {format_duration(longest_ns)} allowed", where=answer.where
            )


def judge_steady(answers: Sequence[Answer], p95_ns: int) -> Iterator[Finding]:
    """While nothing happens: 95 of 100 answers come in time, and none differs from the one before."""
    for where, each in by_endpoint(answers).items():
        if (p95 := percentile([answer.took_ns for answer in each], 95)) > p95_ns:
            seen = f"95 of 100 answers within {format_duration(p95)}, {format_duration(p95_ns)} allowed"
            yield Finding(code="HEALTH-SLOW", seen=seen, where=where)
        turns = sum(before.status != after.status for before, after in itertools.pairwise(each))
        if turns:
            seen = f"{turns} turns in {len(each)} answers while nothing happened"
            yield Finding(code="HEALTH-FLAPS", seen=seen, where=where, count=turns)


def judge_loss(
    answers: Sequence[Answer], *, needing: Sequence[str], lost_ns: int, turn_ns: int, how: str
) -> Iterator[Finding]:
    """While a dependency is away: liveness stays, readiness of those that need it turns in time and stays turned.

    Args:
        answers: all that were asked since the loss, over ``turn_ns`` or until all had settled.
        needing: the services that need it.
        how: words for what was done, as ``database hangs``.
    """
    yield from judge_alive(answers, how)
    for where, each in by_endpoint(answers).items():
        service, _, endpoint = where.partition(" ")
        if endpoint != "ready":
            continue
        if service not in needing:
            for answer in each:
                if answer.status != OK:
                    seen = f"{_shown(answer)} while {how}, which it is not said to need"
                    yield Finding(code="HEALTH-NOT-READY", seen=seen, where=where)
            continue
        unready = [answer for answer in each if answer.status != OK]
        if not unready or unready[0].ended_ns - lost_ns > turn_ns:
            after = format_duration((unready[0].ended_ns if unready else each[-1].ended_ns) - lost_ns)
            seen = f"{how}: unready only after {after}" if unready else f"{how}: still 200 after {after}"
            yield Finding(code="HEALTH-READY-LIES", seen=f"{seen}, {format_duration(turn_ns)} allowed", where=where)
        elif again := [answer for answer in each if answer.started_ns > unready[0].started_ns and answer.status == OK]:
            seen = f"{how}: 200 again after it had said no"
            yield Finding(code="HEALTH-FLAPS", seen=seen, where=where, count=len(again))


def judge_return(answers: Sequence[Answer], *, back_ns: int, return_ns: int, how: str) -> Iterator[Finding]:
    """Once a dependency is back: all are ready in time, and stay so. Arguments as of ``judge_loss``."""
    yield from judge_alive(answers, how)
    for where, each in by_endpoint(answers).items():
        if not where.endswith(" ready"):
            continue
        ready = [answer for answer in each if answer.status == OK]
        if not ready or ready[0].ended_ns - back_ns > return_ns:
            after = format_duration((ready[0].ended_ns if ready else each[-1].ended_ns) - back_ns)
            seen = f"{how}: ready only after {after}" if ready else f"{how}: still {_shown(each[-1])} after {after}"
            yield Finding(code="HEALTH-NO-RETURN", seen=f"{seen}, {format_duration(return_ns)} allowed", where=where)
        elif again := [answer for answer in each if answer.started_ns > ready[0].started_ns and answer.status != OK]:
            seen = f"{how}: {_shown(again[0])} again after it had said yes"
            yield Finding(code="HEALTH-FLAPS", seen=seen, where=where, count=len(again))


def judge_alive(answers: Sequence[Answer], how: str) -> Iterator[Finding]:
    """Liveness says yes, whatever was done."""
    for answer in answers:
        if answer.endpoint == "live" and answer.status != OK:
            yield Finding(code="HEALTH-LIVE-DIES", seen=f"{_shown(answer)} while {how}", where=answer.where)


def judge_unrestored(answers: Sequence[Answer], *, needing: Sequence[str], words: str) -> Iterator[Finding]:
    """No service that needs the database is ready on one that is not whole; ``words`` say in which way it is not."""
    yield from judge_alive(answers, f"the services stand on {words}")
    for answer in answers:
        if answer.endpoint == "ready" and answer.service in needing and answer.status == OK:
            yield Finding(code="HEALTH-READY-UNRESTORED", seen=f"status 200 on {words}", where=answer.where)


def settled(answers: Sequence[Answer], wanted: Mapping[str, bool]) -> bool:
    """Whether the last answers of each service's readiness are as wanted: yes (true) or no."""
    of = by_endpoint(answers)
    return all(
        len(last := of.get(f"{service} ready", [])[-STEADY:]) == STEADY
        and all((answer.status == OK) == ready for answer in last)
        for service, ready in wanted.items()
    )


def by_endpoint(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The answers of each endpoint, in the order asked."""
    found: dict[str, list[Answer]] = {}
    for answer in sorted(answers, key=lambda each: each.started_ns):
        found.setdefault(answer.where, []).append(answer)
    return found


def percentile(values: Sequence[int], of_hundred: int) -> int:
    """The smallest value that so many of a hundred do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(of_hundred / 100 * len(values)) - 1]


def latencies(answers: Iterable[Answer]) -> dict[str, int]:
    """The distribution for the evidence: p50, p95 and longest of each endpoint, in microseconds."""
    shown: dict[str, int] = {}
    for where, each in by_endpoint(answers).items():
        took = [answer.took_ns for answer in each]
        for name, value in (("p50", percentile(took, 50)), ("p95", percentile(took, 95)), ("longest", max(took))):
            shown[f"{where} {name} microseconds"] = value // 1000
    return shown


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each code and place: the first that was seen, with the count of all."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        before = first.setdefault((finding.code, finding.where), finding)
        if before is not finding:
            counted = dataclasses.replace(before, count=before.count + finding.count)
            first[finding.code, finding.where] = counted
    return list(first.values())


def _shown(answer: Answer) -> str:
    return f"status {answer.status}" if answer.status else answer.problem or "no answer"

"""Completeness of the audit log: each event that the guides name is provoked, and must be told of exactly once."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx

from checks.audit_events import EventPlan, EventSearch, read_plan
from checks.checked import Check
from checks.conformance.registry import conformance, switch
from checks.conformance.subject import START_SECONDS, Subject
from fixtures.health import ask
from fixtures.http_steps import Answered, Variables, filled, run_steps
from fixtures.log_source import LogSource, open_source
from fixtures.profile import DATA
from fixtures.refapp.event_variables import event_variables
from reports.records import monotonic_ns, pause, wait_until

GUIDE: Final = "line 31: Enprivacy 3.0 emits structured JSON audit logs to stdout"
SUPPORTS: Final = (
    "NIST 800-53r5 AU-3", "NIST 800-53r5 AU-12", "ISO 27001:2022 A.8.15", "PCI DSS 4.0.1 10.2.1",
    "PCI DSS 4.0.1 10.2.2", "HIPAA 164.312(b)",
)  # fmt: skip
REFERENCE_STEPS: Final = DATA / "refapp_events.toml"
CODES: Final = ("LOG-EVENT-MISSING", "LOG-EVENT-TWICE", "LOG-EVENT-WRONG", "LOG-EVENT-DISCLOSES")
WHAT: Final = "each event provoked"
STEP_SECONDS: Final = 10.0
# A second telling may come a moment after the first; the check of whole logs looks once more, much later.
AFTER_LAST_SECONDS: Final = 0.1
# Another address of this machine than the one that a service which takes no note of it would name.
CALLER: Final = "127.0.0.2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provoked:
    """Events that were provoked, to be looked for again; ``at_ns``: when the last was, of the monotonic clock."""

    plan: EventPlan
    answered: Sequence[Answered]
    at_ns: int


# By the directory of the subject.
provoked: Final[dict[Path, list[Provoked]]] = {}


@conformance(guide=GUIDE, supports=SUPPORTS, finds=CODES, owned=True)
def every_event_is_logged_once(subject: Subject, check: Check) -> None:
    """Each event that the guides name, once provoked, stands in the log exactly once, complete and without secrets."""
    path = subject.profile.events.steps or (REFERENCE_STEPS if subject.deployment.stand_in else None)
    if path is None:
        reason = "the profile says nothing of the product's API: set events.steps to a file of steps"
        check.not_tested.append({"what": WHAT, "reason": reason})
        return
    await_ready(subject)
    plan = read_plan(path)
    with contextlib.ExitStack() as stack:
        sources = [
            stack.enter_context(open_source(subject.profile, subject.deployment, service.name))
            for service in subject.deployment.services
        ]
        lines = [_Lines(source, subject.profile.logs.longest_line) for source in sources]
        search = provoke(subject, plan)
        deadline = monotonic_ns() + plan.within_ns
        while True:
            ended = search.complete or monotonic_ns() >= deadline
            if ended:
                pause(AFTER_LAST_SECONDS, why="an event may be told twice")
            for each in lines:
                for line in each.new():
                    search.feed(line, each.service)
            if ended:
                break
            pause(0.02, why="the log is written")
    check.looked_at |= {"steps": len(plan.steps), "events": search.wanted, "lines": search.lines}
    check.findings += search.findings()


def await_ready(subject: Subject) -> None:
    """Wait until every service is ready, so that what is done is done and told of."""
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        wait_until(
            lambda: all(ask(client, service, "ready") == 200 for service in subject.deployment.services),
            seconds=START_SECONDS, interval=0.02, what="readiness of all services, before events are provoked",
        )  # fmt: skip


def provoke(subject: Subject, plan: EventPlan) -> EventSearch:
    """Make the requests that are to be told of, and note them; what finds their events.

    Raises:
        StepFailed, UsageProblem: see ``run_steps``.
    """
    answered = _answers(subject, plan)
    provoked.setdefault(subject.directory, []).append(Provoked(plan=plan, answered=answered, at_ns=monotonic_ns()))
    return EventSearch(plan, answered, subject.profile.logs.fields)


def _answers(subject: Subject, plan: EventPlan) -> list[Answered]:
    variables: Variables = {**_known(subject), **subject.profile.events.variables, "unique": secrets.token_hex(8)}
    for name in plan.never:
        if isinstance(value := variables.get(name), str):
            subject.redactor.learn(value)
    for name, value in plan.variables.items():
        variables[name] = filled(value, variables, where=f"variable {name!r}")
    transport = httpx.HTTPTransport(local_address=CALLER if subject.deployment.stand_in else None, trust_env=False)
    with httpx.Client(
        base_url=subject.deployment.client_access().url, timeout=STEP_SECONDS, transport=transport, trust_env=False
    ) as client:
        return [*run_steps(plan.steps, client, variables, subject.redactor)]


def _known(subject: Subject) -> dict[str, str]:
    access = subject.deployment.client_access()
    if not subject.deployment.stand_in:
        return {"api_key": access.api_key}
    with subject.deployment.database.connect() as connection:
        return event_variables(connection, subject.deployment.configuration(), access.api_key)


class _Lines:
    """The whole lines that a log has grown by, from now on."""

    def __init__(self, source: LogSource, longest: int) -> None:
        self.service, self._source, self._longest = source.service, source, longest
        self._position, self._rest, self._skips = source.position(), b"", False

    def new(self) -> Iterator[bytes]:
        """Those that are new since it was asked last. One longer than the bound is left out: nothing holds it."""
        for chunk in self._source.read_from(self._position):
            self._position += len(chunk)
            *whole, rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                if not self._skips:
                    yield line
                self._skips = False
            self._skips = self._skips or len(rest) > self._longest
            self._rest = b"" if self._skips else rest


def _fault(name: str, code: str, *, service: str = "web") -> None:
    switch(every_event_is_logged_once, name, services=(service,), expects=(code,))


_fault("event-missing", "LOG-EVENT-MISSING")
_fault("event-twice", "LOG-EVENT-TWICE")
_fault("event-of-another", "LOG-EVENT-WRONG")
_fault("source-of-another", "LOG-EVENT-WRONG")
_fault("session-digest-same", "LOG-EVENT-WRONG")
_fault("tried-assertion-logged", "LOG-EVENT-DISCLOSES")
_fault("redaction-tells-values", "LOG-EVENT-DISCLOSES", service="job")

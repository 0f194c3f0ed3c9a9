"""Completeness of the audit log: each event that the guides name is provoked, and must be told of exactly once."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
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
# A second telling may come a moment after the first.
AFTER_LAST_SECONDS: Final = 0.1


@conformance(guide=GUIDE, supports=SUPPORTS, finds=CODES, owned=True)
def every_event_is_logged_once(subject: Subject, check: Check) -> None:
    """Each event that the guides name, once provoked, stands in the log exactly once, complete and without secrets."""
    path = subject.profile.events.steps or (REFERENCE_STEPS if subject.deployment.stand_in else None)
    if not subject.owned:
        check.not_tested.append(
            {"what": WHAT, "reason": "the deployment is not the suite's own, and is not written to"}
        )
        return
    if path is None:
        reason = "the profile says nothing of the product's API: set events.steps to a file of steps"
        check.not_tested.append({"what": WHAT, "reason": reason})
        return
    _await_ready(subject)
    plan = read_plan(path)
    with contextlib.ExitStack() as stack:
        sources = [
            stack.enter_context(open_source(subject.profile, subject.deployment, service.name))
            for service in subject.deployment.services
        ]
        lines = [_Lines(source, subject.profile.logs.longest_line) for source in sources]
        search = EventSearch(plan, _provoke(subject, plan), subject.profile.logs.fields)
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


def _await_ready(subject: Subject) -> None:
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        wait_until(
            lambda: all(ask(client, service, "ready") == 200 for service in subject.deployment.services),
            seconds=START_SECONDS, interval=0.02, what="readiness of all services, before events are provoked",
        )  # fmt: skip


def _provoke(subject: Subject, plan: EventPlan) -> list[Answered]:
    variables: Variables = {**_known(subject), **subject.profile.events.variables, "unique": secrets.token_hex(8)}
    for name in plan.never:
        if isinstance(value := variables.get(name), str):
            subject.redactor.learn(value)
    for name, value in plan.variables.items():
        variables[name] = filled(value, variables, where=f"variable {name!r}")
    with httpx.Client(
        base_url=subject.deployment.client_access().url, timeout=STEP_SECONDS, trust_env=False
    ) as client:  # fmt: skip
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


def _fault(name: str, code: str) -> None:
    switch(every_event_is_logged_once, name, services=("web",), expects=(code,))


_fault("event-missing", "LOG-EVENT-MISSING")
_fault("event-twice", "LOG-EVENT-TWICE")
_fault("event-of-another", "LOG-EVENT-WRONG")
_fault("tried-assertion-logged", "LOG-EVENT-DISCLOSES")

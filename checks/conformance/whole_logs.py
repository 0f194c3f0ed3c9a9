"""Everything that the processes of a deployment wrote while it was under check, looked at once more at the end."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx

from checks.audit_events import EventSearch, read_plan
from checks.audit_secrets import planted_secrets
from checks.checked import Check
from checks.conformance.audit_events import REFERENCE_STEPS, await_ready, provoke, provoked
from checks.conformance.audit_log import download
from checks.conformance.credentials import revoked_here
from checks.conformance.registry import conformance, fault
from checks.conformance.subject import Subject
from checks.whole_logs import Log, search_events, search_secrets
from fixtures.health import ask
from fixtures.refapp import faults
from fixtures.refapp.audit_faults import LATER_SECONDS
from fixtures.rotation import credential_in, read_credentials
from reports.records import NANOSECONDS, monotonic_ns, pause, wait_until

GUIDE: Final = "line 31: emits structured JSON audit logs to stdout"
SUPPORTS: Final = (
    "NIST 800-53r5 AU-3", "NIST 800-53r5 AU-9", "ISO 27001:2022 A.8.15", "PCI DSS 4.0.1 10.3.4", "HIPAA 164.312(b)"
)  # fmt: skip
# No second telling later than that is waited for, where the other checks have not taken as long.
LATEST_SECONDS: Final = 3.0
SEEN_SECONDS: Final = 5.0

# How long each file was when a fault was planted: what is before it was written before.
SINCE: Final = contextvars.ContextVar[Mapping[Path, int] | None]("since", default=None)


@conformance(
    guide=GUIDE, supports=SUPPORTS, finds=("LOG-SECRET", "LOG-EVENT-TWICE", "LOG-EVENT-DISCLOSES"), owned=True,
    last=True,
)  # fmt: skip
def nothing_written_in_the_whole_run_tells_a_secret(subject: Subject, check: Check) -> None:
    """No output of any process of the run, also of those that ended, holds a secret, or tells an event once more.

    That is stdout and stderr of services, database server and object server, dependencies away or not.
    """
    since = SINCE.get()
    known = provoked.get(subject.directory, [])
    if since is None:
        _let_pass(known[-1].at_ns if known else 0)
    logs = _logs(subject, since or {})
    gone = sorted({log.name for log in logs if not log.path.exists()})
    if gone:
        check.not_tested.append({"what": ", ".join(gone), "reason": "the file is not there any more"})
    logs = [log for log in logs if log.path.exists()]
    secrets = _secrets(subject)
    findings, size = search_secrets(logs, secrets)
    check.findings += findings
    check.looked_at = {"files": len(logs), "bytes": size, "secrets": len(secrets)}
    for each in known:
        for group, codes in (
            ([log for log in logs if log.of_service], ("LOG-EVENT-TWICE", "LOG-EVENT-DISCLOSES")),
            # A forwarder may show what it forwards: that is no second telling.
            ([log for log in logs if not log.of_service], ("LOG-EVENT-DISCLOSES",)),
        ):
            search = EventSearch(each.plan, each.answered, subject.profile.logs.fields)
            search_events(group, search)
            check.findings += [finding for finding in search.findings() if finding.code in codes]
        check.looked_at["events"] = check.looked_at.get("events", 0) + sum(map(len, each.plan.events))
    if not known:
        reason = "no check before this one provoked any: run it together with audit_events"
        check.not_tested.append({"what": "events told once more, later", "reason": reason})


def _let_pass(since_ns: int) -> None:
    left = LATEST_SECONDS - (monotonic_ns() - since_ns) / NANOSECONDS
    if since_ns and left > 0:
        pause(left, why="an event may be told once more, later")


def _logs(subject: Subject, since: Mapping[Path, int]) -> list[Log]:
    """What every process wrote that was ever started as a service or a server; where to begin is by ``since``."""
    names = {service.name for service in subject.deployment.services}
    return [
        Log(name=f"{stream} of {running.name}", path=path, begin=since.get(path, 0), of_service=running.name in names)
        for running in [*subject.deployment.processes.services]
        for stream, path in (("stdout", running.output), ("stderr", running.errors))
    ]


def _secrets(subject: Subject) -> dict[str, str]:
    """Those in force, and those that were."""
    deployment, ended = subject.deployment, revoked_here(subject)
    found = planted_secrets(deployment.configuration())
    found["API key"] = deployment.client_access().api_key
    found["password of the superuser"] = deployment.database.password
    found["secret key of the object server's operator"] = deployment.objects.secret_key
    found["password of the database user"] = credential_in(deployment.client_access().dsn).password
    if ended.exists():
        found |= {
            f"password {number} that was rotated away": each.password
            for number, each in enumerate(read_credentials(ended), start=1)
        }
    # One value under two names is one secret.
    return {name: value for value, name in {value: name for name, value in found.items() if value}.items()}


@contextlib.contextmanager
def _from_now_on(subject: Subject) -> Iterator[list[Log]]:
    """Have the check look at what is written from here on only: the traces of other faults are before."""
    logs = _logs(subject, {})
    token = SINCE.set({log.path: log.path.stat().st_size for log in logs if log.path.exists()})
    try:
        yield logs
    finally:
        SINCE.reset(token)


@fault(
    nothing_written_in_the_whole_run_tells_a_secret, expects=("LOG-SECRET",),
    breaks=faults.KNOWN["away-tells-address"],
)  # fmt: skip
def away_tells_address(subject: Subject) -> Iterator[None]:
    """Web's own log, while its database refuses it."""
    await_ready(subject)
    with _from_now_on(subject):
        with subject.thrown(["web"], "away-tells-address"), subject.proxies["database"].turned("refuse"):
            _ask(subject, "web", 503)
        yield
    await_ready(subject)


@fault(nothing_written_in_the_whole_run_tells_a_secret, expects=("LOG-SECRET",), breaks=faults.KNOWN["errors-tell-key"])
def errors_tell_key(subject: Subject) -> Iterator[None]:
    """What nobody reads as a log is one all the same."""
    await_ready(subject)
    with _from_now_on(subject):
        with subject.thrown(["web"], "errors-tell-key"):
            download(subject)
        yield


@fault(
    nothing_written_in_the_whole_run_tells_a_secret, expects=("LOG-EVENT-TWICE",),
    breaks=faults.KNOWN["event-again-later"],
)  # fmt: skip
def event_again_later(subject: Subject) -> Iterator[None]:
    """It comes when the check of events has long looked."""
    await_ready(subject)
    with _from_now_on(subject):
        with subject.thrown(["web"], "event-again-later"):
            provoke(subject, read_plan(REFERENCE_STEPS))
        try:
            pause(2 * LATER_SECONDS, why="the event is told again")
            yield
        finally:
            provoked[subject.directory].pop()


@fault(
    nothing_written_in_the_whole_run_tells_a_secret, expects=("LOG-EVENT-DISCLOSES",),
    breaks=faults.KNOWN["tried-assertion-logged"],
)  # fmt: skip
def tried_assertion_logged(subject: Subject) -> Iterator[None]:
    """The same as the check of events sees, in what was written since."""
    await_ready(subject)
    with _from_now_on(subject):
        with subject.thrown(["web"], "tried-assertion-logged"):
            provoke(subject, read_plan(REFERENCE_STEPS))
        try:
            yield
        finally:
            provoked[subject.directory].pop()


def _ask(subject: Subject, name: str, wanted: int) -> None:
    """Ask a service whether it is ready until it says what is wanted."""
    (service,) = (each for each in subject.deployment.services if each.name == name)
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        wait_until(
            lambda: ask(client, service, "ready") == wanted,
            seconds=SEEN_SECONDS, interval=0.02, what=f"status {wanted} of {name}",
        )  # fmt: skip

"""The audit log as a stream: every line of every service's log, and the time in it as it comes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Final

from checks.audit_rules import Rules, rules_of
from checks.audit_secrets import planted_secrets
from checks.audit_stream import CODES, AuditStream
from checks.checked import Check
from checks.conformance.registry import conformance, fault, switch
from checks.conformance.subject import Subject
from fixtures.application import Lists
from fixtures.log_file import TICK_SECONDS
from fixtures.log_settings import ServiceLog
from fixtures.log_source import LogSource, open_source
from fixtures.refapp import faults
from reports.records import NANOSECONDS, monotonic_ns, pause, utc_now

GUIDE: Final = "line 31: emits structured JSON audit logs to stdout"
CONTENT: Final = (
    "NIST 800-53r5 AU-3", "NIST 800-53r5 AU-9", "NIST 800-53r5 AU-12", "ISO 27001:2022 A.8.15", "PCI DSS 4.0.1 10.2.1",
    "PCI DSS 4.0.1 10.2.2", "PCI DSS 4.0.1 10.3.4", "HIPAA 164.312(b)",
)  # fmt: skip
TIME: Final = ("NIST 800-53r5 AU-8", "ISO 27001:2022 A.8.17")
# Who writes audit events of what is done through the product's interface.
DOOR: Final = "web"
# How long a line that was begun, or an event of something done, may take to be in the log; seconds.
PATIENCE: Final = 2.0
CUT_PATIENCE: Final = 0.2
# A log that has been growing for years is looked at from here before its end on; bytes.
MOST: Final = 256 << 20
DOWNLOADS: Final = 3
NAME: Final = "audit-log-times.txt"
WATCHED_SECONDS: Final = 5.0


@conformance(guide=GUIDE, supports=CONTENT, finds=CODES, after_restore=True)
def the_log_is_whole_and_tells_no_secret(subject: Subject, check: Check) -> None:
    """Every line of every service's log is an object of JSON; events hold to the schema, in order, chained, once."""
    rules, expected = rules_of(subject.profile.logs), 0
    if subject.owned:
        expected = download(subject)
    for service in subject.deployment.services:
        with open_source(subject.profile, subject.deployment, service.name) as source:
            least = expected if service.name == DOOR else 0
            with stream_of(subject, check, rules, source) as stream:
                left_out = read(source, stream, least=least)
                stream.finish()
                tell(stream, check)
            if left_out:
                what = f"the first {left_out} bytes of the log of {service.name}"
                check.not_tested.append({"what": what, "reason": f"of a log the last {MOST} bytes are looked at"})
    if not check.looked_at.get("events"):
        reason = "none stands in any log: do something first, or have the source hand out earlier lines"
        check.not_tested.append({"what": "audit events", "reason": reason})


@conformance(guide=GUIDE, supports=TIME, finds=("LOG-TIME-SKEW",))
def times_in_the_log_are_true_as_they_come(subject: Subject, check: Check) -> None:
    """The time in a line is the time at which it is written, by this machine's clock, while the log is followed."""
    rules = rules_of(subject.profile.logs)
    with contextlib.ExitStack() as stack:
        followed: list[tuple[LogSource, AuditStream]] = []
        for service in subject.deployment.services:
            source = stack.enter_context(open_source(subject.profile, subject.deployment, service.name))
            followed.append((source, stack.enter_context(stream_of(subject, check, rules, source, midst=True))))
        worker = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        doing = worker.submit(transact, subject) if subject.owned else None
        follow(followed, enough=lambda: doing is not None and doing.done() and _of_the_door(followed) > 0)
        if doing is not None:
            doing.result()
        for _, stream in followed:
            check.looked_at["events"] = check.looked_at.get("events", 0) + stream.seen.events
            check.looked_at["lines"] = check.looked_at.get("lines", 0) + stream.seen.lines
            check.findings += [finding for finding in stream.findings() if finding.code == "LOG-TIME-SKEW"]
    if not check.looked_at["lines"]:
        check.not_tested.append({"what": "times in the log", "reason": "no line came while it was followed"})
        check.looked_at.clear()


@contextlib.contextmanager
def stream_of(
    subject: Subject, check: Check, rules: Rules, source: LogSource, *, midst: bool = False
) -> Iterator[AuditStream]:
    """A validator for one service's log, which knows the secrets of the configuration in force."""
    secrets = planted_secrets(subject.configured(check))
    if secrets and (key := subject.deployment.client_access().api_key):
        secrets["API key"] = key
    directory = subject.directory / f"audit-ids-{source.service}"
    whole = source.whole and not midst and source.position() <= MOST
    stream = AuditStream(rules, secrets=secrets, directory=directory, whole=whole, name=f"log of {source.service}")
    with contextlib.closing(stream):
        yield stream


def read(source: LogSource, stream: AuditStream, *, least: int) -> int:
    """Feed a stream what stands in a log. A line that is being written, and ``least`` events, are waited for.

    Returns:
        How many bytes were left out at the beginning.
    """
    begin = at = max(0, source.position() - MOST)
    now, inside = utc_now().timestamp(), begin == 0
    for chunk in source.read_from(at):
        at += len(chunk)
        end = -1 if inside else chunk.find(b"\n")
        # Begun in its midst, a line is left out to its end.
        inside = inside or end >= 0
        stream.feed(chunk[end + 1 :] if inside else b"", read_at=now)
    patience = PATIENCE if stream.seen.events < least else CUT_PATIENCE
    if stream.in_line or stream.seen.events < least:
        until = lambda: not stream.in_line and stream.seen.events >= least  # noqa: E731
        for chunk in source.follow(patience, position=at, until=until):
            stream.feed(chunk, read_at=utc_now().timestamp())
    return begin


def follow(followed: list[tuple[LogSource, AuditStream]], *, enough: Callable[[], bool]) -> None:
    """Feed streams what comes, with the time at which it was read, until it is enough or some seconds are over."""
    positions = [source.position() for source, _ in followed]
    deadline = monotonic_ns() + round(WATCHED_SECONDS * NANOSECONDS)
    while True:
        last = enough() or monotonic_ns() >= deadline
        for number, (source, stream) in enumerate(followed):
            for chunk in source.read_from(positions[number]):
                positions[number] += len(chunk)
                stream.feed(chunk, read_at=utc_now().timestamp(), live=True)
        if last:
            return
        pause(TICK_SECONDS, why="events are written")


def tell(stream: AuditStream, check: Check) -> None:
    """Add what a stream saw to a check."""
    seen = {**dataclasses.asdict(stream.seen), "writers": stream.writers}
    for what, count in seen.items():
        check.looked_at[what] = check.looked_at.get(what, 0) + count
    check.findings += stream.findings()


def download(subject: Subject) -> int:
    """Have a few audit events written by downloading a document; how many at least."""
    with contextlib.closing(subject.own.application(timeout=5)) as application:
        assert isinstance(application, Lists), "the reference application's"
        for document in itertools.islice(application.documents(""), 1):
            for _ in range(DOWNLOADS):
                application.download(document.id)
            return DOWNLOADS
    return 0


def transact(subject: Subject) -> None:
    """Have audit events written by every service that writes any."""
    limit = subject.profile.transaction_limit_ns
    with contextlib.closing(subject.own.application(timeout=limit / NANOSECONDS)) as application:
        application.transact(NAME, b"Write to clock@example.com.", deadline_ns=monotonic_ns() + limit)
        if isinstance(application, Lists):
            for document in application.documents(NAME):
                application.delete(document.id)


def _of_the_door(followed: list[tuple[LogSource, AuditStream]]) -> int:
    return sum(stream.seen.events for source, stream in followed if source.service == DOOR)


def _writer_with(name: str, code: str) -> None:
    """A fault: the log of Web is what a writer with a fault switch writes, instead of the service's own."""

    def faulty_writer(subject: Subject) -> Iterator[Subject]:
        path = subject.directory / f"{name}.log"
        environment = {faults.VARIABLE: name, "DATABASE_URL": subject.deployment.configuration()["DATABASE_URL"]}
        subject.deployment.processes.run(
            [sys.executable, "-m", "fixtures.refapp.audit_sample"], timeout=20, env=environment, stdout=path
        )
        logs = dataclasses.replace(subject.profile.logs, sources={DOOR: ServiceLog(source="file", path=path)})
        # Looked at as what is not ours is: nothing is done that would be written elsewhere.
        yield dataclasses.replace(subject, profile=dataclasses.replace(subject.profile, logs=logs), owner=None)
        path.unlink()

    faulty_writer.__name__ = name.replace("-", "_")
    fault(the_log_is_whole_and_tells_no_secret, expects=(code,), breaks=faults.KNOWN[name])(faulty_writer)


for _name, _code in {
    "log-not-utf-8": "LOG-NOT-UTF-8",
    "log-nul": "LOG-NUL",
    "log-crlf": "LOG-CRLF",
    "log-not-json": "LOG-NOT-JSON",
    "log-not-object": "LOG-NOT-OBJECT",
    "log-key-twice": "LOG-DUPLICATE-KEY",
    "log-nested-deep": "LOG-TOO-DEEP",
    "log-line-too-long": "LOG-LINE-TOO-LONG",
    "log-line-cut": "LOG-LINE-CUT",
    "log-field-missing": "LOG-SCHEMA",
    "log-time-without-offset": "LOG-TIME-NO-OFFSET",
    "log-clock-ahead": "LOG-TIME-SKEW",
    "log-number-missing": "LOG-SEQ-GAP",
    "log-numbers-falling": "LOG-SEQ-BACK",
    "log-chain-broken": "LOG-CHAIN-BROKEN",
    "log-id-twice": "LOG-EVENT-ID-REPEATED",
    "log-tells-password": "LOG-SECRET",
}.items():
    _writer_with(_name, _code)
switch(times_in_the_log_are_true_as_they_come, "log-clock-behind", services=("web",), expects=("LOG-TIME-SKEW",))

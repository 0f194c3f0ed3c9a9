"""Forwarding: every line that a service writes reaches the place where logs are kept, also through its restart."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import httpx

from checks.checked import Check
from checks.conformance.registry import conformance, fault
from checks.conformance.subject import Subject
from checks.forwarding import Written, judge_forwarding, missing, written
from fixtures.careless_forwarder import MODES
from fixtures.event_settings import ForwardingSettings
from fixtures.forwarders import Forwarding, find_rsyslog, start_command, start_rsyslog
from fixtures.log_source import LogSource, open_source
from fixtures.network import LOOPBACK, free_ports
from fixtures.processes import Running, tail
from fixtures.receiving import Sink, Tally, sink_kinds
from reports.records import NANOSECONDS, HarnessError, monotonic_ns, pause, wait_until

GUIDE: Final = "line 31: These should be forwarded to your SIEM or log aggregation platform"
SUPPORTS: Final = ("NIST 800-53r5 AU-9", "NIST 800-53r5 AU-12", "ISO 27001:2022 A.8.15", "PCI DSS 4.0.1 10.3.4")
WHAT: Final = "every line forwarded through a restart of the sink"
# Lines written while the sink takes them and records none, while it is away, and once it is back.
HELD, AWAY, AFTER = 60, 40, 20
# How long after the last arrival nothing more is to be expected of rsyslog, which tries again each second.
RSYSLOG_SECONDS: Final = 5.0
LOAD_SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 120.0


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("FORWARD-LOST", "FORWARD-REPEATED"), owned=True)
def every_line_is_forwarded(subject: Subject, check: Check) -> None:
    """Every line that the services write reaches the sink, although the sink is killed and started again meanwhile."""
    settings = subject.profile.forwarding
    with contextlib.ExitStack() as stack:
        sources = [
            stack.enter_context(open_source(subject.profile, subject.deployment, service.name))
            for service in subject.deployment.services
        ]
        kind = sink_kinds()[settings.sink if settings else "relp"]
        sink = kind.make(
            listen=settings.listen if settings else (LOOPBACK, 0),
            path=settings.path if settings else None,
            tally=Tally(field=settings.field if settings else ""),
        )
        sink.open()
        stack.callback(sink.close)
        forwarder = _start_operators(subject, sink, settings) if settings else _start_rsyslog(subject, stack, sink)
        if isinstance(forwarder, str):
            check.not_tested.append({"what": WHAT, "reason": forwarder})
            return
        if forwarder is not None:
            stack.callback(forwarder.kill_tree)
        _exercise(subject, check, sink, sources, forwarder)


def _start_rsyslog(subject: Subject, stack: contextlib.ExitStack, sink: Sink) -> Running | str:
    if (program := find_rsyslog()) is None:
        return "rsyslogd is not here: install the packages rsyslog and rsyslog-relp, or set forwarding in the profile"
    directory = subject.directory / f"rsyslog-{secrets.token_hex(4)}"
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    host, _, port = sink.address.rpartition(":")
    return start_rsyslog(
        program, subject.deployment.processes, Forwarding(), logs=_logs(subject), host=host, port=int(port),
        directory=directory,
    )  # fmt: skip


def _start_operators(subject: Subject, sink: Sink, settings: ForwardingSettings) -> Running | None:
    if not settings.command:
        return None
    return start_command(
        settings.command, subject.deployment.processes, logs=_logs(subject), address=sink.address
    )  # fmt: skip


def _logs(subject: Subject) -> dict[str, Path]:
    return {service.name: subject.deployment.log_file(service.name) for service in subject.deployment.services}


def _exercise(
    subject: Subject, check: Check, sink: Sink, sources: Sequence[LogSource], forwarder: Running | None
) -> None:
    settings = subject.profile.forwarding
    patience = settings.patience_ns / NANOSECONDS if settings else RSYSLOG_SECONDS
    with _Load(subject.deployment.client_access().url) as load:
        _await(lambda: sink.count() > 0, max(patience, 10.0), "a first line to arrive at the sink", forwarder, subject)
        # A forwarder of the operator's may begin where the log stands when it comes up.
        starts = [source.position() if settings else 0 for source in sources]
        sink.hold("lines")
        load.more(HELD)
        sink.crash()
        load.more(AWAY)
        sink.open()
        load.more(AFTER)
    logs = [
        written(source.service, source.read_from(start)) for source, start in zip(sources, starts, strict=True)
    ]  # fmt: skip
    _await_arrivals(sink, logs, patience)
    check.looked_at |= {
        "lines": sum(len(log.digests) for log in logs), "arrived": sink.count(), "restarts of the sink": 1
    }  # fmt: skip
    check.findings += judge_forwarding(logs, sink.tally.counts)


def _await(
    condition: Callable[[], bool], seconds: float, what: str, forwarder: Running | None, subject: Subject
) -> None:
    def so() -> bool:
        if forwarder is not None and not forwarder.alive():
            raise HarnessError(
                "the forwarder", seen=f"it ended: {tail(forwarder.errors, subject.redactor)}", remedy="see the message"
            )
        return condition()

    wait_until(so, seconds=seconds, interval=0.02, what=what, remedy="see that the forwarder sends to this address")


def _await_arrivals(sink: Sink, logs: Sequence[Written], patience: float) -> None:
    """Until all is there, or nothing came for as long as the forwarder is given."""
    began = quiet_since = monotonic_ns()
    seen = sink.count()
    while missing(logs, sink.tally.counts):
        pause(0.05, why="lines are on their way")
        now = monotonic_ns()
        if (count := sink.count()) != seen:
            seen, quiet_since = count, now
        if now - quiet_since >= patience * NANOSECONDS or now - began >= LONGEST_SECONDS * NANOSECONDS:
            return


class _Load:
    """Requests without a credential, one after the other: each is refused, and told of in the log."""

    def __init__(self, url: str) -> None:
        self._url, self._asked, self._ends = url, 0, threading.Event()
        self._thread = threading.Thread(target=self._ask, name="lines for the log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_problem: Any) -> None:
        self._ends.set()
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more were made."""
        wanted = self._asked + count
        wait_until(
            lambda: self._asked >= wanted, seconds=LOAD_SECONDS, interval=0.005, what=f"{count} more requests answered"
        )

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            while not self._ends.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    client.get("/api/documents")
                    self._asked += 1


def _careless(subject: Subject, mode: str) -> Iterator[Subject]:
    """The same deployment with a profile whose forwarder has a fault."""
    assert mode in MODES
    settings = ForwardingSettings(
        sink="syslog-tcp", listen=(LOOPBACK, free_ports(1)[0]), path=None, field="", patience_ns=NANOSECONDS,
        command=(sys.executable, "-m", "fixtures.careless_forwarder", mode),
    )  # fmt: skip
    yield dataclasses.replace(subject, profile=dataclasses.replace(subject.profile, forwarding=settings))


@fault(
    every_line_is_forwarded, expects=("FORWARD-LOST",), breaks="a forwarder that keeps nothing while the sink is away"
)
def no_queue(subject: Subject) -> Iterator[Subject]:
    """Lines written meanwhile never arrive."""
    yield from _careless(subject, "no-queue")


@fault(every_line_is_forwarded, expects=("FORWARD-LOST",), breaks="plain TCP: what the sink took and did not record")
def no_acknowledgement(subject: Subject) -> Iterator[Subject]:
    """What was in the connection when the sink died never arrives."""
    yield from _careless(subject, "no-acknowledgement")


@fault(every_line_is_forwarded, expects=("FORWARD-REPEATED",), breaks="a forwarder that sends lines twice")
def repeats(subject: Subject) -> Iterator[Subject]:
    """After each connection the last lines come again."""
    yield from _careless(subject, "repeats")

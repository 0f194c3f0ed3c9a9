"""Health endpoints: what each service says of itself, and whether it says the truth."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from psycopg import sql

from checks import half_restored, health
from checks.checked import Check
from checks.conformance.registry import Look, conformance, fault
from checks.conformance.subject import Subject
from checks.health_asking import Asking, ask_with
from fixtures.proxy import Mode
from fixtures.refapp import faults
from reports.records import parse_duration

GUIDE: Final = "line 29: Health Checks"
SUPPORTS: Final = ("NIST 800-53r5 SI-6", "ISO 27001:2022 A.8.16")
STEADY_ROUNDS: Final = 30
STEADY_FEWEST: Final = 5
STEADY_SECONDS: Final = 2.0
# Beside what is named as found, and proven by a fault, each check also judges the form of every answer that it gets.
FORM: Final = (
    "HEALTH-NO-ANSWER", "HEALTH-CODE-UNKNOWN", "HEALTH-BODY-UNREADABLE", "HEALTH-BODY-DISAGREES",
    "HEALTH-BODY-TOO-LARGE", "HEALTH-LEAKS",
)  # fmt: skip
LOSS: Final = (
    "HEALTH-LIVE-DIES", "HEALTH-READY-LIES", "HEALTH-NO-RETURN", "HEALTH-FLAPS", "HEALTH-NO-ANSWER", "HEALTH-LEAKS"
)  # fmt: skip
# One after the other on the same dependency: lost once, and then away in other ways.
AWAY: Final[tuple[tuple[Mode, str], ...]] = (
    ("refuse", "refuses connections"), ("cut", "cuts its answers short"), ("reset", "resets connections")
)  # fmt: skip


@conformance(guide=GUIDE, supports=SUPPORTS, finds=(*FORM, "HEALTH-NOT-READY"), after_restore=True)
def services_are_live_and_ready(subject: Subject, check: Check) -> None:
    """Every service of a whole deployment says that it is live and ready, in its convention, and shows no secret."""

    async def look(asking: Asking) -> None:
        check.findings += health.judge_all_ready(await asking.rounds(1))

    ask_with(subject, check, look)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("HEALTH-SLOW", "HEALTH-FLAPS"))
def answers_come_soon_and_stay_the_same(subject: Subject, check: Check) -> None:
    """While nothing happens, health endpoints answer quickly and always the same."""

    async def look(asking: Asking) -> None:
        answers = await asking.one_by_one(STEADY_ROUNDS, fewest=STEADY_FEWEST, seconds=STEADY_SECONDS)
        check.findings += health.judge_all_ready(answers)
        check.findings += health.judge_steady(answers, subject.profile.health.p95_ns)
        check.looked_at |= health.latencies(answers)

    ask_with(subject, check, look)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("HEALTH-READY-USELESS",), owned=True)
def ready_services_do_business(subject: Subject, check: Check) -> None:
    """Where every service says that it is ready, a business transaction succeeds."""

    async def look(asking: Asking) -> None:
        answers = await asking.rounds(1)
        check.findings += health.judge_all_ready(answers)
        if all(answer.status == health.OK for answer in answers):
            asking.transact("every service said that it is ready")

    ask_with(subject, check, look)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=LOSS, owned=True)
def losing_a_dependency_is_told(subject: Subject, check: Check) -> None:
    """Without a dependency services stay live and say that they are not ready, and are ready once it is back.

    Each dependency refuses connections, cuts its answers short, and resets connections. What readiness says is watched
    for a while: with the last of them away, and after all are back from being away at once.
    """

    async def look(asking: Asking) -> None:
        last = list(subject.proxies)[-1:]
        for dependency, proxy in subject.proxies.items():
            with proxy.turned("pass"):
                for mode, how in AWAY:
                    # Another that is away would hide what is said of this one: only one at a time can be watched.
                    watch = [dependency] == last and mode == AWAY[-1][0] and not check.findings
                    await asking.lose([dependency], mode, f"{dependency} {how}", apart=0.01, watch=watch)
            await asking.come_back(f"{dependency} is back")
            if not check.findings:
                asking.transact(f"{dependency} is back and every service says that it is ready")
        if check.findings:
            return
        with contextlib.ExitStack() as away:
            for proxy in subject.proxies.values():
                away.enter_context(proxy.turned("pass"))
            await asking.lose(list(subject.proxies), "reset", "every dependency resets connections", apart=0.01)
        # Yes is said only where all is well, so the returns of all can be watched at once.
        await asking.come_back("every dependency is back", watch=True)

    ask_with(subject, check, look)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("HEALTH-HANGS", "HEALTH-READY-LIES"), owned=True)
def a_hanging_dependency_is_told(subject: Subject, check: Check) -> None:
    """While a dependency hangs, services stay live, say in time that they are not ready, and hang no longer than it.

    While all dependencies are slow, whether a service is ready is for it to say; its answers come in time.
    """

    async def look(asking: Asking) -> None:
        for dependency, proxy in subject.proxies.items():
            with proxy.turned("pass"):
                await asking.lose([dependency], "hang", f"{dependency} hangs", apart=0.05)
            await asking.come_back(f"{dependency} moves again")
        if check.findings:
            return
        with contextlib.ExitStack() as slow:
            for proxy in subject.proxies.values():
                slow.enter_context(proxy.turned("slow"))
            answers = await asking.rounds(health.STEADY, apart=0.05)
            check.findings += health.judge_alive(answers, "every dependency is slow")
        await asking.come_back("no dependency is slow any more")

    ask_with(subject, check, look)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("HEALTH-READY-UNRESTORED",), owned=True)
def a_database_that_is_not_whole_is_told(subject: Subject, check: Check) -> None:
    """On an empty database, on tables without rows and on rows without keys, no service that needs it is ready."""
    database, processes = subject.deployment.database, subject.deployment.processes
    dumped, sections = subject.directory / "half-restored.dump", half_restored.SECTIONS
    if half_restored.size_of(database) > half_restored.MOST_BYTES:
        check.not_tested.append({"what": "readiness on a half-restored database", "reason": "it is too large to dump"})
        sections = {}

    async def look(asking: Asking) -> None:
        with half_restored.empty_in_its_place(database):
            await asking.stand_on("an empty database", None)
            for section, words in sections.items():
                if not check.saw(("HEALTH-READY-UNRESTORED",)):
                    restore = functools.partial(half_restored.restore_section, database, dumped, section, processes)
                    await asking.stand_on(words, restore)
        await asking.come_back("the whole database is back")

    try:
        if sections:
            half_restored.dump(database, dumped, processes)
        ask_with(subject, check, look)
    finally:
        dumped.unlink(missing_ok=True)


def _narrowed(subject: Subject, dependencies: Sequence[str], bounds: Sequence[str]) -> Subject:
    """The same with fewer dependencies and tighter bounds, so that what is broken shows sooner than the guide asks."""
    tighter: dict[str, Any] = {
        f"{name}_ns": parse_duration(value) for name, value in (each.split("=") for each in bounds)
    }
    return dataclasses.replace(
        subject,
        proxies={name: subject.proxies[name] for name in dependencies} or subject.proxies,
        profile=dataclasses.replace(
            subject.profile, health=dataclasses.replace(subject.profile.health, **tighter)
        ),
    )  # fmt: skip


def _proves(
    check: Look, name: str, service: str, *, expects: str, dependencies: Sequence[str] = (),
    bounds: Sequence[str] = (), called: str = "", also: str = "",
) -> None:  # fmt: skip
    """Register a fault switch, thrown in one service while it runs.

    ``called``: the fault's name where it is not the switch's; ``also``: what it may show instead on a slow machine.
    """

    def switched(subject: Subject) -> Iterator[Subject]:
        with subject.thrown((service,), name):
            yield _narrowed(subject, dependencies, bounds)

    switched.__name__ = called or name.replace("-", "_")
    fault(check, expects=(expects, also) if also else (expects,), breaks=faults.KNOWN[name])(switched)


_proves(services_are_live_and_ready, "never-ready", "ocr", expects="HEALTH-NOT-READY")
_proves(services_are_live_and_ready, "wrong-code", "ocr", expects="HEALTH-CODE-UNKNOWN")
_proves(services_are_live_and_ready, "body-not-json", "ocr", expects="HEALTH-BODY-UNREADABLE")
_proves(services_are_live_and_ready, "body-disagrees", "ocr", expects="HEALTH-BODY-DISAGREES")
_proves(services_are_live_and_ready, "body-large", "ocr", expects="HEALTH-BODY-TOO-LARGE")
_proves(services_are_live_and_ready, "body-tells-secrets", "ocr", expects="HEALTH-LEAKS")
_proves(answers_come_soon_and_stay_the_same, "flaps", "ocr", expects="HEALTH-FLAPS")
_proves(answers_come_soon_and_stay_the_same, "slow-readiness", "ocr", expects="HEALTH-SLOW", bounds=("p95=100ms",))
for _name, _code in (
    ("ready-lies", "HEALTH-READY-LIES"), ("never-returns", "HEALTH-NO-RETURN"),
    ("live-asks-dependencies", "HEALTH-LIVE-DIES"), ("body-tells-why", "HEALTH-LEAKS"),
):  # fmt: skip
    _proves(
        losing_a_dependency_is_told, _name, "web", expects=_code, dependencies=("ocr",),
        bounds=("turn=200ms", "return=200ms"),
    )  # fmt: skip
_proves(
    losing_a_dependency_is_told, "drops-connections", "web", expects="HEALTH-NO-ANSWER", dependencies=("ocr",),
)  # fmt: skip
_proves(
    losing_a_dependency_is_told, "lies-later", "web", expects="HEALTH-FLAPS", dependencies=("ocr",),
    bounds=("turn=2s",), also="HEALTH-READY-LIES",
)  # fmt: skip
_proves(
    losing_a_dependency_is_told, "flaps-after-return", "web", expects="HEALTH-FLAPS", dependencies=("ocr",),
    bounds=("steady=1s",),
)  # fmt: skip
_proves(
    a_hanging_dependency_is_told, "ready-hangs", "web", expects="HEALTH-HANGS", dependencies=("ocr",),
    bounds=("turn=3s", "longest=1500ms"),
)  # fmt: skip
_proves(
    a_hanging_dependency_is_told, "ready-lies", "web", expects="HEALTH-READY-LIES", dependencies=("ocr",),
    bounds=("turn=200ms",), called="ready_lies_of_what_hangs",
)  # fmt: skip
_proves(
    a_database_that_is_not_whole_is_told, "ready-without-schema", "web", expects="HEALTH-READY-UNRESTORED",
    bounds=("turn=200ms",),
)  # fmt: skip


@fault(ready_services_do_business, expects=("HEALTH-READY-USELESS",), breaks="a database that takes no writes")
def database_takes_no_writes(subject: Subject) -> Iterator[None]:
    """As on a standby, or a server whose disk is full: what readiness asks works, and nothing else."""
    database, name = subject.deployment.database, sql.Identifier(subject.deployment.database.name)
    with database.connect("postgres") as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        half_restored.end_sessions(connection, database.name)
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
            half_restored.end_sessions(connection, database.name)

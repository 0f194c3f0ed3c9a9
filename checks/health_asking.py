"""Asking a deployment's health endpoints while it is left alone, disturbed or restored; every answer is judged."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from checks import health
from checks.checked import Check
from checks.conformance.subject import Subject
from checks.health_secrets import Planted, judge_secrets, planted
from fixtures.application import Lists
from fixtures.health import ENDPOINTS, Answer, Asker, make_asker
from fixtures.proxy import Mode
from reports.records import NANOSECONDS, Finding, monotonic_ns

NAME: Final = "health-conformance.txt"
# While a state is watched; a round of questions has time to be answered before the next.
WATCH_APART: Final = 0.1
CONTENT: Final = b"Ask Ada at ada@health.example or +41 44 555 01 02.\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking:
    """One check's questions: whatever is asked, the form of each answer is judged on the way."""

    subject: Subject
    check: Check
    asker: Asker
    secrets: Planted

    async def rounds(self, count: int, *, apart: float = 0.0) -> list[Answer]:
        """Every endpoint of every service so many times, those of a round at once; each answer judged by itself."""
        return self._judged(await self.asker.rounds(self.subject.deployment.services, count, apart=apart))

    async def one_by_one(self, count: int, *, fewest: int, seconds: float) -> list[Answer]:
        """The same with one question at a time, so that answers take what they take and do not wait for one another.

        No further round begins after so many ``seconds``, once there were the ``fewest``.
        """
        answers: list[Answer] = []
        end = self.subject.clock.now() + round(seconds * NANOSECONDS)
        for number in range(count):
            if number >= fewest and self.subject.clock.now() > end:
                break
            for service in self.subject.deployment.services:
                answers += [await self.asker.ask(service, endpoint) for endpoint in ENDPOINTS]
        return self._judged(answers)

    def _judged(self, answers: list[Answer]) -> list[Answer]:
        bounds = self.subject.profile.health
        self.check.looked_at["answers"] = self.check.looked_at.get("answers", 0) + len(answers)
        self.check.findings += health.judge_time(answers, bounds.longest_ns)
        for answer in answers:
            self.check.findings += health.judge_body(answer, bounds)
            self.check.findings += judge_secrets(answer, self.secrets)
        return answers

    async def until(self, wanted: dict[str, bool], *, since_ns: int, bound_ns: int, apart: float) -> list[Answer]:
        """Rounds until each service's readiness has settled as wanted, or the bound is over."""
        answers: list[Answer] = []
        while True:
            answers += await self.rounds(health.STEADY + 1, apart=apart)
            if health.settled(answers, wanted) or self.subject.clock.now() - since_ns > bound_ns:
                return answers

    async def watched(self, wanted: dict[str, bool]) -> list[Answer]:
        """Rounds for as long as a state is watched, or until a service's readiness has left it."""
        answers: list[Answer] = []
        end = self.subject.clock.now() + self.subject.profile.health.steady_ns
        while self.subject.clock.now() < end:
            latest = await self.rounds(health.STEADY, apart=WATCH_APART)
            answers += latest
            if not health.settled(latest, wanted):
                break
            await asyncio.sleep(WATCH_APART)
        return answers

    def needing(self, dependency: str) -> list[str]:
        """The services that need a dependency, by the profile or the product's guides."""
        profiles = self.subject.profile.services
        return [each.name for each in self.subject.deployment.services if dependency in profiles[each.name].needs]

    async def lose(
        self, dependencies: Sequence[str], mode: Mode, how: str, *, apart: float, watch: bool = False
    ) -> None:
        """Take dependencies away, or away in another way, and see what the endpoints say.

        ``watch``: and go on saying, for as long as a state is watched.
        """
        bounds = self.subject.profile.health
        needing = sorted({service for each in dependencies for service in self.needing(each)})
        for each in dependencies:
            self.subject.proxies[each].turn(mode)
        lost = self.subject.clock.now()
        wanted = dict.fromkeys(needing, False)
        answers = await self.until(wanted, since_ns=lost, bound_ns=bounds.turn_ns, apart=apart)
        if watch and health.settled(answers, wanted):
            answers += await self.watched(wanted)
        self.check.findings += health.judge_loss(
            answers, needing=needing, lost_ns=lost, turn_ns=bounds.turn_ns, how=how
        )

    async def come_back(self, how: str, *, watch: bool = False) -> None:
        """See every service ready again, what was away being back. ``watch`` as of ``lose``."""
        bounds, back = self.subject.profile.health, self.subject.clock.now()
        wanted = {service.name: True for service in self.subject.deployment.services}
        answers = await self.until(wanted, since_ns=back, bound_ns=bounds.return_ns, apart=0.02)
        if watch and health.settled(answers, wanted):
            answers += await self.watched(wanted)
        self.check.findings += health.judge_return(answers, back_ns=back, return_ns=bounds.return_ns, how=how)

    async def stand_on(self, words: str, change: Callable[[], None] | None) -> None:
        """See no service ready that needs the database, while it is changed into a state that is not whole, and in it.

        Without a ``change`` it is in that state already, and services have their time to turn.
        """
        wanted, bounds = dict.fromkeys(self.needing("database"), False), self.subject.profile.health
        if change is None:
            since = self.subject.clock.now()
            answers = await self.until(wanted, since_ns=since, bound_ns=bounds.turn_ns, apart=0.01)
            answers = answers[-health.STEADY * len(self.subject.deployment.services) * len(ENDPOINTS) :]
        else:
            changing, answers = asyncio.create_task(asyncio.to_thread(change)), []
            while not changing.done():
                answers += await self.rounds(1)
                await asyncio.wait({changing}, timeout=0.03)
            await changing
            answers += await self.rounds(health.STEADY, apart=0.01)
        self.check.findings += health.judge_unrestored(answers, needing=list(wanted), words=words)

    def transact(self, when: str) -> None:
        """One business transaction, which must succeed where every service has just said that it is ready."""
        self.check.looked_at["transactions"] = self.check.looked_at.get("transactions", 0) + 1
        limit = self.subject.profile.transaction_limit_ns
        application = self.subject.own.application(timeout=limit / NANOSECONDS)
        try:
            application.transact(NAME, CONTENT, deadline_ns=monotonic_ns() + limit)
        except Exception as problem:  # However it fails, it is the application that failed: nothing else runs here.
            seen = f"{when}: {type(problem).__name__}: {problem}"
            self.check.findings.append(Finding(code="HEALTH-READY-USELESS", seen=seen, where="business transaction"))
        finally:
            with contextlib.suppress(Exception):  # Of what was never stored there is nothing to remove.
                if isinstance(application, Lists):
                    for document in application.documents(NAME):
                        application.delete(document.id)
            application.close()


def ask_with(subject: Subject, check: Check, look: Callable[[Asking], Awaitable[None]]) -> None:
    """Run a check's questions; its findings are merged, one for each code and place."""

    async def run() -> None:
        profile = subject.profile.health
        asker = make_asker(subject.clock, longest_ns=profile.longest_ns, most_bytes=profile.body_bytes)
        async with asker.client:
            secrets = planted(subject.configured(check))
            await look(Asking(subject=subject, check=check, asker=asker, secrets=secrets))

    asyncio.run(run())
    check.findings[:] = health.merged(check.findings)

"""What a conformance check looks at: a deployment that is up, and the ways the suite has to disturb it."""

from __future__ import annotations

import contextlib
import dataclasses
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from checks.checked import Check
from fixtures.backup_set import BackupPlaces
from fixtures.deployment import Deployment, NotGiven, Observed
from fixtures.health import ask
from fixtures.objectives import BackupObjectives
from fixtures.profile import Profile
from fixtures.proxy import Proxy
from fixtures.refapp import faults
from reports.records import Clock, HarnessError, Redactor, wait_until

START_SECONDS = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A deployment under check.

    ``directory``: for whatever a check makes; ``proxies``: between the services and each dependency, by its name;
    ``owner``: the deployment once more where it is the suite's own, else nothing may be disturbed. ``switches``: the
    file that throws fault switches. ``sets`` tells where its backups are; the suite's own are made when it is first
    asked. ``objectives`` is what is asked of them.
    """

    deployment: Observed
    profile: Profile
    directory: Path
    clock: Clock
    redactor: Redactor
    proxies: Mapping[str, Proxy] = dataclasses.field(default_factory=dict)
    owner: Deployment | None = None
    switches: Path | None = None
    sets: Callable[[], BackupPlaces | None] = lambda: None
    objectives: BackupObjectives | None = None

    @property
    def own(self) -> Deployment:
        """The deployment, to be disturbed.

        Raises:
            HarnessError: it is not the suite's own.
        """
        if self.owner is None:
            raise HarnessError("a deployment to disturb", seen="it is only observed", remedy="ask subject.owned first")
        return self.owner

    @property
    def owned(self) -> bool:
        """Whether it may be broken and restarted."""
        return self.owner is not None

    def configured(self, check: Check) -> Mapping[str, str]:
        """The configuration, whose secrets nothing may show; where it is not given, none, and the check says so."""
        try:
            return self.deployment.configuration()
        except NotGiven as absent:
            remark = {"what": "whether secrets of the configuration are shown", "reason": str(absent)}
            if remark not in check.not_tested:
                check.not_tested.append(remark)
            return {}

    @contextlib.contextmanager
    def thrown(self, services: Sequence[str], fault: str) -> Iterator[None]:
        """A fault switch of the reference application, thrown for a while in services that go on running."""
        assert self.switches is not None
        self.switches.write_text("".join(f"{service} {fault}\n" for service in services))
        try:
            yield
        finally:
            self.switches.unlink()

    def await_live(self, services: Sequence[str]) -> None:
        """Wait until services answer at all, whatever they say."""
        with httpx.Client(timeout=0.2, trust_env=False) as client:
            for service in self.deployment.services:
                if service.name in services:
                    wait_until(
                        lambda service=service: ask(client, service, "live") != 0,  # type: ignore[misc]
                        seconds=START_SECONDS, interval=0.02, what=f"any answer of {service.name}",
                    )  # fmt: skip


@contextlib.contextmanager
def behind_proxies(deployment: Deployment, switches: Path) -> Iterator[Mapping[str, Proxy]]:
    """Put a proxy between the services of a deployment that is up and each of their dependencies.

    Fault switches of the reference application are read from the file ``switches``.

    The configuration in force then names the proxies; it stays so, for the deployment goes when its proxies go.
    """
    with contextlib.ExitStack() as stack:
        values = deployment.configuration()
        proxies: dict[str, Proxy] = {}
        for name, variable in deployment.dependencies.items():
            parts = urllib.parse.urlsplit(values[variable])
            assert parts.hostname is not None
            assert parts.port is not None
            proxy = proxies[name] = stack.enter_context(Proxy(parts.hostname, parts.port))
            before, _, _ = parts.netloc.rpartition(":")
            values[variable] = parts._replace(netloc=f"{before}:{proxy.port}").geturl()
        values[faults.FILE_VARIABLE] = str(switches)
        deployment.stop_services()
        deployment.write_configuration(values)
        deployment.start_services()
        yield proxies

"""What a conformance check looks at: a deployment that is up, and the ways the suite has to disturb it."""

from __future__ import annotations

import contextlib
import dataclasses
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from fixtures.deployment import Deployment
from fixtures.health import ask
from fixtures.profile import Profile
from fixtures.proxy import Proxy
from reports.records import Clock, Redactor, wait_until

START_SECONDS = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A deployment under check.

    ``directory``: for whatever a check makes; ``proxies``: between the services and each dependency, by its name; empty
    where the deployment is not the suite's own, and then nothing may be disturbed.
    """

    deployment: Deployment
    profile: Profile
    directory: Path
    clock: Clock
    redactor: Redactor
    proxies: Mapping[str, Proxy] = dataclasses.field(default_factory=dict)

    @property
    def owned(self) -> bool:
        """Whether it may be broken and restarted."""
        return bool(self.proxies)

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
def behind_proxies(deployment: Deployment) -> Iterator[Mapping[str, Proxy]]:
    """Put a proxy between the services of a deployment that is up and each of their dependencies.

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
        deployment.stop_services()
        deployment.write_configuration(values)
        deployment.start_services()
        yield proxies

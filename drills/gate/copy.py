"""A restored copy as something to be looked at, as any deployment that is up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from checks.conformance.subject import Subject
from drills.shadow_site import ShadowSite
from drills.shadow_verification import configuration
from fixtures.deployment import ClientAccess, Database, NotGiven, ObjectStore, Service
from fixtures.processes import Processes


@dataclasses.dataclass(kw_only=True)
class Copy:
    """The sandbox of a site: see ``fixtures.deployment.Observed``."""

    site: ShadowSite
    name: str
    provider: str
    architecture: str
    stand_in: bool
    processes: Processes

    @property
    def database(self) -> Database:
        """The restored database, as its superuser."""
        return self.site.sandbox.database

    @property
    def objects(self) -> ObjectStore:
        """The restored bucket."""
        return self.site.sandbox.objects

    @property
    def services(self) -> Sequence[Service]:
        """What is booted."""
        return self.site.sandbox.services

    def versions(self) -> Mapping[str, str]:
        """The versions of the programs that are used here."""
        return self.site.deployment.versions()

    def configuration(self) -> dict[str, str]:
        """The configuration that the services are booted with.

        Raises:
            NotGiven: the profile does not name it.
        """
        if not (values := configuration(self.site)):
            raise NotGiven("the services' configuration", remedy="name their environment file as configuration.file")
        return values

    def client_access(self) -> ClientAccess:
        """What a client of the copy has.

        Raises:
            NotGiven: no service is booted.
        """
        sandbox, door = self.site.sandbox, next(iter(reversed(self.site.sandbox.services)), None)
        if door is None:
            raise NotGiven("the door of the copy", remedy="say in [shadow.services] how the services are booted")
        return ClientAccess(url=door.url, api_key=self.site.api_key, dsn=sandbox.dsn, objects=sandbox.client_objects)

    def log_file(self, service: str) -> Path:
        """What the booted service wrote to stdout."""
        return self.site.sandbox.running[service].output


def copy_of(site: ShadowSite) -> Copy:
    """The sandbox of a site, as something to be looked at."""
    deployment = site.deployment
    return Copy(
        site=site,
        name=deployment.name,
        provider=deployment.provider,
        architecture=deployment.architecture,
        stand_in=deployment.stand_in,
        processes=site.processes,
    )


def subject_of(site: ShadowSite) -> Subject:
    """The same for conformance checks; its logs are those of the booted services, not the deployment's."""
    logs = dataclasses.replace(site.profile.logs, sources={})
    return Subject(
        deployment=copy_of(site),
        profile=dataclasses.replace(site.profile, logs=logs),
        directory=site.directory,
        clock=site.record.clock,
        redactor=site.record.redactor,
    )

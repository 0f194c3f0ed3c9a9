"""What is noted while a drill goes on: commands that ended, and how the services' health turned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from drills.site import Site
from fixtures import health
from fixtures.deployment import Service
from fixtures.processes import Finished
from reports.records import NANOSECONDS, Journal


def journal_command(journal: Journal, drill: str, said: list[Finished], finished: Finished) -> None:
    """Journal a command that ended; add it to those whose words are to agree with their exit code."""
    journal.write(
        "command",
        drill=drill,
        argv=list(finished.argv),
        exit=finished.exit,
        started_ns=finished.started_ns,
        ended_ns=finished.ended_ns,
        env=list(finished.variables),
        **{name: str(path) for name, path in finished.redirected.items()},
    )
    # rclone tells of each attempt that failed, also of those that it made good; its copies are compared.
    if finished.exit == 0 and Path(finished.argv[0]).name != "rclone":
        said.append(finished)


def await_health(site: Site, wanted: Callable[[int], bool], of: Callable[[Iterable[bool]], bool] = all) -> None:
    """Wait until the services' health endpoints, all or any of them, answer as wanted; journal every change.

    Raises:
        HarnessError: they did not in the time that a start may take.
    """

    def changed(service: Service, endpoint: str, status: int) -> None:
        site.journal.write(
            "health",
            drill=site.id,
            service=service.name,
            endpoint=endpoint,
            status=status,
            at_ns=site.record.clock.now(),
        )

    seconds = site.profile.start_limit_ns / NANOSECONDS
    health.await_health(site.deployment.services, wanted, of=of, seconds=seconds, changed=changed)

"""Bringing a deployment back to the instant of its set, outside of what is measured, as far as each step can go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from drills.made import Made
from drills.site import Site
from fixtures.damage import looking_first
from fixtures.processes import Finished
from reports.records import Failure, HarnessError


def say(site: Site, kind: str, **fields: Any) -> None:
    """Write to the journal where that can be done: no full disk may keep somebody's data from coming back."""
    with contextlib.suppress(OSError, ValueError):
        site.journal.write(kind, drill=site.id, **fields)


def bring_back(site: Site, made: Sequence[Made]) -> None:
    """Bring both stores to the instant of one set: the oldest, which no disaster spoils.

    The database first: it is what most is lost with. Objects are put back where the bucket lacks them, whatever others
    have put there since. A step that fails does not keep the next from being taken; but services are not started on a
    database or configuration that did not come back: what they wrote there would be lost.

    Raises:
        HarnessError: steps failed; all of them are named.
    """
    deployment, scenario, plan, chosen = site.deployment, site.scenario, site.plan, made[0]
    # Where objects came back from the copy, rows that are younger would refer to what is lost.
    database = bool(plan.database) or plan.objects != "keep"
    job, problems = site.restore_job(), list[str]()

    def attempt(what: str, *steps: Callable[[], object]) -> bool:
        try:
            for step in steps:
                step()
        except (HarnessError, Failure, OSError, psycopg.Error) as problem:
            problems.append(f"{what}: {problem}")
            return False
        return True

    def restore_database() -> None:
        deployment.discard_database()
        deployment.provision(database=scenario.database.into == "server", objects=False)
        scenario.database.restore(chosen.backup.place("database"), deployment.database, job)

    def restore_configuration() -> None:
        deployment.write_configuration(scenario.configuration.restore(chosen.backup.place("configuration"), job))

    say(site, "phase.opened", phase="bring back")
    with _journalling_where_it_can(site):
        attempt("stopping the services", deployment.shut_out_clients)
        whole = attempt("database", restore_database) if database else True
        if plan.configuration:
            whole = attempt("configuration", restore_configuration) and whole
        if scenario.disaster.objects == "overwritten":
            # There the keys are, with what nobody wants in them. Of any other disaster, what is there is somebody's.
            attempt("removing what was overwritten", deployment.discard_objects)
        attempt("objects", looking_first(deployment), lambda: scenario.objects.restore(
            chosen.backup.place("objects"), deployment.objects, job))  # fmt: skip
        attempt("admitting clients", deployment.admit_clients)
        if whole:
            attempt("starting the services", deployment.start_services)
        else:
            problems.append("the services were not started on what did not come back")
    outcome, error = ("failed", "; ".join(problems)[:2000]) if problems else ("done", "")
    say(site, "phase.closed", phase="bring back", outcome=outcome, error=error)
    if problems:
        raise HarnessError(
            f"bringing {deployment.name} back", seen="; ".join(problems), remedy="follow the set's RESTORE.txt"
        )


@contextlib.contextmanager
def _journalling_where_it_can(site: Site) -> Iterator[None]:
    processes = site.deployment.processes
    record = processes.record

    def noted(finished: Finished) -> None:
        with contextlib.suppress(OSError, ValueError):
            record(finished)

    processes.record = noted
    try:
        yield
    finally:
        processes.record = record

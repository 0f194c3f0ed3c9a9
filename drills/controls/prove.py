"""Runs every control and journals what it saw."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from checks.database import fingerprint
from drills.controls import (
    archive,
    artefacts,
    backup,
    configuration,
    database,
    ledger,
    objects,
    output,
    point_in_time,
    quiet,
    reach,
    target,
    trail,
)
from drills.controls.bench import Bench, Control, Copy, Seen
from fixtures.deployment import Database, Deployment, NotGiven
from reports.records import Journal

# The families of controls that touch nothing of the database's copy.
BESIDE: Final = (
    objects,
    configuration,
    artefacts,
    backup,
    archive,
    point_in_time,
    quiet,
    reach,
    target,
    output,
    trail,
    ledger,
)

Family = Callable[[Bench], Iterator[Control]]
NOTHING_THERE: Final = "nothing of that kind is here to break"


def prove(bench: Bench, *, every: bool, families: Sequence[Family] | None = None) -> None:
    """Run every control that applies and journal each; what could not be broken here is journalled as not tested.

    Args:
        every: run those too of which one proof in a run is enough.
        families: those that touch nothing of the database's copy; unset, all of a drill's.
    """
    started = bench.journal.clock.now()
    families = families or [family.controls for family in BESIDE]
    beside = [control for family in families for control in family(bench) if every or control.every_drill]
    with contextlib.ExitStack() as stack:
        lanes = [beside]
        if every:
            stack.enter_context(database_copy(bench.deployment.database, bench.copy))
            connection = stack.enter_context(bench.connect())
            twin = fingerprint(bench.connect, held=None, jobs=bench.job.jobs, key=bench.expected.key)
            # What breaks the copy goes one after the other; the rest touches nothing of it and runs beside.
            lanes.append([*database.controls(bench, Copy(connection=connection, twin=twin))])
        with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
            run_all = functools.partial(_run_all, bench.journal, bench.drill, bench.deployment)
            untested = [remark for remarks in pool.map(run_all, lanes) for remark in remarks]
    _tell_how_many(bench.journal, bench.drill, started, sum(len(lane) for lane in lanes), untested)


def prove_each(journal: Journal, drill: str, deployment: Deployment, controls: Iterable[Control]) -> None:
    """Run controls that need no bench, one after the other, and journal each as ``prove`` does."""
    started, given = journal.clock.now(), list(controls)
    untested = _run_all(journal, drill, deployment, given)
    _tell_how_many(journal, drill, started, len(given), untested)


def _tell_how_many(
    journal: Journal, drill: str, started: int, controls: int, untested: Sequence[Mapping[str, str]]
) -> None:
    journal.write(
        "check",
        drill=drill,
        check="controls that apply",
        started_ns=started,
        ended_ns=journal.clock.now(),
        looked_at={"controls": controls},
        findings=[],
        error="",
        not_tested=list(untested),
    )


def _run_all(journal: Journal, drill: str, deployment: Deployment, controls: Sequence[Control]) -> list[dict[str, str]]:
    """Run controls one after the other; a remark for each of those that found nothing to break."""
    reasons = {control.name: _run(journal, drill, deployment, control) for control in controls}
    return [{"what": f"control {name}", "reason": reason} for name, reason in reasons.items() if reason]


def _run(journal: Journal, drill: str, deployment: Deployment, control: Control) -> str:
    """Run one control and journal it; why there was nothing to break, where there was nothing."""
    started, error, seen, reason, always = journal.clock.now(), "", Seen(), NOTHING_THERE, control.always
    try:
        seen = control.look()
    except NotGiven as absent:
        # Of the reference application everything is told.
        reason, always = f"{absent.probed}: {absent.seen}. {absent.remedy}", True
    except Exception as problem:
        # A control that breaks has proved nothing, whatever broke it.
        error = f"{type(problem).__name__}: {problem}"
    if not seen.victim and not error:
        if not (always and deployment.stand_in):
            return reason
        error = f"found nothing to break, though the reference application holds some: {reason}"
    codes = sorted({finding.code for finding in seen.findings if finding.kind.severity == "failure"})
    caught = not error and (bool(set(codes) & set(control.expects)) if control.expects else not codes)
    journal.write(
        "control",
        drill=drill,
        control=control.name,
        breaks=f"{control.breaks}: {seen.victim}"[:500] if seen.victim else control.breaks,
        expects=list(control.expects),
        saw=codes,
        caught=caught,
        error=error[:2000],
        started_ns=started,
        ended_ns=journal.clock.now(),
    )
    return ""


@contextlib.contextmanager
def database_copy(database: Database, name: str) -> Iterator[None]:
    """A copy of the restored database, with the settings, privileges and comment that a template does not pass on."""
    copy, original = sql.Identifier(name), sql.Identifier(database.name)
    with database.connect("postgres") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (database.name,),
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                copy, original, sql.Identifier(_owner(connection, database.name))
            )
        )
        try:
            names = {"copy": name, "original": database.name}
            connection.execute(
                "UPDATE pg_database c SET datacl = o.datacl, datconnlimit = o.datconnlimit FROM pg_database o"
                " WHERE c.datname = %(copy)s AND o.datname = %(original)s",
                names,
            )
            connection.execute(
                "INSERT INTO pg_db_role_setting (setdatabase, setrole, setconfig)"
                " SELECT c.oid, s.setrole, s.setconfig FROM pg_db_role_setting s"
                " JOIN pg_database o ON o.oid = s.setdatabase AND o.datname = %(original)s"
                " JOIN pg_database c ON c.datname = %(copy)s",
                names,
            )
            connection.execute(
                "INSERT INTO pg_shdescription (objoid, classoid, description)"
                " SELECT c.oid, s.classoid, s.description FROM pg_shdescription s"
                " JOIN pg_database o ON o.oid = s.objoid AND o.datname = %(original)s"
                " JOIN pg_database c ON c.datname = %(copy)s WHERE s.classoid = 'pg_database'::regclass",
                names,
            )
            yield
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(copy))


def _owner(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (name,)).fetchone()
    assert row is not None
    return str(row[0])

"""Breakages of the database: in transactions of a copy, rolled back; sequences, which stand outside, are put back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Final

import psycopg

from checks.database import compare, fingerprint_on, sequences_behind_columns
from checks.snapshot import read_sequences, reading
from drills.controls.bench import Bench, Control, Copy, Seen
from drills.controls.breakages import BREAKAGES, Breakage
from reports.records import HarnessError

# What protects a victim from being broken. Anything else means that the control itself is broken.
PROTECTED: Final = (
    psycopg.errors.IntegrityError,
    psycopg.errors.DataError,
    psycopg.errors.GeneratedAlways,
    psycopg.errors.DependentObjectsStillExist,
)


def controls(bench: Bench, copy: Copy) -> Iterator[Control]:
    """The untouched copy, and each way to break it."""
    yield Control(name="healthy twin", breaks="nothing", look=lambda: _healthy(bench, copy))
    for breakage in BREAKAGES:
        yield Control(
            name=breakage.name,
            breaks=breakage.breaks,
            expects=breakage.expects,
            look=functools.partial(_break, bench, copy, breakage),
        )
    yield Control(
        name="sequence set back",
        breaks="a sequence set before the position it had",
        expects=("SEQUENCE-SET-BACK",),
        look=lambda: _move_sequence(bench, copy, behind_column=False),
    )
    yield Control(
        name="sequence behind its column",
        breaks="a sequence set under a value in use",
        expects=("SEQUENCE-BEHIND-COLUMN",),
        look=lambda: _move_sequence(bench, copy, behind_column=True),
    )


def _healthy(bench: Bench, copy: Copy) -> Seen:
    """The untouched copy: its structure as the backup held it, its contents read twice over, its sequences."""
    with copy.connection.transaction(force_rollback=True):
        again = fingerprint_on(copy.connection, key=bench.expected.key, tables=list(copy.twin.tables))
    structure = compare(
        dataclasses.replace(bench.expected.database, tables={}, sequences={}),
        dataclasses.replace(copy.twin, tables={}, sequences={}),
    )
    # What the restored database has itself is told of it; a copy must have no more.
    with reading(bench.deployment.database.connect, snapshot=None) as connection:
        told = {finding.seen for finding in sequences_behind_columns(connection)}
    with reading(bench.connect, snapshot=None) as connection:
        behind = [finding for finding in sequences_behind_columns(connection) if finding.seen not in told]
    contents = compare(copy.twin, again, matviews_refreshed=False)
    return Seen(victim="the copy as it is", findings=[*structure, *contents, *behind])


def _break(bench: Bench, copy: Copy, breakage: Breakage) -> Seen:
    """Break the copy in a transaction, look at it from inside, and roll back."""
    connection = copy.connection
    victims = connection.execute(breakage.victims.encode()).fetchall()
    protected = 0
    for victim, *tables in victims:
        touched = [str(tables[0])] if breakage.table else []
        before = dataclasses.replace(copy.twin, tables={table: copy.twin.tables[table] for table in touched})
        statement = breakage.break_it.replace("{}", str(victim))
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL client_min_messages = error")
                if breakage.without_triggers:
                    connection.execute("SET LOCAL session_replication_role = replica")
                changed = connection.execute(statement.encode()).rowcount
                after = fingerprint_on(connection, key=bench.expected.key, tables=touched)
        except PROTECTED:
            protected += 1
            continue  # try the next
        if changed != 0:
            return Seen(victim=str(victim), findings=compare(before, after))
    if protected < len(victims):
        raise HarnessError(
            f"the control {breakage.name!r}",
            seen=f"of {len(victims)}, {protected} are protected, and the others were not broken",
            remedy="mend its statement in drills/controls/breakages.py",
        )
    return Seen()


def _move_sequence(bench: Bench, copy: Copy, *, behind_column: bool) -> Seen:
    """Set a sequence back on the copy, look, and put it where it was: positions are no part of a transaction."""
    moved = [name for name, position in sorted(copy.twin.sequences.items()) if position.next > position.increment > 0]
    for name in moved:
        with bench.connect() as connection:
            connection.execute(
                "SELECT setval(seqrelid::regclass, seqmin, false) FROM pg_sequence WHERE seqrelid = %s::regclass",
                (name,),
            )
            try:
                with reading(bench.connect, snapshot=None) as reader:
                    behind = sequences_behind_columns(reader)
                    positions = read_sequences(reader)
            finally:
                connection.execute("SELECT setval(%s, %s, false)", (name, copy.twin.sequences[name].next))
        if behind_column and not behind:
            continue  # it feeds no filled column
        after = dataclasses.replace(copy.twin, sequences=positions)
        return Seen(victim=name, findings=behind if behind_column else compare(copy.twin, after))
    return Seen()

"""The negative controls of a rehearsal: what an upgrade could do wrong, done to copies, and seen."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import psycopg

from checks.checked import Check
from checks.contents import LARGE_OBJECTS, digest_on
from checks.snapshot import fix_settings
from checks.upgraded import Allowed, judge_rows, judge_sequences, kept_columns
from drills.controls.bench import Control, Seen
from drills.controls.prove import database_copy
from drills.gate.before import Before, Compared, compare_rows
from drills.gate.reference import LOSES_A_ROW
from drills.gate.versions import judge_versions
from fixtures.upgrade_settings import UpgradeSettings
from reports.records import NANOSECONDS

# Types of which another value can be made without knowing what the column means.
ALTERABLE: Final = """
SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND a.attnum > 0 AND a.attgenerated = '' AND a.atttypid = 'timestamptz'::regtype
ORDER BY 1, 2
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """What the controls work with: the data of before, how they were compared, what the upgrade may change."""

    before: Before
    compared: Compared
    allowed: Allowed
    upgrade: UpgradeSettings


def controls(proof: Proof) -> Iterator[Control]:
    """Every control of the rehearsal."""
    yield Control(
        name="upgrade loses a row", breaks="a row removed from a copy of the data", expects=("UPGRADE-LOSES-ROWS",),
        look=lambda: _row_lost(proof),
    )  # fmt: skip
    yield Control(
        name="upgrade alters a value", breaks="one instant moved by a microsecond", expects=("UPGRADE-ALTERS-ROWS",),
        look=lambda: _value_altered(proof),
    )  # fmt: skip
    yield Control(
        name="upgrade drops a column", breaks="a column that is not there afterwards", expects=("UPGRADE-DROPS-DATA",),
        look=lambda: _dropped(proof),
    )  # fmt: skip
    yield Control(
        name="upgrade sets a sequence back", breaks="a position before that of before", always=False,
        expects=("SEQUENCE-SET-BACK",), look=lambda: _set_back(proof),
    )  # fmt: skip
    yield Control(
        name="another version answers", breaks="services of the old version in the new one's place",
        expects=("UPGRADE-OTHER-VERSION",), look=lambda: _other_version(proof),
    )  # fmt: skip
    if proof.before.site.deployment.stand_in:
        yield Control(
            name="an upgrade that ends well and loses a row", breaks="a release made to do so, run on a copy",
            expects=("UPGRADE-LOSES-ROWS",), look=lambda: _lossy(proof),
        )  # fmt: skip
    yield Control(name="healthy twin", breaks="nothing", expects=(), look=lambda: _untouched(proof))


@contextlib.contextmanager
def _undone(proof: Proof) -> Iterator[psycopg.Connection[Any]]:
    """The data of before, in a transaction that is rolled back, without triggers and keys in the way."""
    with proof.before.connect() as connection, connection.transaction(force_rollback=True):
        # As the rows were read that it is held against: a database may have a time zone of its own.
        fix_settings(connection)
        connection.execute("SET LOCAL session_replication_role = replica")
        yield connection


def _judged(proof: Proof, connection: psycopg.Connection[Any], table: str) -> Seen:
    columns = proof.compared.kept.before
    broken = digest_on(connection, tables=[table], columns=columns)
    return Seen(victim=table, findings=judge_rows(proof.compared.before, {**proof.compared.before, **broken},
                                                  proof.compared.kept))  # fmt: skip


def _largest(proof: Proof) -> str:
    """The table with the most rows."""
    rows = {name: each.rows for name, each in proof.compared.before.items() if name != LARGE_OBJECTS and each.rows}
    return max(rows, key=lambda name: rows[name], default="")


def _row_lost(proof: Proof) -> Seen:
    if not (table := _largest(proof)):
        return Seen()
    with _undone(proof) as connection:
        statement = f"DELETE FROM ONLY {table} WHERE ctid = (SELECT ctid FROM ONLY {table} LIMIT 1)"
        connection.execute(statement.encode())
        return _judged(proof, connection, table)


def _value_altered(proof: Proof) -> Seen:
    kept = proof.compared.kept.before
    with _undone(proof) as connection:
        for table, column in connection.execute(ALTERABLE).fetchall():
            if table not in kept or column not in kept[table] or not proof.compared.before[table].rows:
                continue
            one = f"SELECT ctid FROM ONLY {table} WHERE isfinite({column}) LIMIT 1"
            statement = f"UPDATE ONLY {table} SET {column} = {column} + interval '1 microsecond' WHERE ctid = ({one})"
            if connection.execute(statement.encode()).rowcount:
                return _judged(proof, connection, table)
    return Seen()


def _dropped(proof: Proof) -> Seen:
    kept = proof.compared.kept
    if not (table := _largest(proof)):
        return Seen()
    before, after = {table: kept.before[table]}, {table: kept.after[table][1:]}
    gone = kept_columns(before, after, proof.allowed)
    return Seen(victim=f"{table}.{kept.before[table][0]}", findings=judge_rows({}, {}, gone))


def _set_back(proof: Proof) -> Seen:
    there = proof.before.sequences
    for name, position in there.items():
        if not position.cycle and position.next != position.increment:
            back = dataclasses.replace(position, next=position.next - position.increment)
            return Seen(victim=name, findings=judge_sequences(there, {**there, name: back}))
    return Seen()


def _other_version(proof: Proof) -> Seen:
    old = proof.upgrade.old
    return Seen(victim=old, findings=judge_versions({"service": old}, proof.upgrade.new))


def _lossy(proof: Proof) -> Seen:
    """Run an upgrade that loses a row on another copy of the data, and compare."""
    before, upgrade = proof.before, proof.upgrade
    sandbox, name = before.site.sandbox, f"{before.database[:50]}_lossy"
    with database_copy(dataclasses.replace(sandbox.database, name=before.database), name):
        sandbox.run(
            LOSES_A_ROW, upgrade.environment, passed_on=(), seconds=upgrade.limit_ns / NANOSECONDS,
            where="upgrade", database=name,
        )  # fmt: skip
        check = Check()
        compare_rows(before, name, None, proof.allowed, check)
    return Seen(victim=" ".join(LOSES_A_ROW[-2:]), findings=check.findings)


def _untouched(proof: Proof) -> Seen:
    with _undone(proof) as connection:
        return _judged(proof, connection, _largest(proof))

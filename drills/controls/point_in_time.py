"""Marks around a recovery target as a recovery that missed it leaves them, in a transaction that is rolled back."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Final

from checks.point_in_time import CREATE_MARKS, SIDES, Side, assert_marks, write_mark
from drills.controls.bench import Bench, Control, Seen

MARK: Final = "control"
NEITHER: Final[tuple[Side, ...]] = ()


def controls(bench: Bench) -> Iterator[Control]:
    """A target that was met, and each way to miss it."""
    for name, breaks, code, written, survived in (
        ("healthy twin of the marks", "nothing", None, SIDES, SIDES[:1]),
        ("target unreached", "recovery stopped before it", "PITR-TARGET-UNREACHED", SIDES, NEITHER),
        ("target overshot", "recovery went on after it", "PITR-TARGET-OVERSHOT", SIDES, SIDES),
        ("target unasserted", "no write was made around it", "PITR-UNASSERTED", NEITHER, NEITHER),
    ):
        look = functools.partial(_asserted, bench, written, survived)
        yield Control(name=name, breaks=breaks, expects=(code,) if code else (), every_drill=True, look=look)


def _asserted(bench: Bench, written: Sequence[Side], survived: Sequence[Side]) -> Seen:
    with bench.deployment.database.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL client_min_messages = error")
        connection.execute(CREATE_MARKS)
        for side in survived:
            write_mark(connection, MARK, side)
        return Seen(victim="marks of its own", findings=assert_marks(connection, MARK, written=written))

"""A tool that reports success on a dump cut in the middle: the real psql, told to go on after errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from checks.output import lies
from drills.controls.bench import Bench, Control, Seen

WHOLE: Final = "CREATE TEMPORARY TABLE cut (number int, name text);\nCOPY cut FROM stdin;\n1\tone\n2\ttwo\n\\.\n"
CUT: Final = WHOLE[: WHOLE.index("\ttwo")]


def controls(bench: Bench) -> Iterator[Control]:
    """The whole script, and the one that ends within a row."""
    yield Control(name="healthy twin of psql", breaks="nothing", look=lambda: _ran(bench, WHOLE))
    yield Control(
        name="success reported on a cut dump",
        breaks="a script for psql cut within a row, without ON_ERROR_STOP",
        expects=("EXIT-CODE-LIED",),
        look=lambda: _ran(bench, CUT),
    )


def _ran(bench: Bench, script: str) -> Seen:
    database, path = bench.deployment.database, bench.directory / "control-script.sql"
    path.write_text(script)
    try:
        finished = bench.job.processes.run(
            [
                database.tools.path("psql"),
                *database.connection_arguments(),
                "--dbname=postgres",
                "--no-psqlrc",
                "--quiet",
            ],
            timeout=bench.job.seconds,
            env=database.environment(),
            stdin=path,
        )
        return Seen(victim=f"psql, exit code {finished.exit}", findings=lies(finished.errors, "psql"))
    finally:
        path.unlink()

"""One side of the comparison: the whole drill as its users run it, read from its journal."""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.stages import MEASURED, Drilled
from fixtures.processes import CHECKOUT, Processes, ended_within, tail
from reports.records import HarnessError, monotonic_ns, read_journal

# Markers, not parts of names: "rclone" would be found in "rclone_crypt" too.
SCENARIO: Final = "pg_dump and rclone and total_loss"
METHODS: Final = ("pg_dump", "rclone", "age")
DISASTER: Final = "total_loss"
LOOK_SECONDS: Final = 0.1
# In their order, with the name that each has in the comparison; each lasts until the next begins. What comes before
# them is the strike: its proof, the health endpoints that turn, and that clients are shut out.
PATH: Final = {
    "provision": " provision",
    "restore configuration": " restore configuration",
    "restore database": " restore database",
    "restore objects": " restore objects",
    "start": " start and first transaction",
}


def run_drill(processes: Processes, *, scale: str, profile: Path, work_root: Path, directory: Path) -> Drilled:
    """Run the drill in a process of its own and read what it took.

    Args:
        scale: as the drill's option of that name.
        profile: the profile's file, as the drill's option of that name.
        work_root: where it makes its deployment.
        directory: a new one, for its evidence.

    Raises:
        HarnessError: it did not pass, so that its times mean nothing.
    """
    started = monotonic_ns()
    running = processes.start(
        "drill",
        [
            *(sys.executable, "-m", "pytest", CHECKOUT / "drills", "-m", SCENARIO, "-q", "-p", "no:cacheprovider"),
            *("--scale", scale, "--profile", profile, "--work-directory", work_root, "--runs-directory", directory),
        ],
        cwd=CHECKOUT,
    )
    peak = 0
    try:
        while not ended_within(running.popen, LOOK_SECONDS):
            peak = max(peak, peak_bytes(running.pid))
    finally:
        running.kill()
    if running.popen.returncode != 0:
        raise HarnessError(
            "the drill",
            seen=f"exit code {running.popen.returncode}: {tail(running.output)} {tail(running.errors)}",
            remedy="run it alone: python -m pytest drills",
        )
    whole = monotonic_ns() - started
    journals = list(directory.glob("*/journal.jsonl"))
    if len(journals) != 1:
        raise HarnessError("the drill's journal", seen=f"{len(journals)} of them", remedy="run the drill alone")
    return dataclasses.replace(read_times(read_journal(journals[0])), whole_run_ns=whole, peak_bytes=peak)


def peak_bytes(pid: int) -> int:
    """The largest resident size that the process has had so far (``VmHWM`` of proc(5)); 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def read_times(events: Sequence[Mapping[str, Any]]) -> Drilled:
    """What one drill took, from its journal's events.

    Raises:
        HarnessError: the journal is not that of the one drill with which the shell script can be compared.
    """
    _require_one_drill(events)
    opened = {event["phase"]: event["t"] for event in events if event["kind"] == "phase.opened"}
    closed = {event["phase"]: event["t"] for event in events if event["kind"] == "phase.closed"}
    phases = {phase: closed[phase] - opened[phase] for phase in closed}
    struck = next(event["at_ns"] for event in events if event["kind"] == "strike")
    recovered = next(
        event["ended_ns"] for event in events if event["kind"] == "probe" and event["outcome"] == "succeeded"
    )
    commands = [event for event in events if event["kind"] == "command"]
    backing_up = [event for event in commands if opened["back up"] <= event["started_ns"] <= closed["back up"]]
    measured = [event for event in commands if opened["copy objects"] <= event["started_ns"] <= recovered]

    def spent(tool: str) -> int:
        found = [event for event in backing_up if Path(event["argv"][0]).name == tool]
        return sum(event["ended_ns"] - event["started_ns"] for event in found)

    checks = {
        event["check"]: event["ended_ns"] - event["started_ns"]
        for event in reversed(events)
        if event["kind"] == "check"
    }
    begins = [struck, *(opened[phase] for phase in PATH), recovered]
    lasts = [end - begin for begin, end in itertools.pairwise(begins)]
    stages = {
        "copy objects": phases["copy objects"],
        "back up": phases["back up"],
        " dump database": spent("pg_dump") + spent("pg_dumpall"),
        " copy objects again": spent("rclone"),
        "recovery": recovered - struck,
        **dict(zip((" strike", *PATH.values()), lasts, strict=True)),
    }
    return Drilled(
        stages=stages | {"measured path": sum(stages[name] for name in MEASURED)},
        whole_run_ns=0,
        between_ns=opened["back up"] - closed["copy objects"],
        pause_ns=struck - closed["back up"],
        dump_ns=spent("pg_dump"),
        verify_database_ns=checks["database"],
        verify_objects_ns=checks["objects"],
        phases=phases,
        peak_bytes=0,
        commands=tuple(tuple(event["argv"]) for event in measured),
    )


def _require_one_drill(events: Sequence[Mapping[str, Any]]) -> None:
    drills = [
        (*(event["methods"][kind] for kind in ("database", "objects", "configuration")), event["disaster"])
        for event in events
        if event["kind"] == "drill.opened"
    ]
    if drills != [(*METHODS, DISASTER)]:
        raise HarnessError(
            "the drill's journal",
            seen="; ".join(map(" × ".join, drills)) or "no drill",
            remedy=f"the selection {SCENARIO} must give exactly the drill {' × '.join((*METHODS, DISASTER))}",
        )

"""``python -m benchmarks``: the drill beside a bare shell script that does the same with the same tools."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.bare import Ground
from benchmarks.comparison import Comparison
from benchmarks.table import figures, render
from fixtures.deployment import ignore_libpq_variables
from fixtures.plugin import COPIES, EMPTY_DEPLOYMENT_BYTES
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.profile import DEFAULT_PROFILE, load_profile
from fixtures.refapp.scales import SCALES, parse_scale
from fixtures.workspace import Workspace, clear_abandoned, default_root, open_workspace, require_disk
from reports.records import Clock, HarnessError, Redactor, UsageProblem, format_duration, utc_now
from reports.run import describe_host

INTERRUPTED: Final = 130


def main() -> int:
    """Compare and print; the exit code says whether the comparison could be made, never how it came out."""
    options = _options()
    # Ends as Ctrl-C does: through every "finally".
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        root: Path = options.work_directory
        for report in clear_abandoned(root):
            _tell(f"cleared what run {report['run']} left")
        profile = load_profile(DEFAULT_PROFILE)
        ignore_libpq_variables()
        require_disk(root, profile.free_disk + EMPTY_DEPLOYMENT_BYTES + COPIES * options.sizes.reckoned_bytes)
        clock, redactor = Clock.start(), Redactor()
        workspace = open_workspace(root, f"benchmark-{utc_now():%H%M%S}-{os.getpid()}", clock=clock, redactor=redactor)
        try:
            result = _compare(options, workspace, redactor, clock)
        finally:
            workspace.close()
    except UsageProblem as problem:
        _tell(str(problem))
        return 4
    except HarnessError as problem:
        _tell(str(problem))
        return 1
    except KeyboardInterrupt:
        _tell("interrupted: everything made was removed")
        return INTERRUPTED
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 1 if result["broken"] else 0


def _compare(options: argparse.Namespace, workspace: Workspace, redactor: Redactor, clock: Clock) -> dict[str, Any]:
    processes, profile = workspace.processes, load_profile(DEFAULT_PROFILE)
    tools = find_postgres(processes, profile.postgres_directory)
    ground = Ground(
        profile=profile,
        sizes=options.sizes,
        processes=processes,
        tools=tools,
        unprivileged=find_unprivileged(processes, tools),
        redactor=redactor,
    )
    comparison = Comparison(
        ground=ground,
        workspace=workspace,
        work_root=options.work_directory,
        scale=options.scale,
        tell=_tell,
    )
    first = comparison.warm_up()
    comparison.run(options.rounds)
    rounds, busy = comparison.rounds, comparison.busy_percent
    host = describe_host()
    value = {"scale": options.scale, "rounds": len(rounds), "broken": comparison.broken, "host": host}
    value |= {"busy_percent": busy, "differences": comparison.differences} | figures(rounds)
    title = (
        f"scale {options.scale}, {len(rounds)} rounds ({comparison.broken} broken), {host['processors']} processors,"
        f" PostgreSQL {tools.version}, {min(busy):.0f} to {max(busy):.0f} % busy beforehand,"
        f" {format_duration(clock.now())}"
    )
    small = [first.peak_bytes] if options.sizes != SCALES["small"] else []
    print(render(value, title=title, small_peak=small))
    return value | {"small_peak_bytes": first.peak_bytes}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--scale", default="small", metavar="SIZE", help="as the drill's option of that name (default: %(default)s)")
    add("--rounds", type=int, default=5, metavar="N", help="runs of each side, in turns (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="also write every figure there")
    add("--work-directory", type=Path, default=default_root(), metavar="DIR", help="where deployments are made")
    options = parser.parse_args()
    try:
        options.sizes = parse_scale(options.scale)
    except ValueError as problem:
        parser.error(str(problem))
    if options.rounds < 1:
        parser.error("--rounds: at least one")
    options.work_directory = options.work_directory.resolve()
    return options


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

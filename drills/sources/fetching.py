"""Running the operator's own command that fetches the newest backup."""

from __future__ import annotations

from drills.sources.contract import Fetching
from fixtures.shadow_settings import Kept
from reports.records import HarnessError, utc_now


def run_fetch(kept: Kept, fetching: Fetching, component: str) -> float:
    """Run it with an empty directory as ``DRILL_TARGET``; when it began, in seconds since 1970.

    Raises:
        CommandFailed: it ended with another exit code than 0, or not in time.
        HarnessError: it left nothing there.
    """
    began = utc_now().timestamp()
    fetching.processes.run(
        kept.command,
        timeout=fetching.seconds,
        env={
            "DRILL_TARGET": str(fetching.target),
            "DRILL_COMPONENT": component,
            "DRILL_JOBS": str(fetching.jobs),
            "DRILL_BIN": str(fetching.tools.directory),
        },
    )
    if not any(fetching.target.iterdir()):
        raise HarnessError(
            f"command {kept.command[0]}",
            seen="it ended well and left nothing in DRILL_TARGET",
            remedy="have it put the newest backup into the directory that DRILL_TARGET names",
        )
    return began

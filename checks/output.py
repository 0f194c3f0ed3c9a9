"""Does what a command wrote agree with its exit code: errors told of by a tool that reported success."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from checks.differences import summed_up
from fixtures.processes import VERIFIER
from reports.records import Finding

# A line is an error by what it begins with, behind the tool's or the script's name, a time or a process number. What a
# tool quotes of the data stands further on, behind CONTEXT or DETAIL.
_PREFIX: Final = (
    r"\s*(?:\S+:\d+: |[\w./-]+: |\d{4}[-/]\d\d[-/]\d\d[ T][\d:.,]+ (?:[A-Z]{3,4} )?(?:P\d+\s+)?|\[\d+\] (?:[\w.]+ )?)*"
)
_ERROR: Final = re.compile(
    rf"^{_PREFIX}(?:ERROR|FATAL|PANIC|CRITICAL)\s*:|^{_PREFIX}(?:error|fatal|panic):|^{_PREFIX}status: error",
)
_IGNORED: Final = re.compile(r"errors ignored on restore: *[1-9]")
# A line without an end must not fill the memory.
_LONGEST: Final = 65536
_SHOWN: Final = 300


def lies(stderr: Path | str, tool: str) -> list[Finding]:
    """The errors in what a command wrote that ended with an accepted exit code; nothing where there are none.

    Warnings are none. A file is read line by line. Some tools tell of an error that they then overcame, as rclone does
    of each attempt: give only the output of tools that stop at their errors, or should have.

    Args:
        stderr: the file with the command's standard error, or the text itself.
        tool: the command's name, for the finding.
    """
    lines = stderr.splitlines() if isinstance(stderr, str) else _lines(stderr)
    told = (VERIFIER.sub("[redacted]", line.strip()[:_SHOWN]) for line in lines if is_error(line))
    return summed_up("EXIT-CODE-LIED", tool, ((0, line) for line in told))


def is_error(line: str) -> bool:
    """Whether a tool's line tells of an error."""
    return _ERROR.match(line) is not None or _IGNORED.search(line) is not None


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_LONGEST):
            yield line

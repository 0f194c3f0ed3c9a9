"""Whether the shell script still runs the drill's tools with the drill's flags: else the ratio compares two things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMPARED: Final = ("initdb", "pg_dump", "pg_dumpall", "psql", "pg_restore", "rclone")
# The script has no snapshot to share with a fingerprint. The others name the server and what is copied to where.
ONLY_THE_DRILL: Final = ("--snapshot",)
VALUES_DIFFER: Final = (
    "--host", "--port", "--username", "--dbname", "--file", "--pgdata", "--pwfile", "--jobs", "--compress",
    "--transfers", "--checkers", "--retries",
)  # fmt: skip


def flags_missing(commands: Sequence[Sequence[str]], script: str) -> list[str]:
    """The flags of the drill's commands that the script does not name, each with its tool."""
    missing = []
    for command in commands:
        words = list(command[command.index("--") + 1 :] if "--" in command else command)
        tool = Path(words[0]).name
        if tool not in COMPARED:
            continue
        for word in words[1:]:
            name = word.partition("=")[0]
            wanted = name if name in VALUES_DIFFER else word
            if word.startswith("--") and name not in ONLY_THE_DRILL and wanted not in script:
                missing.append(f"{tool} {word}")
    return sorted(set(missing))


def compression_of(commands: Sequence[Sequence[str]]) -> str:
    """How the drill's dump was compressed: it chooses by what its ``pg_dump`` can."""
    flag = "--compress="
    return next(word.removeprefix(flag) for command in commands for word in command if word.startswith(flag))

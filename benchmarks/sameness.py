"""Whether the script runs the drill's tools, as often and with the same flags: else the ratio compares two things."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMPARED: Final = ("initdb", "pg_dump", "pg_dumpall", "psql", "pg_restore", "rclone")
# The script has no snapshot to share with a fingerprint.
ONLY_THE_DRILL: Final = ("--snapshot",)
# They name the server, and what is copied to where: each side has a deployment of its own.
VALUES_DIFFER: Final = ("--host", "--port", "--username", "--dbname", "--file", "--pgdata", "--pwfile")


def differences(drilled: Sequence[Sequence[str]], bare: Sequence[Sequence[str]]) -> list[str]:
    """The commands that only one of the two ran, or ran more often, each with its flags and the side that did."""
    ours, others = (
        collections.Counter(_told(command) for command in commands if _tool(command) in COMPARED)
        for commands in (drilled, bare)
    )
    return sorted(
        f"only the {side}: {told}"
        for side, more in (("drill", ours - others), ("script", others - ours))
        for told in more.elements()
    )


def read_commands(text: str) -> tuple[tuple[str, ...], ...]:
    """The commands that the script wrote down: one a line, each word ended by a tab."""
    return tuple(tuple(line.removesuffix("\t").split("\t")) for line in text.splitlines())


def compression_of(commands: Sequence[Sequence[str]]) -> str:
    """How the drill's dump was compressed: it chooses by what its ``pg_dump`` can."""
    flag = "--compress="
    return next(word.removeprefix(flag) for command in commands for word in command if word.startswith(flag))


def _words(command: Sequence[str]) -> list[str]:
    """The command without what drops root's rights before it."""
    return list(command[command.index("--") + 1 :] if "--" in command else command)


def _tool(command: Sequence[str]) -> str:
    return Path(_words(command)[0]).name


def _told(command: Sequence[str]) -> str:
    """The tool with its flags, in an order and without places that mean nothing."""
    flags = (word for word in _words(command)[1:] if word.startswith("--"))
    names = ((word.partition("=")[0], word) for word in flags)
    kept = sorted(name if name in VALUES_DIFFER else word for name, word in names if name not in ONLY_THE_DRILL)
    return " ".join((_tool(command), *kept))

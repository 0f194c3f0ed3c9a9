"""Files of JSON lines that a process of a drill writes while it goes on, and that the engine reads from the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

# As much of the end as is looked at: some hundreds of lines.
END_BYTES: Final = 65_536


class Lines:
    """A file that several threads write to; each line is with the system before the call returns."""

    def __init__(self, path: Path) -> None:
        self._file, self._lock = path.open("a", encoding="utf-8"), threading.Lock()

    def write(self, line: Mapping[str, object]) -> None:
        """Append one line."""
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with self._lock:
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def last_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines at the end of such a file; none where it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - END_BYTES))
            pieces = file.read().split(b"\n")[:-1]
    except OSError:
        return
    for piece in pieces:
        try:
            line = json.loads(piece)
        except ValueError:
            continue  # the first line of the piece may be cut
        if isinstance(line, dict):
            yield line

"""Validates a log as it flows: bytes in, findings out, line by line, at flat memory whatever comes."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from checks.audit_json import BadLine, read_object
from checks.audit_rules import Rules
from checks.audit_secrets import SecretSearch
from checks.audit_writers import Writers
from checks.differences import Cases
from checks.distinct import KEY_BYTES, Distinct
from reports.records import Finding

_UUID_LENGTH: Final = 36
_SAID: Final = {
    "LOG-NOT-UTF-8": "lines that are not UTF-8",
    "LOG-NUL": "lines with NUL bytes",
    "LOG-CRLF": "lines ended by CR LF",
    "LOG-NOT-JSON": "lines that are not JSON",
    "LOG-NOT-OBJECT": "lines that are no object",
    "LOG-DUPLICATE-KEY": "keys that stand twice",
    "LOG-TOO-DEEP": "lines nested too deep",
    "LOG-LINE-TOO-LONG": "lines too long",
    "LOG-LINE-CUT": "a last line without its end",
    "LOG-SCHEMA": "events against the schema",
    "LOG-TIME-NO-OFFSET": "times without offset",
    "LOG-TIME-SKEW": "times off the clock",
    "LOG-SEQ-GAP": "numbers missing",
    "LOG-SEQ-BACK": "numbers not rising",
    "LOG-CHAIN-BROKEN": "breaks in the chain",
    "LOG-EVENT-ID-REPEATED": "event ids repeated",
    "LOG-SECRET": "secrets in the log",
}
CODES: Final = tuple(_SAID)
_fromisoformat: Final = datetime.datetime.fromisoformat
_encode: Final = msgspec.json.Encoder().encode


@dataclasses.dataclass(kw_only=True)
class Seen:
    """How much went through."""

    bytes: int = 0
    lines: int = 0
    events: int = 0


class AuditStream:
    """One log. ``feed`` it chunks as they come, then ``finish``; ``findings`` at any time; ``close`` at the end.

    Nothing of a line is repeated in a finding but its place, keys, numbers and a writer's name.

    Args:
        rules: what the lines are held against.
        secrets: that no line may hold, by name.
        directory: for event ids that are too many to be held in memory; made when needed.
        whole: the log begins with its writers' first lines.
        name: of the log, as findings tell it.
    """

    def __init__(
        self, rules: Rules, *, secrets: Mapping[str, str], directory: Path, whole: bool = False, name: str = "log"
    ) -> None:
        self.seen = Seen()
        self._rules, self._name = rules, name
        self._search = SecretSearch.of(secrets)
        self._ids = Distinct(directory)
        self._writers = Writers(whole=whole, say=self._say)
        self._cases = {code: Cases() for code in CODES}
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._skipped = 0

    @property
    def writers(self) -> int:
        """How many writers were met."""
        return self._writers.seen

    @property
    def in_line(self) -> bool:
        """Whether what was fed ends within a line."""
        return bool(self._kept_bytes or self._skipped)

    def feed(self, chunk: bytes, *, read_at: float, live: bool = False) -> None:
        """Take what comes next.

        Args:
            read_at: when it was read, seconds since 1970: no time in a line may be later.
            live: it was read as it was written, so that no time in a line may be earlier either.
        """
        self.seen.bytes += len(chunk)
        for line, name in self._search.feed(chunk):
            self._say("LOG-SECRET", 0, f"line {line}: {name}")
        begin = 0
        if self._kept or self._skipped:
            end = chunk.find(b"\n")
            piece = chunk if end < 0 else chunk[:end]
            if self._skipped or self._kept_bytes + len(piece) > self._rules.longest + 1:
                self._skipped += self._kept_bytes + len(piece)
                self._kept, self._kept_bytes = [], 0
            else:
                self._kept.append(piece)
                self._kept_bytes += len(piece)
            if end < 0:
                return
            begin = end + 1
            if self._skipped:
                self.seen.lines += 1
                self._too_long(self._skipped)
                self._skipped = 0
            else:
                kept, self._kept, self._kept_bytes = b"".join(self._kept), [], 0
                self._judge([kept], read_at, live)
        last = chunk.rfind(b"\n", begin)
        if last >= 0:
            self._judge(chunk[begin:last].split(b"\n"), read_at, live)
            begin = last + 1
        if begin < len(chunk):
            rest = chunk[begin:]
            if len(rest) > self._rules.longest + 1:
                self._skipped = len(rest)
            else:
                self._kept, self._kept_bytes = [rest], len(rest)

    def finish(self) -> None:
        """The stream has ended: what is left is a line cut short. Look for event ids that came twice."""
        if left := self._kept_bytes + self._skipped:
            self._say("LOG-LINE-CUT", left, f"line {self.seen.lines + 1}: {left} bytes without a line feed")
        for key, (*places, count) in self._ids.repeats():
            shown = ", ".join(map(str, places))
            more = f" and {count - len(places)} more" if count > len(places) else ""
            self._say("LOG-EVENT-ID-REPEATED", count, f"{key.hex()} in lines {shown}{more}")

    def findings(self) -> list[Finding]:
        """What was found up to now, one finding for each code."""
        return [
            dataclasses.replace(finding, where=self._name)
            for code, cases in self._cases.items()
            for finding in cases.findings(code, _SAID[code])
        ]

    def count(self, code: str) -> int:
        """How many cases of a code were found up to now."""
        return self._cases[code].count

    def close(self) -> None:
        """Remove what was put into files."""
        self._ids.close()

    def _say(self, code: str, weight: int, text: str) -> None:
        self._cases[code].add(weight, text)

    def _too_long(self, length: int) -> None:
        self._say("LOG-LINE-TOO-LONG", length, f"line {self.seen.lines}: {length} bytes")

    def _judge(self, lines: list[bytes], read_at: float, live: bool) -> None:
        rules, number = self._rules, self.seen.lines
        for line in lines:
            number += 1
            self.seen.lines = number
            if len(line) > rules.longest:
                self._too_long(len(line))
                continue
            if line.endswith(b"\r"):
                self._say("LOG-CRLF", 0, f"line {number}")
                line = line[:-1]
            try:
                value, twice = read_object(line, deepest=rules.deepest)
            except BadLine as bad:
                self._say(bad.code, len(line), f"line {number}: {bad.seen}")
                continue
            if twice:
                self._say("LOG-DUPLICATE-KEY", 0, f"line {number}: {twice!r}")
            if b"\\" in line and self._search.needles:
                self._look_behind_escapes(value, line, number)
            timed = self._judge_time(rules.time(value), number, read_at, live)
            if rules.is_event(value):
                self.seen.events += 1
                self._judge_event(value, line, number, timed)

    def _judge_event(self, event: dict[str, Any], line: bytes, number: int, timed: bool) -> None:
        rules = self._rules
        if not rules.holds(event):
            for problem in rules.problems(event, but_time=not timed):
                self._say("LOG-SCHEMA", 0, f"line {number}: {problem}")
        event_id = rules.event_id(event)
        if type(event_id) is str:
            self._ids.add(_key(event_id), number)
        writer = rules.writer(event)
        if writer is not None:
            self._writers.follow(writer, rules.seq(event), rules.prev_hash(event), line, number)

    def _judge_time(self, time: Any, number: int, read_at: float, live: bool) -> bool:
        """Whether the time says when it was, be it wrong; what is no time at all is for the schema to say."""
        if type(time) is not str:
            return True
        try:
            stamped = _fromisoformat(time)
            if stamped.tzinfo is None:
                self._say("LOG-TIME-NO-OFFSET", 0, f"line {number}: {time[:40]}")
                return False
            ahead = stamped.timestamp() - read_at
        except (ValueError, OverflowError):
            return True
        if ahead > self._rules.skew or (live and -ahead > self._rules.skew):
            self._say("LOG-TIME-SKEW", round(abs(ahead) * 1000), f"line {number}: {ahead:+.3f} s from when it was read")
        return True

    def _look_behind_escapes(self, value: dict[str, Any], line: bytes, number: int) -> None:
        """A secret may be written with escapes that nobody needs; written without, it was seen in the bytes."""
        for name in self._search.in_text(_encode(value).decode()):
            if not any(form in line for form, of in self._search.needles if of == name):
                self._say("LOG-SECRET", 0, f"line {number}: {name}, behind escapes")


def _key(event_id: str) -> bytes:
    """A UUID as its bytes, whatever case it is written in; anything else as a digest."""
    if len(event_id) == _UUID_LENGTH:
        try:
            key = bytes.fromhex(event_id.replace("-", ""))
        except ValueError:
            key = b""
        if len(key) == KEY_BYTES:
            return key
    return hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()

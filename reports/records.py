"""The vocabulary: clock, journal, phases, findings, verdicts, objectives. Standard library only, for all to import.

All instants in a run are integers: nanoseconds of the machine's monotonic clock since the run's origin, comparable
between the processes of one machine and one boot. A UTC stamp stands beside each for people and is never computed with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import errno
import hashlib
import json
import os
import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

NANOSECONDS: Final = 1_000_000_000
GENESIS: Final = "0" * 64
# Under this name pytest's plugin manager holds the record of the run, for rooms that may not import one another.
RUN_NAME: Final = "enprivacy-run"


def monotonic_ns() -> int:
    """The machine's monotonic clock in nanoseconds: the one source of every duration."""
    return time.monotonic_ns()


def utc_now() -> datetime.datetime:
    """The wall clock as an aware UTC datetime, for people to read."""
    return datetime.datetime.now(datetime.UTC)


def utc_stamp() -> str:
    """The wall clock as RFC 3339 text in UTC with microseconds, e.g. ``2026-11-22T21:04:03.123456Z``."""
    return utc_now().isoformat(timespec="microseconds").replace("+00:00", "Z")


class Failure(AssertionError):
    """What was drilled did not hold what it must: an objective missed, a finding, a control not caught."""


class HarnessError(Exception):
    """The suite or one of its tools broke, so nothing was proved.

    Its text names what was probed, what was seen and the remedy.
    """

    def __init__(self, probed: str, *, seen: str, remedy: str) -> None:
        super().__init__(f"{probed}: {seen}. Remedy: {remedy}")
        self.probed, self.seen, self.remedy = probed, seen, remedy


class UsageProblem(HarnessError):
    """Bad input from the person at the keyboard: profile, option, variable, port, tool, disk. Ends as exit code 4."""


class Verdict(enum.StrEnum):
    """Worst first, as they are ordered when several are summed up in one."""

    ERROR = "error"
    FAILED = "failed"
    NOT_TESTED = "not tested"
    NO_TARGET = "no target"
    PASSED = "passed"

    @classmethod
    def worst(cls, verdicts: Sequence[Verdict]) -> Verdict:
        """The worst of them; of nothing at all, ``error``: what was not looked at never reads as passed."""
        order = list(cls)
        return min(verdicts, key=order.index) if verdicts else cls.ERROR


class Severity(enum.StrEnum):
    """A ``failure`` fails the run; a ``notice`` is shown and counted."""

    FAILURE = "failure"
    NOTICE = "notice"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FindingKind:
    """One row of ``findings.toml``: what a code means, always the same."""

    code: str
    severity: Severity
    title: str
    remedy: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a checker saw that must not be. ``seen`` says what and where, with the first and the worst case."""

    code: str
    seen: str
    where: str = ""
    count: int = 1

    def __post_init__(self) -> None:
        if self.code not in finding_kinds():
            raise ValueError(f"finding code {self.code!r} is not in findings.toml")

    @property
    def kind(self) -> FindingKind:
        """What this code means, from the table."""
        return finding_kinds()[self.code]

    def as_record(self) -> dict[str, Any]:
        """The finding as the journal holds it, with severity and remedy spelled out for whoever reads it later."""
        kind = self.kind
        return {
            "code": self.code,
            "severity": kind.severity.value,
            "title": kind.title,
            "seen": self.seen[:4000],
            "where": self.where[:1000],
            "count": self.count,
            "remedy": kind.remedy,
        }


_finding_kinds: dict[str, FindingKind] = {}


def finding_kinds() -> Mapping[str, FindingKind]:
    """Every finding code of the suite, read once from ``findings.toml``."""
    if not _finding_kinds:
        rows = tomllib.loads(Path(__file__).with_name("findings.toml").read_text("utf-8"))
        for code, row in rows.items():
            _finding_kinds[code] = FindingKind(
                code=code, severity=Severity(row["severity"]), title=row["title"], remedy=row["remedy"]
            )
    return _finding_kinds


_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": NANOSECONDS,
    "min": 60 * NANOSECONDS,
    "m": 60 * NANOSECONDS,
    "h": 3600 * NANOSECONDS,
    "d": 86400 * NANOSECONDS,
}
_LONGEST_NS: Final = 2**53  # the first integer that readers of JSON may round


def parse_duration(text: str) -> int:
    """Nanoseconds of ``1ms``, ``90 s``, ``15min``, ``4h``, ``35 d``, or a sum such as ``1h 30min``.

    Raises:
        ValueError: nothing, a bare number, an unknown unit, a negative amount, or more than the 104 days that fit.
    """
    shown = text if len(text) <= 60 else text[:60] + "…"
    if len(text) > 1000:
        raise ValueError(f"{shown!r} is not a duration: {len(text):,} characters")
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", text.strip().lower())
    rebuilt = "".join(f"{amount}{unit}" for amount, unit in parts)
    if not parts or rebuilt != re.sub(r"\s+", "", text.strip().lower()) or any(unit not in _UNITS for _, unit in parts):
        raise ValueError(
            f"{shown!r} is not a duration: write a number and a unit of {', '.join(_UNITS)}, such as 15min"
        )
    nanoseconds = sum(float(amount) * _UNITS[unit] for amount, unit in parts)  # infinite where it overflows
    if nanoseconds >= _LONGEST_NS:
        raise ValueError(f"{shown!r} is too long: a duration is at most 104 days")
    return round(nanoseconds)


def format_duration(nanoseconds: int) -> str:
    """A duration for people: ``0 s``, ``840 µs``, ``12.3 ms``, ``4.21 s``, ``15 min``, ``1 h 30 min``."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds == 0:
        return "0 s"
    for unit, size, end in (("µs", 1_000, 1_000), ("ms", 1_000_000, 1_000), ("s", NANOSECONDS, 60)):
        amount = float(f"{nanoseconds / size:.3g}")  # rounded first: 999.6 ms is 1 s, not 1e+03 ms
        if amount < end:
            return f"{amount:.3g} {unit}"
    seconds = round(nanoseconds / NANOSECONDS)
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount)


def canonical(value: object) -> bytes:
    """Canonical JSON in the sense of RFC 8785, for values without floats and with ASCII keys: all that a journal holds.

    Raises:
        TypeError: a float, or something that JSON has no word for.
        ValueError: an integer beyond ±(2**53 - 1), which other readers would round.
    """
    _refuse_what_others_read_differently(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _refuse_what_others_read_differently(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"a journal holds no floats, got {value!r}: scale it to an integer")
    if isinstance(value, int) and abs(value) >= 2**53:
        raise ValueError(f"{value} is beyond what JSON readers agree on")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise TypeError(f"a journal's keys are ASCII text, got {key!r}")
            _refuse_what_others_read_differently(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_what_others_read_differently(item)


class Redactor:
    """Replaces every secret it was told of by ``[redacted]`` wherever text leaves the suite."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def learn(self, secret: str) -> str:
        """Remember a secret and hand it back. Shorter than six characters is refused: it would redact half a page."""
        if len(secret) < 6:
            raise HarnessError(
                "a secret to redact", seen=f"{len(secret)} characters", remedy="use secrets of at least 6 characters"
            )
        self._secrets.add(secret)
        return secret

    def clean(self, text: str) -> str:
        """The text without any secret known so far."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, "[redacted]")
        return text

    def clean_all(self, value: Any) -> Any:
        """The same for every text inside nested lists and mappings."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, Mapping):
            return {key: self.clean_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean_all(item) for item in value]
        return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clock:
    """Nanoseconds since ``origin_ns`` of the machine's monotonic clock: small integers, the same in every process."""

    origin_ns: int

    @classmethod
    def start(cls) -> Clock:
        """A clock whose zero is now."""
        return cls(origin_ns=monotonic_ns())

    def now(self) -> int:
        """Nanoseconds since the origin."""
        return monotonic_ns() - self.origin_ns


class Journal:
    """An append-only JSON-lines file, written as things happen, each line carrying the digest of the one before.

    A line is ``{"n", "t", "utc", "kind", …, "prev", "hash"}``: ``t`` in nanoseconds since the run's origin, ``hash``
    the SHA-256 of the canonical line without ``hash``. Safe to call from several threads. What interrupts a write, or
    a disk that is full, leaves the line in it whole or not at all.
    """

    def __init__(self, path: Path, *, clock: Clock, redactor: Redactor) -> None:
        self.path, self.clock, self.redactor = path, clock, redactor
        self._lock = threading.Lock()
        self._n, self._prev, self._size = 0, GENESIS, 0
        # What the next three are once the file has this size: an interrupt may come between a write and its account.
        self._pending: tuple[int, str, int] | None = None
        self._file = path.open("xb", buffering=0)

    def write(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Append one event and hand it back. It is in the operating system's hands, not yet on the platter."""
        with self._lock:
            self._settle()
            event: dict[str, Any] = {"n": self._n, "t": self.clock.now(), "utc": utc_stamp(), "kind": kind}
            event.update(self.redactor.clean_all(fields))
            event["prev"] = self._prev
            event["hash"] = hashlib.sha256(canonical(event)).hexdigest()
            line = canonical(event) + b"\n"
            self._pending = self._n + 1, event["hash"], self._size + len(line)
            if self._file.write(line) != len(line):
                self._file.truncate(self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._settle()
            return event

    def _settle(self) -> None:
        """Take a line into account that is in the file whole; doing so again changes nothing."""
        if self._pending and os.fstat(self._file.fileno()).st_size == self._pending[2]:
            self._n, self._prev, self._size = self._pending
        self._pending = None

    @contextlib.contextmanager
    def phase(self, name: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """A phase with a start, an end that is written whatever happens, and whatever the body adds to the mapping."""
        self.write("phase.opened", phase=name, **fields)
        added: dict[str, Any] = {}
        outcome, error = "failed", "interrupted"
        try:
            yield added
            outcome, error = "done", ""
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
            raise
        finally:
            self.write("phase.closed", phase=name, outcome=outcome, error=error[:2000], **fields, **added)

    def close(self) -> None:
        """Flush to the platter and close. Further writes raise ``ValueError``."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a JSON-lines file; a last line cut short by a kill is left out.

    Raises:
        UsageProblem: the file is absent, or a line that is not the last is not a JSON object.
    """
    try:
        file = path.open("rb")
    except OSError as problem:
        raise UsageProblem(
            str(path), seen=problem.strerror or str(problem), remedy="name the directory of a finished run"
        ) from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise UsageProblem(
                    f"{path}:{number}", seen=f"not JSON ({problem})", remedy="restore the file from its archive"
                ) from None
            if not isinstance(value, dict):
                raise UsageProblem(
                    f"{path}:{number}", seen="not a JSON object", remedy="restore the file from its archive"
                )
            yield value


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The journal's events, its chain checked.

    Raises:
        UsageProblem: as ``read_lines``, or a line was altered, dropped, added or moved.
    """
    events: list[dict[str, Any]] = []
    previous = GENESIS
    for event in read_lines(path):
        body = {key: value for key, value in event.items() if key != "hash"}
        try:
            digest = hashlib.sha256(canonical(body)).hexdigest()
        except (TypeError, ValueError, RecursionError) as problem:
            digest = f"uncomputable: {problem}"
        if event.get("n") != len(events) or event.get("prev") != previous or event.get("hash") != digest:
            raise UsageProblem(
                f"{path}, line {len(events) + 1}",
                seen="the chain of digests is broken here: a line was altered, dropped, added or moved",
                remedy="do not trust this run; fetch its files from where they were first archived",
            )
        previous = digest
        events.append(event)
    return events


def wait_until(
    condition: Callable[[], bool], *, seconds: float, interval: float, what: str, remedy: str = "see the service's log"
) -> None:
    """Wait until the condition holds.

    Raises:
        HarnessError: it did not within ``seconds``; the message says ``what`` was waited for.
    """
    deadline = monotonic_ns() + round(seconds * NANOSECONDS)
    while not condition():
        if monotonic_ns() >= deadline:
            raise HarnessError(what, seen=f"not so after {seconds:g} s", remedy=remedy)
        time.sleep(interval)


def pause(seconds: float, *, why: str) -> None:
    """Let time pass on purpose; ``why`` is for the reader of the calling line."""
    del why
    time.sleep(seconds)

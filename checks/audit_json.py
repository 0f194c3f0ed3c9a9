"""One line of a log as a JSON object, read strictly and fast: what other readers would take differently is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

# Keys that a message shows; the rest of a line may be anybody's words and is not repeated.
_SHOWN_KEY: Final = 60
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(each for each in range(256) if each not in b"[]{}")
_decode: Final = msgspec.json.Decoder().decode


class BadLine(Exception):
    """A line that holds no object: the finding's code, and what is wrong with it."""

    def __init__(self, code: str, seen: str) -> None:
        super().__init__(seen)
        self.code, self.seen = code, seen


class TooDeep(Exception):
    """Objects and lists within one another beyond the bound."""


def read_object(line: bytes, *, deepest: int) -> tuple[dict[str, Any], str]:
    """The object, and the first key that one of its objects holds twice (empty: none does).

    Raises:
        BadLine: it is not UTF-8, has a NUL byte, is not JSON (RFC 8259, and no lone surrogate or number out of range,
            which readers take differently), is nested too deep, or is no object.
    """
    try:
        value = _decode(line)
        if type(value) is not dict:
            raise BadLine("LOG-NOT-OBJECT", f"{_kind(value)}, no object")
        keys = _keys_in(value, deepest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TooDeep) as problem:
        raise _judged(line, problem, deepest) from None
    # Every key stands before a colon. Where each colon after a quote is one that was read as a key, no key was merged
    # with another; text that looks the same only makes the count larger, and then it is looked at again, slowly.
    if keys == line.count(b'":') and b" :" not in line and b"\t" not in line:
        return value, ""
    return value, repeated_key(line)


def repeated_key(line: bytes) -> str:
    """The first key that an object of valid JSON holds twice, shortened; empty where none does."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    json.loads(line, object_pairs_hook=look)
    return found[0][:_SHOWN_KEY] or "(empty)" if found else ""


def _keys_in(value: Mapping[str, Any], left: int) -> int:
    """How many keys an object holds, with those within it."""
    count = len(value)
    if left <= 0:
        raise TooDeep
    for item in value.values():
        kind = type(item)
        if kind is dict:
            count += _keys_in(item, left - 1)
        elif kind is list:
            count += _keys_in_list(item, left - 1)
    return count


def _keys_in_list(value: list[Any], left: int) -> int:
    count = 0
    if left <= 0:
        raise TooDeep
    for item in value:
        kind = type(item)
        if kind is dict:
            count += _keys_in(item, left - 1)
        elif kind is list:
            count += _keys_in_list(item, left - 1)
    return count


def _judged(line: bytes, problem: Exception, deepest: int) -> BadLine:
    """Why a line cannot be read: the first reason of these that holds."""
    if b"\0" in line:
        return BadLine("LOG-NUL", f"a NUL byte at {line.index(0)}")
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return BadLine("LOG-NOT-UTF-8", f"not UTF-8 at byte {undecodable.start}")
    if isinstance(problem, RecursionError | TooDeep) or _is_deep(line, deepest):
        return BadLine("LOG-TOO-DEEP", f"nested more than {deepest} deep")
    if not line.strip():
        return BadLine("LOG-NOT-JSON", "an empty line")
    # msgspec's text tells the place, and quotes nothing of the line.
    return BadLine("LOG-NOT-JSON", str(problem)[:120])


def _is_deep(line: bytes, deepest: int) -> bool:
    """Whether the brackets outside of strings go deeper, in a line that cannot be read otherwise."""
    if line.count(b"[") + line.count(b"{") <= deepest:
        return False
    depth = 0
    for bracket in _STRINGS.sub(b"", line).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > deepest:
            return True
    return False


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "a list", str: "a string", bool: "a boolean"}.get(type(value), "a number")

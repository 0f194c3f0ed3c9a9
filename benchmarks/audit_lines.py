"""Lines of an audit log, made up: whole ones, chained and counted, and spoilt ones. The same for the same seed."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Final

GENESIS: Final = "0" * 64
SECRETS: Final = {f"KEY_{number}": f"planted-{number:04d}-{number * 7919:016x}" for number in range(8)}
_TIME: Final = "2026-11-23T03:33:23.123456+00:00"
_TYPES: Final = ("user.login", "document.uploaded", "document.downloaded", "document.redacted", "api_key.created")
_TOKENS: Final = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\r", b"\t", b"\r\n", b"\n", b'"', b"\\",
    b"\\u0000", b"\\ud800", b"\\u00e9", b'\\":', b'":', b'" :', b": ", b"[", b"]", b"{", b"}", b",", b":", b"[" * 40,
    b"{" * 3000, b'{"a":' * 50, b"1e999", b"-", b"0", b"1" * 400, b"1.5", b"NaN", b"null", b"true", b'"a":1,"a":2,',
    b'"seq":1,', b'"level":"x","message":"y",', b"x" * 5000, "é😀".encode(), b"planted-0001-0000000000001eef",
)  # fmt: skip


def whole_lines(count: int, *, writers: int = 4, seed: int = 1, time: str = _TIME) -> Iterator[bytes]:
    """So many audit events without line feeds, of some writers in turns, each of about 650 bytes."""
    generator = random.Random(seed)
    ids = [_uuid(generator) for _ in range(writers)]
    before = [GENESIS] * writers
    for number in range(count):
        writer, kind = number % writers, number % len(_TYPES)
        line = (
            f'{{"schema_version":"1.0","event_id":"{_uuid(generator)}","seq":{number // writers + 1},"time":"{time}",'
            f'"event_type":"{_TYPES[kind]}","outcome":"success","actor":{{"type":"user","id":"{ids[writer]}"}},'
            f'"source":{{"ip":"10.0.{number % 256}.7"}},"target":{{"type":"document","id":"{number}"}},'
            f'"service":{{"name":"web","version":"3.0.0","host":"host-{writer}","instance":"{ids[writer]}"}},'
            f'"request_id":"{ids[kind % writers]}","prev_hash":"{before[writer]}",'
            f'"details":{{"sha256":"{before[writer - 1]}","size_bytes":{number}}}}}'
        ).encode()
        before[writer] = hashlib.sha256(line).hexdigest()
        yield line


def hostile_lines(count: int, *, seed: int = 1) -> Iterator[bytes]:
    """So many lines that began as audit events, most of them spoilt in one to four places; some hold line feeds."""
    generator = random.Random(seed)
    for line in whole_lines(count, seed=seed):
        yield spoilt(line, generator) if generator.random() < 0.9 else line


def spoilt(line: bytes, generator: random.Random) -> bytes:
    """A line with one to four mutations."""
    body = bytearray(line)
    for _ in range(generator.randint(1, 4)):
        generator.choice(_MUTATIONS)(body, generator)
    return bytes(body)


def _uuid(generator: random.Random) -> str:
    return str(uuid.UUID(int=generator.getrandbits(128)))


def _at(body: bytearray, generator: random.Random) -> int:
    return generator.randint(0, len(body))


def _insert(body: bytearray, generator: random.Random) -> None:
    place = _at(body, generator)
    body[place:place] = generator.choice(_TOKENS)


def _replace(body: bytearray, generator: random.Random) -> None:
    place = _at(body, generator)
    body[place : place + 1] = bytes([generator.randrange(256)])


def _drop(body: bytearray, generator: random.Random) -> None:
    place = _at(body, generator)
    del body[place : place + generator.choice((1, 1, 2, 20))]


def _cut(body: bytearray, generator: random.Random) -> None:
    del body[_at(body, generator) :]


def _double(body: bytearray, generator: random.Random) -> None:
    place = _at(body, generator)
    body[place:place] = body[place : place + generator.randint(1, 60)]


_MUTATIONS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _insert, _insert, _replace, _replace, _drop, _double, _cut,
)  # fmt: skip

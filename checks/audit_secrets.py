"""The secrets that no log may hold, in the forms in which one would stand in a line, and their search in a stream."""

from __future__ import annotations

import base64
import dataclasses
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

SECRET_WORDS: Final = ("KEY", "SECRET", "PASSWORD", "PASSPHRASE", "TOKEN", "CREDENTIAL")
# A shorter value stands in any text by chance.
SHORTEST: Final = 6


def planted_secrets(configuration: Mapping[str, str]) -> dict[str, str]:
    """The secret values of a configuration, each by a name: by its variable's name, and passwords within URLs."""
    found: dict[str, str] = {}
    for name, value in configuration.items():
        if any(word in name.upper() for word in SECRET_WORDS) and len(value) >= SHORTEST:
            found[name] = value
        elif password := _password_in(value):
            found[f"password in {name}"] = password
    return found


def _password_in(value: str) -> str:
    try:
        password = urllib.parse.unquote(urllib.parse.urlsplit(value).password or "")
    except ValueError:
        return ""
    return password if len(password) >= SHORTEST else ""


def forms(secret: str) -> set[bytes]:
    """A secret as bytes: as it is, as JSON escapes it, percent-encoded, in hex, in base64 wherever it may begin."""
    plain = secret.encode("utf-8", "surrogatepass")
    escaped = json.dumps(secret)[1:-1]
    return {
        plain,
        escaped.encode(),
        escaped.replace("/", "\\/").encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"),
        urllib.parse.quote(plain, safe="").encode(),
        plain.hex().encode(),
        plain.hex().upper().encode(),
        *in_base64(plain),
    }


def in_base64(plain: bytes) -> set[bytes]:
    """What is sure to stand in the base64 of anything that holds these bytes, however many bytes are before them.

    Three alignments in both alphabets, without the characters that depend on the bytes before and after.
    """
    made: set[bytes] = set()
    for before in range(3):
        bits = 8 * before
        first, end = -(-bits // 6), (bits + 8 * len(plain)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            made.add(encode(bytes(before) + plain)[first:end])
    return made


@dataclasses.dataclass(kw_only=True)
class SecretSearch:
    """Looks for secrets in a stream of chunks, also across their edges and in lines that are no JSON.

    ``needles``: pairs of a form and its secret's name.
    """

    needles: tuple[tuple[bytes, str], ...]
    _tail: bytes = b""
    _lines: int = 1

    @classmethod
    def of(cls, secrets: Mapping[str, str]) -> SecretSearch:
        """For these secrets by name."""
        return cls(
            needles=tuple((form, name) for name, value in secrets.items() if value for form in sorted(forms(value)))
        )

    @property
    def reach(self) -> int:
        """How many bytes of one chunk must be looked at again with the next."""
        return max((len(form) for form, _ in self.needles), default=1) - 1

    def feed(self, chunk: bytes) -> Iterator[tuple[int, str]]:
        """The line's number and the secret's name of every occurrence that ends in this chunk."""
        block, kept = self._tail + chunk, len(self._tail)
        for form, name in self.needles:
            # Not from the tail's beginning: what ends within the tail was told of with the chunk before.
            at = block.find(form, max(0, kept - len(form) + 1))
            while at >= 0:
                yield self._lines + block.count(b"\n", 0, at), name
                at = block.find(form, at + len(form))
        keep = max(0, len(block) - self.reach)
        self._lines += block.count(b"\n", 0, keep)
        self._tail = block[keep:]

    def in_text(self, text: str) -> set[str]:
        """The names of the secrets in a text that stood in the stream with escapes."""
        encoded = text.encode("utf-8", "surrogatepass")
        return {name for form, name in self.needles if form in encoded}

"""Whether a backup set shows a secret to whoever can read it, and whether its configuration is readable at all."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from checks.differences import Cases
from checks.looking_inside import Looked, Means, form_of, streams_of, telling_damage
from fixtures.backup_set import BackupSet
from reports.records import Finding

WORDS: Final = ("KEY", "SECRET", "PASSWORD", "PASSPHRASE", "TOKEN", "IDENTITY", "CREDENTIAL")
# Shorter ones would be found by chance.
SHORTEST: Final = 8
PIECE: Final = 1 << 20
LINE: Final = 256
WITHIN: Final = ", its password"
AGE_IDENTITY: Final = b"AGE-SECRET-KEY-1"
_FOR_URLS: Final = bytes.maketrans(b"+/", b"-_")


def secret_values(configuration: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """The secrets among a configuration's values, by the name of their variable, and others by what they are.

    A variable is secret by its name, or holds a password in its URL.
    """
    found = {name: value for name, value in configuration.items() if any(word in name.upper() for word in WORDS)}
    for name, value in configuration.items():
        if "://" in value and (password := urllib.parse.urlsplit(value).password):
            found[f"{name}{WITHIN}"] = urllib.parse.unquote(password)
    return {name: value for name, value in {**found, **others}.items() if len(value) >= SHORTEST}


def forms_of(value: str) -> dict[bytes, str]:
    """The ways in which a value may stand in a file, named: as it is, escaped, in hexadecimal, in base64."""
    raw, escaped = value.encode(), json.dumps(value)[1:-1]
    given = {
        "as in JSON": (
            escaped,
            escaped.replace("/", "\\/"),
            json.dumps(value, ensure_ascii=False)[1:-1],
            # As Go and others write it.
            "".join(f"\\u{ord(each):04x}" if each in "&<>'" else each for each in escaped),
        ),
        "as in XML": (html.escape(value), html.escape(value, quote=False)),
        "as in a URL": (urllib.parse.quote(value, safe=""), urllib.parse.quote(value), urllib.parse.quote_plus(value)),
        "in hexadecimal": (raw.hex(), raw.hex().upper()),
    }
    found = {raw: ""}
    for name, texts in given.items():
        for text in texts:
            found.setdefault(text.encode(), name)
    for coded in _in_base64(raw):
        found.setdefault(coded, "in base64")
        found.setdefault(coded.translate(_FOR_URLS), "in base64")
    return found


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """The value as it stands in the base64 of a longer text, behind any bytes, without a neighbour's digit."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        yield coded[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]


def find_secrets(backup: BackupSet, secrets: Mapping[str, str], means: Means) -> tuple[list[Finding], Looked]:
    """Look for secrets in every file of a set.

    Args:
        secrets: by a name that may be shown. The values themselves stand in no finding.

    Raises:
        HarnessError: a file could not be read to its end.
    """
    needles = {AGE_IDENTITY: "an age identity"}
    for name, value in secrets.items():
        for needle, form in forms_of(value).items():
            needles.setdefault(needle, f"{name} {form}".rstrip())
    looked, cases = Looked(), Cases()
    for name, stream in streams_of(backup, means, looked):
        with telling_damage(name):
            for shown in _found(stream, needles):
                cases.add(0, f"{shown} in {name}")
    return cases.findings("BACKUP-SECRET-READABLE", f"set {backup.directory.name}"), looked


def _found(stream: IO[bytes], needles: Mapping[bytes, str]) -> Iterator[str]:
    """The names of what stands in a stream, each once; in one line, or broken over several, indented ones too."""
    left = dict(needles)
    # Room for a needle of which every other byte is a line's end or an indentation.
    reach = 2 * max(map(len, needles), default=0) + LINE
    before = b""
    while piece := stream.read(PIECE):
        window = before + piece
        lines = window.replace(b"\\r", b"").replace(b"\\n", b"\n").splitlines()
        texts = [window, b"".join(line.strip() for line in lines)] if len(lines) > 1 else [window]
        for name in sorted({name for needle, name in left.items() if any(needle in text for text in texts)}):
            yield name
            left = {needle: other for needle, other in left.items() if other != name}
        before = window[-reach:]


def judge_configuration(backup: BackupSet, names: Mapping[str, str], means: Means) -> tuple[list[Finding], list[str]]:
    """Whether the configuration's backup is encrypted, and lies apart from the data that its secrets unlock.

    Args:
        names: the configuration in force.

    Returns:
        Findings, and files of a form that is neither known to be encrypted nor readable as a configuration.
    """
    findings, unknown = [], []
    place = backup.place("configuration")
    files = [path for path in sorted(place.rglob("*")) if path.is_file()] if place.is_dir() else []
    plain = [path for path in files if form_of(path)[0] != "encrypted"]
    told = {name.encode(): name for name in names if len(name) >= SHORTEST}
    # Another program's file may have names of its own for them.
    urls = {name: value for name, value in names.items() if "://" in value}
    for name, value in {**secret_values(names, {}), **urls}.items():
        told |= dict.fromkeys(forms_of(value), name.removesuffix(WITHIN))
    if plain:
        clear: dict[str, list[str]] = {}
        only = BackupSet(directory=place / "nothing", apart=backup.apart)
        for name, stream in streams_of(only, means, Looked()):
            with telling_damage(name):
                seen = sorted(_found(stream, told))
            if seen:
                clear[name] = seen
        for name, seen in clear.items():
            shown = f"{len(seen)} variables readable without a key, such as {seen[0]}"
            findings.append(Finding(code="BACKUP-CONFIGURATION-CLEAR", seen=shown, where=name, count=len(seen)))
        readable = {name.split(",")[0] for name in clear}
        unknown = [path.name for path in plain if f"configuration/{path.relative_to(place).as_posix()}" not in readable]
    if files and _within(place, backup.directory):
        seen_at = f"the configuration of {backup.directory.name} lies in the directory of its data"
        findings.append(Finding(code="BACKUP-CONFIGURATION-TOGETHER", seen=seen_at, where="configuration"))
    return findings, unknown


def _within(place: Path, directory: Path) -> bool:
    return place.resolve().is_relative_to(directory.resolve().parent)

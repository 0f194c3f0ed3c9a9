"""Whether a backup set shows a secret to whoever can read it, and whether its configuration is readable at all."""

from __future__ import annotations

import base64
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
AGE_IDENTITY: Final = b"AGE-SECRET-KEY-1"


def secret_values(configuration: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """The secrets among a configuration's values, by the name of their variable, and others by what they are.

    A variable is secret by its name, or holds a password in its URL.
    """
    found = {name: value for name, value in configuration.items() if any(word in name.upper() for word in WORDS)}
    for name, value in configuration.items():
        if "://" in value and (password := urllib.parse.urlsplit(value).password):
            found[f"{name}, its password"] = urllib.parse.unquote(password)
    return {name: value for name, value in {**found, **others}.items() if len(value) >= SHORTEST}


def forms_of(value: str) -> dict[str, bytes]:
    """The ways in which a value may stand in a file: as it is, in a URL, in base64, in hexadecimal as in a dump."""
    raw = value.encode()
    return {
        "as it is": raw,
        "in base64": base64.b64encode(raw).rstrip(b"="),
        "in hexadecimal": raw.hex().encode(),
        "as in a URL": urllib.parse.quote(value, safe="").encode(),
    }


def find_secrets(backup: BackupSet, secrets: Mapping[str, str], means: Means) -> tuple[list[Finding], Looked]:
    """Look for secrets in every file of a set.

    Args:
        secrets: by a name that may be shown. The values themselves stand in no finding.

    Raises:
        HarnessError: a file could not be read to its end.
    """
    needles = {"an age identity": AGE_IDENTITY}
    for name, value in secrets.items():
        for form, needle in forms_of(value).items():
            needles.setdefault(f"{name}{'' if form == 'as it is' else ' ' + form}", needle)
    looked, cases = Looked(), Cases()
    for name, stream in streams_of(backup, means, looked):
        with telling_damage(name):
            for shown in _found(stream, needles):
                cases.add(0, f"{shown} in {name}")
    return cases.findings("BACKUP-SECRET-READABLE", f"set {backup.directory.name}"), looked


def _found(stream: IO[bytes], needles: Mapping[str, bytes]) -> Iterator[str]:
    left = dict(needles)
    longest = max(map(len, needles.values()))
    before = b""
    while piece := stream.read(PIECE):
        window = before + piece
        for name in [name for name, needle in left.items() if needle in window]:
            yield name
            del left[name]
        before = window[-longest:]


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
    told = {name: name.encode() for name in names if len(name) >= SHORTEST}
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

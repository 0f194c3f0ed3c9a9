"""The seal of a run: the digests of all its files, a signed attestation of them, and a line in the register.

``SHA256SUMS`` is what ``sha256sum`` writes and reads. It lists every file but itself, the attestation and the
sign-offs, which speak of it. The attestation is an in-toto test result: https://in-toto.io/attestation/test-result/v0.1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, though not marked so for mypy

from reports import register, signing
from reports.records import HarnessError, Verdict
from reports.register import SUMS

ATTESTATION: Final = "attestation.dsse.json"
HALF_ATTESTATION: Final = f"{ATTESTATION}.half"
SIGN_OFF: Final = re.compile(r"sign-off-([1-9][0-9]{0,3})\.dsse\.json")
PREDICATE_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\\ud800-\udfff]+)\n")
# What exits with 1 has not passed, whatever the reason; a warning is a figure that nothing was asked of.
_PASSED, _WARNED, _FAILED = "PASSED", "WARNED", "FAILED"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seal:
    """What a run was sealed with: the SHA-256 of its ``SHA256SUMS``, the key's id, its line in the register."""

    sha256: str
    key_id: str
    n: int
    hash: str


class BrokenSums(Exception):
    """A ``SHA256SUMS`` that sealing would not have written; the text says what of it."""


def stands_apart(name: str) -> bool:
    """Whether a file of a run is one that speaks of ``SHA256SUMS``, and so cannot be listed in it."""
    return name in (SUMS, ATTESTATION) or SIGN_OFF.fullmatch(name) is not None


def listed(directory: Path) -> dict[str, Path]:
    """Every file of a run that ``SHA256SUMS`` must list, by its name there; what is neither file nor directory too."""
    paths = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*")}
    found = {name: path for name, path in paths.items() if path.is_symlink() or not path.is_dir()}
    return {name: found[name] for name in sorted(found) if not stands_apart(name)}


def sums_of(directory: Path) -> dict[str, str]:
    """The SHA-256 of every file that must be listed, by name.

    Raises:
        HarnessError: something is no plain file, has a name that fits in no line, or cannot be read.
    """
    sums = {}
    for name, path in listed(directory).items():
        if path.is_symlink() or not path.is_file() or not _LINE.fullmatch(f"{'0' * 64}  {name}\n"):
            raise HarnessError(
                str(path), seen="no plain file with a plain name", remedy="keep such things out of a run's directory"
            )
        sums[name] = register.digest_of(path)
    return sums


def sums_text(sums: Mapping[str, str]) -> bytes:
    """``SHA256SUMS``, sorted by name."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def read_sums(content: bytes) -> dict[str, str]:
    """The digests of a ``SHA256SUMS`` by name.

    Raises:
        BrokenSums: a byte of it is not what ``sums_text`` writes.
    """
    try:
        lines = re.findall(r"[^\n]*\n|[^\n]+", content.decode())
    except UnicodeDecodeError:
        raise BrokenSums("it is not UTF-8") from None
    sums = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BrokenSums(f"line {number} is not a digest, two blanks and a name")
        sums[match[2]] = match[1]
    if not lines or sums_text(sums) != content:
        raise BrokenSums("its lines are not in order, or there are none")
    return sums


def statement(sums: Mapping[str, str], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """What the attestation says: an in-toto Statement v1 about every file listed and about the list itself.

    ``passed`` with every target set is PASSED; ``passed`` with a figure that had no target is WARNED; anything else,
    ``not tested`` too, is FAILED, as it is to the exit code.
    """
    tests: dict[str, list[str]] = {_PASSED: [], _WARNED: [], _FAILED: []}
    open_ended = False
    for drill in evidence["drills"]:
        untargeted = any(row["verdict"] == Verdict.NO_TARGET for row in drill["objectives"])
        tests[_result(drill["verdict"], untargeted=untargeted)].append(f"drill {drill['drill']}")
        open_ended = open_ended or untargeted
    for check in (evidence["conformance"] or {"checks": ()})["checks"]:
        tests[_result(check["verdict"])].append(f"check {check['check']}")
    return {
        "_type": signing.STATEMENT_TYPE,
        "subject": subjects(sums),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": _result(evidence["verdict"], untargeted=open_ended),
            "configuration": _configuration(evidence),
            "passedTests": tests[_PASSED],
            "warnedTests": tests[_WARNED],
            "failedTests": tests[_FAILED],
        },
    }


def subjects(sums: Mapping[str, str]) -> list[dict[str, Any]]:
    """The files that an attestation speaks of, sorted by name: those listed, and the list."""
    whole = {**sums, SUMS: hashlib.sha256(sums_text(sums)).hexdigest()}
    return [{"name": name, "digest": {"sha256": whole[name]}} for name in sorted(whole)]


def _result(verdict: str, *, untargeted: bool = False) -> str:
    if verdict != Verdict.PASSED:
        return _FAILED
    return _WARNED if untargeted else _PASSED


def _configuration(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The profile and the suite as in-toto resource descriptors, each where its digest is known."""
    suite, profile = evidence["suite"], evidence["profile"]
    digests = {"sha256": suite["source_sha256"], "gitCommit": suite["commit"]}
    rows = [
        {"name": f"{suite['name']} {suite['version']}".strip(), "digest": {k: v for k, v in digests.items() if v}},
        {"name": profile["name"], "digest": {"sha256": profile["sha256"]} if profile["sha256"] else {}},
    ]
    return [row for row in rows if row["digest"]]


def seal(directory: Path, evidence: Mapping[str, Any], signer: CryptoSigner | None = None) -> Seal:
    """Seal a run whose files are all written: ``SHA256SUMS``, with a key the attestation, then the register.

    Args:
        directory: the run's; the register is that of the directory it lies in.
        evidence: the content of its ``evidence.json``.
        signer: signs the attestation; none is written without.

    Raises:
        HarnessError: it is sealed already, or something cannot be read or written.
    """
    if (directory / SUMS).exists():
        raise HarnessError(str(directory / SUMS), seen="there already", remedy="a run is sealed once, at its end")
    sums = sums_of(directory)
    content = sums_text(sums)
    write_whole(directory / SUMS, content)
    if signer is not None:
        write_whole(directory / ATTESTATION, signing.envelope(statement(sums, evidence), signer))
    key_id = signer.public_key.keyid if signer else ""
    with register.locked(directory.parent) as book:
        line = book.append(
            directory.name,
            register.SEALED,
            opened_utc=evidence["opened_utc"],
            sha256=hashlib.sha256(content).hexdigest(),
            verdict=evidence["verdict"],
            key_id=key_id,
        )
    return Seal(sha256=line["sha256"], key_id=key_id, n=line["n"], hash=line["hash"])


def write_whole(path: Path, content: bytes) -> None:
    """Write a new file beside what there is, whole or not at all.

    Raises:
        HarnessError: it cannot be written.
    """
    half = path.with_name(f"{path.name}.half")
    try:
        half.write_bytes(content)
        half.replace(path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)  # left there it would be a file that the seal does not list
        raise HarnessError(
            str(path), seen=problem.strerror or str(problem), remedy="make room for a few kilobytes"
        ) from None

"""A seal looked at: every file by its digest, the attestation, the sign-offs; what is missing, altered or added."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # public, though not marked so for mypy

from reports import evidence, register, sealing, sign_offs, signing, wording
from reports.register import SUMS
from reports.sealing import ATTESTATION, HALF_ATTESTATION, BrokenSums
from reports.signing import NotAnEnvelope

DIFFERS: Final = "DIFFERS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was looked at: ``what`` in a word, ``text`` in a line, and whether it is as it must be."""

    what: str
    text: str
    holds: bool = True

    def __str__(self) -> str:
        return f"{self.what:<11}{self.text}"


def differs(text: object) -> Step:
    """A step at which something is not as it must be."""
    return Step(what=DIFFERS, text=wording.one_line(text), holds=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trust:
    """Public keys known to be the right ones: where there are any, a signature of one of them must be there."""

    keys: tuple[SSlibKey, ...] = ()
    reviewer_keys: tuple[SSlibKey, ...] = ()


def seal_steps(directory: Path, trust: Trust) -> Iterator[Step]:
    """Every file of a run against its seal; all that differs is told, not the first alone."""
    apart = [ATTESTATION, *(path.name for path in sign_offs.there(directory).values())] if directory.is_dir() else []
    odd = [name for name in (SUMS, *apart) if _is_odd(directory / name)]
    if odd:
        yield differs(f"{odd[0]} is no plain file, but a link, a directory or a device")
        return
    if not (directory / SUMS).is_file():
        yield from _unsealed(directory, trust, apart)
        return
    try:
        sums = sealing.read_sums((directory / SUMS).read_bytes())
    except (OSError, BrokenSums) as problem:
        yield differs(f"{SUMS} is not one that a run is sealed with: {problem}")
        return
    wrong = list(_file_steps(directory, sums))
    yield from wrong or [Step(what="files", text=f"{len(sums):,} files are those whose digests {SUMS} holds")]
    yield from _attestation_steps(directory, sums, trust, intact=not wrong)
    for number, path in sign_offs.there(directory).items():
        yield _sign_off(directory, number, path, trust, intact=not wrong)


def _is_odd(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not path.is_file())


def _unsealed(directory: Path, trust: Trust, apart: list[str]) -> Iterator[Step]:
    left = [name for name in apart if (directory / name).exists()]
    # Asked of every file before one is opened: a pipe would never end.
    odd = [name for name, path in sealing.listed(directory).items() if not path.is_file()]
    if odd:
        yield differs(f"{odd[0]} is no plain file")
    elif left:
        yield differs(f"{SUMS} is not there, and {left[0]} is")
    elif trust.keys:
        yield differs(f"{SUMS} is not there: a run that is not sealed is not signed, and a key was given")
    else:
        yield Step(what="files", text=f"NOT SEALED: there is no {SUMS}")


def _file_steps(directory: Path, sums: Mapping[str, str]) -> Iterator[Step]:
    here = sealing.listed(directory)
    for name, digest in sums.items():
        path = here.get(name)
        if path is None:
            yield differs(f"{name} is missing: {SUMS} lists it")
        elif path.is_symlink() or not path.is_file():
            yield differs(f"{name} is no plain file any more")
        elif register.digest_of(path) != digest:
            yield differs(f"{name} was altered: it is not the file whose digest {SUMS} holds")
    # What an interrupted sealing leaves; beside a whole attestation it is one file too many.
    half = "" if (directory / ATTESTATION).exists() else HALF_ATTESTATION
    for name in here:
        if name not in sums and name != half:
            yield differs(f"{name} was added: {SUMS} does not list it")


def _attestation_steps(directory: Path, sums: Mapping[str, str], trust: Trust, *, intact: bool) -> Iterator[Step]:
    path = directory / ATTESTATION
    if not path.exists():
        if trust.keys:
            yield differs(f"{ATTESTATION} is not there: the run is not signed, and a key was given")
        else:
            yield Step(what="signature", text="not signed: whoever could write these files could have made them up")
        return
    try:
        whole, said = signing.opened(path.read_bytes())
    except (OSError, NotAnEnvelope):
        yield differs(f"{ATTESTATION} was altered: it cannot be read, or is not in the form that it is written in")
        return
    if said.get("subject") != sealing.subjects(sums):
        yield differs(f"{SUMS} is not the one that {ATTESTATION} speaks of: one was altered, or is of another run")
    elif intact and said != sealing.statement(sums, evidence.read(directory / evidence.FILE_NAME)):
        yield differs(f"{ATTESTATION} does not say what follows from evidence.json")
    by = signing.signature_of(whole).keyid
    if not trust.keys:
        yield Step(what="signature", text=f"signed by {wording.one_line(by, 64)}, not checked: give --key")
    elif key := signing.key_that_signed(whole, trust.keys):
        yield Step(what="signature", text=f"signed by {key.keyid}, a key that was given")
    else:
        text = f"{ATTESTATION} bears no signature of a key that was given; it names {wording.one_line(by, 64)}"
        yield differs(text)


def _sign_off(directory: Path, number: int, path: Path, trust: Trust, *, intact: bool) -> Step:
    try:
        whole, said = signing.opened(path.read_bytes())
    except (OSError, NotAnEnvelope):
        return differs(f"{path.name} was altered: it cannot be read, or is not in the form that it is written in")
    if intact and (problem := sign_offs.problem_of(directory, number, said)):
        return differs(f"{path.name} {problem}")
    if not intact:
        return Step(what="sign-off", text=f"{path.name} is not looked at: files of the run differ")
    signer = signing.signature_of(whole).keyid
    by = wording.one_line(signer, 64) + (", the key of the run itself" if signer == key_id_of(directory) else "")
    if not trust.reviewer_keys:
        return Step(what="sign-off", text=f"{sign_offs.told(said)} ({by}, not checked: give --reviewer-key)")
    if signing.key_that_signed(whole, trust.reviewer_keys) is None:
        return differs(f"{path.name} bears no signature of a reviewer's key that was given; it names {by}")
    return Step(what="sign-off", text=f"{sign_offs.told(said)} ({by}, a key that was given)")


def key_id_of(directory: Path) -> str:
    """The id of the key that a run's attestation names; empty where it has none that can be read."""
    try:
        whole, _ = signing.opened((directory / ATTESTATION).read_bytes())
    except (OSError, NotAnEnvelope):
        return ""
    return signing.signature_of(whole).keyid

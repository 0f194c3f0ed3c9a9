"""A reviewer's word on a sealed run: an envelope of its own, so that the run's record stays as it was.

It is an in-toto Statement about the digest of ``SHA256SUMS`` with a predicate of ours: run, verdict, reviewer, note,
UTC, its own number and the digest of the sign-off before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, though not marked so for mypy

from reports import evidence, register, signing, wording
from reports.records import HarnessError, UsageProblem, utc_stamp
from reports.register import SUMS
from reports.sealing import SIGN_OFF

PREDICATE_TYPE: Final = "urn:enprivacy-restore-drills:sign-off:1"
LONGEST_NAME, LONGEST_NOTE = 200, 4000


def there(directory: Path) -> dict[int, Path]:
    """The sign-offs of a run by their numbers, in order."""
    found = {int(match[1]): path for path in directory.iterdir() if (match := SIGN_OFF.fullmatch(path.name))}
    return dict(sorted(found.items()))


def statement(directory: Path, *, number: int, reviewer: str, note: str, utc: str) -> dict[str, Any]:
    """What a sign-off says of a sealed run.

    Raises:
        UsageProblem: the run is not sealed or holds no evidence.
    """
    kept = evidence.read(directory / evidence.FILE_NAME)
    before = directory / f"sign-off-{number - 1}.dsse.json"
    return {
        "_type": signing.STATEMENT_TYPE,
        "subject": [{"name": SUMS, "digest": {"sha256": register.digest_of(directory / SUMS)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "runId": kept["run_id"],
            "verdict": kept["verdict"],
            "number": number,
            "previous": register.digest_of(before) if number > 1 else "",
            "reviewer": reviewer,
            "note": note,
            "utc": utc,
        },
    }


def add(directory: Path, *, reviewer: str, note: str, signer: CryptoSigner) -> Path:
    """Write the next sign-off of a run, which the caller has verified, and hand back its path.

    Raises:
        UsageProblem: an empty or endless name or note, or a run that is not sealed.
        HarnessError: the file cannot be written.
    """
    for what, text, longest in (("--reviewer", reviewer, LONGEST_NAME), ("--note", note, LONGEST_NOTE)):
        if not 0 < len(text.strip()) <= longest or not _storable(text):
            seen = "empty" if not text.strip() else f"{len(text):,} characters, or no UTF-8"
            raise UsageProblem(what, seen=seen, remedy=f"write 1 to {longest:,} characters")
    if not (directory / SUMS).is_file():
        raise UsageProblem(str(directory), seen="not sealed", remedy="sign off a run that was sealed at its end")
    number = max(there(directory), default=0) + 1
    path = directory / f"sign-off-{number}.dsse.json"
    said = statement(directory, number=number, reviewer=reviewer.strip(), note=note.strip(), utc=utc_stamp())
    try:
        with path.open("xb") as file:
            file.write(signing.envelope(said, signer))
    except OSError as problem:
        raise HarnessError(
            str(path), seen=problem.strerror or str(problem), remedy="sign off where the run can be written to"
        ) from None
    return path


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def problem_of(directory: Path, number: int, said: Mapping[str, Any]) -> str:
    """What of a sign-off's statement does not fit the run that it lies in; empty where all does."""
    predicate = said.get("predicate")
    if said.get("predicateType") != PREDICATE_TYPE or not isinstance(predicate, dict):
        return "is no sign-off"
    texts = {key: text for key in ("reviewer", "note", "utc") if isinstance(text := predicate.get(key), str)}
    if len(texts) < 3:
        return "lacks who signed it off, when, or with which words"
    if number > 1 and not (directory / f"sign-off-{number - 1}.dsse.json").is_file():
        return f"follows sign-off-{number - 1}.dsse.json, which is not there"
    if said != statement(directory, number=number, **texts):
        return "is of another run, of other files, or of another place among the sign-offs"
    return ""


def told(said: Mapping[str, Any]) -> str:
    """A sign-off in one line."""
    predicate = said["predicate"]
    return (
        f"{wording.one_line(predicate['utc'], 40)}, {wording.one_line(predicate['reviewer'], LONGEST_NAME)}:"
        f" {wording.one_line(predicate['note'], 300)}"
    )

"""``python -m reports sign-off DIR``: a reviewer's signed word on a run that verifies."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from reports import commands, evidence, sign_offs, signing, whole_register, wording
from reports.assessment import shaped
from reports.records import UsageProblem
from reports.sealed import Trust, key_id_of
from reports.verification import run_steps

NAME: Final = "sign-off"
HELP: Final = "sign a run off, as its reviewer"
_HELP: Final = """\
Verifies the run, then writes sign-off-<n>.dsse.json into its directory: who looked at it, when, with which words, and
the digest of SHA256SUMS, signed with the reviewer's own key. The run's record stays as it is. A run that does not
verify is not signed off; one that failed can be, with a note that says what follows from it.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sign-off``."""
    parser.description = _HELP
    parser.add_argument("directory", metavar="DIR", type=Path, help="a run's directory")
    parser.add_argument("--reviewer", metavar="NAME", required=True, help="who signs it off; not who ran it")
    parser.add_argument("--note", metavar="TEXT", required=True, help="what the reviewer has to say")
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="the reviewer's private key")
    parser.add_argument(
        "--run-key", metavar="FILE.pub", type=Path, action="append", default=[],
        help="a public key, one of which must have signed the run; may be repeated",
    )  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Verify, and sign off where everything holds."""
    signer = signing.read_signer(given.key, passphrase=os.environ.get(signing.PASSPHRASE, ""))
    trust = Trust(keys=tuple(map(signing.read_public, given.run_key)))
    directory: Path = given.directory
    if not whole_register.is_run(directory):
        raise UsageProblem(wording.one_line(directory, 200), seen="no run", remedy="name a run's directory")
    if signer.public_key.keyid == key_id_of(directory):
        raise UsageProblem(
            wording.one_line(given.key, 200),
            seen="the key that signed the run itself",
            remedy="sign off with the reviewer's own key, such as `python -m reports keygen` makes: a review is another"
            " person's",
        )
    last, book = whole_register.register_steps(whole_register.beside(directory), "")
    with shaped(directory):
        wrong = [step for step in [*run_steps(directory, trust, book), *last] if not step.holds]
    if wrong:
        for step in wrong:
            print(step)
        print("not signed off: the run does not verify")
        return commands.NOT_SO
    path = sign_offs.add(directory, reviewer=given.reviewer, note=given.note, signer=signer)
    operator = str(evidence.read(directory / evidence.FILE_NAME).get("context", {}).get("operator", ""))
    if operator and operator.strip().casefold() == given.reviewer.strip().casefold():
        said = f"{wording.one_line(operator, 200)} is the operator of this run: a review is another person's"
        print(f"warning: {said}", file=sys.stderr)
    print(f"signed off {path}, by the key {signer.public_key.keyid}")
    return commands.GOOD

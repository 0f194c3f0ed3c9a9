"""``python -m reports keygen FILE``: a pair of keys for runs or for sign-offs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from reports import commands, signing

NAME: Final = "keygen"
HELP: Final = "make a key that signs runs or sign-offs"
_HELP: Final = f"""\
Writes an Ed25519 private key to FILE (PEM, PKCS #8, readable by you alone) and its public half to FILE.pub, and prints
the key's id. Neither file may exist. Where the variable {signing.PASSPHRASE} is set, its content encrypts the
private key, and is needed to use it. Give FILE to --evidence-key or sign-off, FILE.pub to whoever verifies.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``keygen``."""
    parser.description = _HELP
    parser.add_argument("file", metavar="FILE", type=Path, help="where the private key is to lie")


def run(given: argparse.Namespace) -> int:
    """Make the pair and print the key's id."""
    key_id = signing.make_key(given.file, passphrase=os.environ.get(signing.PASSPHRASE, ""))
    print(f"private    {given.file}: keep it to yourself, and out of the runs directory")
    print(f"public     {given.file}.pub: for whoever verifies")
    print(f"key        {key_id}")
    return commands.GOOD

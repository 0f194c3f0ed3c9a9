"""Encrypts or decrypts standard input to standard output with the age keys that a drill names."""

import os
import sys
from pathlib import Path

import pyrage


def main(action: str) -> None:
    """Do what the word says: ``encrypt`` or ``decrypt``."""
    given = sys.stdin.buffer.read()
    if action == "encrypt":
        made = pyrage.encrypt(given, [pyrage.x25519.Recipient.from_str(os.environ["DRILL_AGE_RECIPIENT"])])
    else:
        key = Path(os.environ["DRILL_AGE_IDENTITY_FILE"]).read_text("ascii").strip()
        try:
            made = pyrage.decrypt(given, [pyrage.x25519.Identity.from_str(key)])
        except pyrage.DecryptError as problem:
            sys.exit(f"age: {problem}")
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main(sys.argv[1])

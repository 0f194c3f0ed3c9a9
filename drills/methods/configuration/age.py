"""Configuration and secrets as one JSON document, encrypted to an age recipient whose private key is kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyrage

from drills.contract import Job
from reports.records import HarnessError

FILE: Final = "environment.json.age"


class Age:
    """See ``drills.contract.ConfigurationMethod``."""

    name = "age"

    def back_up(self, values: Mapping[str, str], target: Path, job: Job) -> None:
        """Encrypt the variables to the recipient."""
        recipient = pyrage.x25519.Recipient.from_str(job.recipient)
        (target / FILE).write_bytes(pyrage.encrypt(json.dumps(dict(values), sort_keys=True).encode(), [recipient]))

    def restore(self, backup: Path, job: Job) -> dict[str, str]:
        """Decrypt the variables.

        Raises:
            HarnessError: the private key is another one, or the file is damaged.
        """
        try:
            identity = pyrage.x25519.Identity.from_str(job.identity)
            values: dict[str, str] = json.loads(pyrage.decrypt((backup / FILE).read_bytes(), [identity]))
        except (pyrage.DecryptError, pyrage.IdentityError, OSError, ValueError) as problem:
            raise HarnessError(
                "decrypting the configuration backup",
                seen=str(problem),
                remedy="give the recipient's private key; if it is that one, fetch the backup again",
            ) from None
        return values


METHOD: Final = Age()

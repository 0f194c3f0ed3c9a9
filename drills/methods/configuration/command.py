"""The operator's own commands for the configuration, from ``backup.commands``; see ``docs/methods.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drills.contract import Job, Means
from fixtures.commands import missing, run_command
from fixtures.secret_file import secret_file
from reports.records import HarnessError


class Command:
    """See ``drills.contract.ConfigurationMethod``."""

    name = "command"

    def unavailable(self, means: Means) -> str:
        """See ``drills.contract.NeedsMeans``."""
        return missing("configuration", means.commands)

    def back_up(self, values: Mapping[str, str], target: Path, job: Job) -> None:
        """Run ``configuration_backup``, which reads the variables as one JSON object."""
        with secret_file(job.processes.logs, json.dumps(dict(values), sort_keys=True)) as given:
            run_command(job, "configuration", "backup", backup=target, stdin=given)

    def restore(self, backup: Path, job: Job) -> dict[str, str]:
        """Run ``configuration_restore``, which prints the same object.

        Raises:
            HarnessError: it printed something else.
        """
        with secret_file(job.processes.logs) as answer:
            run_command(job, "configuration", "restore", backup=backup, stdout=answer)
            text = answer.read_bytes()
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise HarnessError(
                "the command configuration_restore",
                seen=f"{len(text)} bytes that are no JSON object of texts",
                remedy="print what configuration_backup was given, and nothing else",
            )
        return values


METHOD: Final = Command()

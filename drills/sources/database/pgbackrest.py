"""A pgBackRest repository: the newest backup of a stanza, and the log after it, to the archive's end."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any, Final

from drills.sources.belonging import foreign
from drills.sources.contract import Fetched, Fetching
from drills.sources.physical import require_version
from drills.sources.recognising import text_of
from fixtures.postgres_tools import find_unprivileged
from fixtures.processes import CommandFailed
from fixtures.restored_files import AUTO, settings_text
from fixtures.shadow_settings import Kept
from reports.records import Finding, HarnessError, UsageProblem

# The operator's configuration may say where links, tablespaces and another host's files go: never from here.
STAY_HERE: Final = (
    "--reset-pg1-host",
    "--no-link-all",
    "--reset-link-map",
    "--reset-tablespace-map",
    "--reset-db-include",
    "--reset-db-exclude",
    "--reset-recovery-option",
    "--no-delta",
)


class PgBackRest:
    """See ``drills.sources.contract.Source``. The repository is only read: locks, logs and spool lie with the run."""

    name = "pgbackrest"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """Restore the newest backup's files; the sandbox's server fetches the log when it recovers."""
        program = shutil.which("pgbackrest")
        if program is None:
            raise UsageProblem(
                "the program pgbackrest",
                seen="not on PATH",
                remedy="install pgBackRest: docs/pgbackrest-and-barman.md says how",
            )
        common = _common(program, kept, fetching.target)
        stanza = _stanza(common, kept, fetching)
        backup = max(stanza["backup"], key=lambda each: (each["timestamp"]["stop"], each["label"]))
        label = str(backup["label"])
        cluster = next(each for each in stanza["db"] if each["id"] == backup["database"]["id"])
        require_version(str(cluster["version"]).removesuffix(".0"), fetching.tools, f"pgBackRest's backup {label}")
        findings, not_tested = foreign(str(cluster["system-id"]), label, fetching)
        if backup.get("error"):
            seen = "pgBackRest found pages with wrong checksums when it made it"
            findings += (Finding(code="BACKUP-ARTEFACT-ALTERED", seen=seen, where=label),)
        data = fetching.target / "data"
        data.mkdir(mode=0o700)
        restoring = [
            *common,
            f"--spool-path={fetching.target / 'pgbackrest'}",
            *STAY_HERE,
            f"--pg1-path={data}",
            f"--tablespace-map-all={fetching.target / 'tablespaces'}",
            f"--process-max={fetching.jobs}",
            f"--set={label}",
            "--type=default",
            "--archive-mode=off",
            "restore",
        ]
        fetching.processes.run(restoring, timeout=fetching.seconds)
        # The tool's own would name the spool, and then refuse to be without asynchronous archiving.
        getting = [*common, "--reset-pg1-host", "--no-archive-async", f"--pg1-path={data}", "archive-get"]
        with (data / AUTO).open("a", encoding="utf-8") as file:
            command = shlex.join(getting).replace("%", "%%") + ' %f "%p"'
            file.write(settings_text({"restore_command": command}))
        _require_log(getting, str(backup["archive"]["start"]), fetching)
        return Fetched(
            place=data,
            form="files",
            label=label,
            instant=text_of(float(backup["timestamp"]["stop"])),
            known_by="pgBackRest's end of the backup; the log goes on from there",
            bytes=int(backup["info"]["size"]),
            ours=True,
            log_until=_newest_segment(stanza, cluster["id"]),
            findings=findings,
            not_tested=not_tested,
        )


def _common(program: str, kept: Kept, target: Path) -> list[str]:
    own = target / "pgbackrest"
    own.mkdir(mode=0o700)
    configuration = [f"--config={kept.configuration}"] if kept.configuration is not None else []
    places = [f"--lock-path={own}", f"--log-path={own}", "--log-level-file=off"]
    return [program, *configuration, f"--stanza={kept.stanza}", *places]


def _stanza(common: list[str], kept: Kept, fetching: Fetching) -> dict[str, Any]:
    """What the repository says of the stanza: its clusters, backups and archives.

    Raises:
        HarnessError: it holds no backup of it.
    """
    asked = [*common, "--log-level-console=off", "info", "--output=json"]
    said = fetching.processes.run(asked, timeout=fetching.seconds).output.read_text("utf-8")
    try:
        (stanza,) = json.loads(said)
        status = stanza["status"]
    except (ValueError, LookupError) as problem:
        raise HarnessError(
            "pgbackrest info", seen=f"{type(problem).__name__}: {said[:200]}", remedy="run it by hand with this stanza"
        ) from None
    if status["code"] != 0 or not stanza["backup"]:
        raise HarnessError(
            f"pgBackRest's stanza {kept.stanza}",
            seen=status["message"] if status["code"] else "no backup in it",
            remedy="name the stanza, and the configuration by which the repository is found",
        )
    return dict(stanza)


def _newest_segment(stanza: dict[str, Any], cluster: int) -> str:
    """The newest whole segment of the cluster's log; empty text where none is kept."""
    return max(
        (str(each["max"]) for each in stanza["archive"] if each["database"]["id"] == cluster and each["max"]),
        default="",
    )


def _require_log(getting: list[str], segment: str, fetching: Fetching) -> None:
    """See that the user under whom the sandbox's server runs can fetch log: recovery takes a refusal for its end.

    Raises:
        HarnessError: he cannot, or the backup's first segment is not there.
    """
    own, probe = fetching.target / "pgbackrest", fetching.target / "pgbackrest" / "probe"
    unprivileged = find_unprivileged(fetching.processes, fetching.tools)
    unprivileged.own(own)
    try:
        fetching.processes.run([*unprivileged.prefix, *getting, segment, str(probe)], timeout=fetching.seconds)
    except CommandFailed as problem:
        raise HarnessError(
            f"segment {segment}, with which the log of the newest backup begins",
            seen=problem.seen,
            remedy="run the suite as the user who may read the repository; where it is missing, take a new backup",
        ) from problem
    probe.unlink()


SOURCE: Final = PgBackRest()

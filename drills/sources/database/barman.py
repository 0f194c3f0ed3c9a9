"""A Barman server: the newest backup that is whole, and all the log that Barman has filed after it."""

from __future__ import annotations

import configparser
import json
import os
import pwd
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from drills.methods.database.barman import find_barman
from drills.sources.belonging import foreign
from drills.sources.contract import Fetched, Fetching
from drills.sources.physical import require_version
from drills.sources.recognising import text_of
from fixtures.processes import Finished, tail
from fixtures.shadow_settings import Kept
from reports.records import Finding, HarnessError, UsageProblem

USABLE: Final = ("DONE", "WAITING_FOR_WALS")
FAILED: Final = "FAILED"
# Where Barman itself looks.
DEFAULTS: Final = ("~/.barman.conf", "/etc/barman.conf", "/etc/barman/barman.conf")
MAIN: Final = "barman"
# What pg_verifybackup says of files, and not of itself.
DAMAGED: Final = re.compile(r"checksum mismatch|not in the manifest|not on disk| has size ")


class Barman:
    """See ``drills.sources.contract.Source``. Barman's home is only read: its log and its locks lie with the run."""

    name = "barman"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """Recover the newest backup's files with the log that is filed, and the segment that was being received."""
        program = find_barman()
        if program is None:
            raise UsageProblem(
                "the program barman",
                seen="not on PATH",
                remedy="install Barman: docs/pgbackrest-and-barman.md says how",
            )
        asked = _Asked(program=program, kept=kept, fetching=fetching)
        found = sorted(asked.json("list-backups"), key=lambda each: str(each["backup_id"]))
        whole = [str(each["backup_id"]) for each in found if each["status"] in USABLE]
        if not whole:
            told = ", ".join(f"{each['backup_id']} {each['status']}" for each in found)
            raise HarnessError(
                f"Barman's server {kept.server}",
                seen=f"no backup that is done: {told or 'none at all'}",
                remedy="see barman check and Barman's log",
            )
        newest = whole[-1]
        said = asked.json("show-backup", newest)
        base = said["base_backup_information"]
        require_version(_major(str(said["postgresql_version"])), fetching.tools, f"Barman's backup {newest}")
        findings, not_tested = foreign(str(said["system_id"]), newest, fetching)
        for each in found:
            if str(each["backup_id"]) > newest:
                if each["status"] == FAILED:
                    seen = f"status {FAILED}; {newest} is restored instead"
                    findings += (Finding(code="BACKUP-UNUSABLE", seen=seen, where=str(each["backup_id"])),)
                else:
                    reason = f"status {each['status']}: it is being made, or was given up"
                    not_tested += ((f"Barman's backup {each['backup_id']}", reason),)
        damaged, unseen = asked.verified(newest)
        data = fetching.target / "data"
        asked.run("recover", newest, str(data), *asked.options(said.get("tablespaces") or []))
        return Fetched(
            place=data,
            form="files",
            label=newest,
            instant=text_of(datetime.fromisoformat(str(base["end_time"])).timestamp()),
            known_by="Barman's end of the backup; the log goes on from there",
            bytes=sum(path.stat().st_size for path in data.rglob("*") if path.is_file()),
            ours=True,
            log_until=str((said.get("wal_information") or {}).get("last_available") or ""),
            findings=(*findings, *damaged),
            not_tested=(*not_tested, *unseen),
        )


class _Asked:
    """Barman with the operator's configuration, except for what it would write, and whom it would tell."""

    def __init__(self, *, program: str, kept: Kept, fetching: Fetching) -> None:
        self.program, self.kept, self.fetching = program, kept, fetching
        self.own = fetching.target / "barman"
        self.own.mkdir(mode=0o700)
        self.configuration = self.own / "barman.conf"
        self._write(_read(kept))

    def _write(self, parser: configparser.ConfigParser) -> None:
        for section in parser.sections():
            for option in parser.options(section):
                # A hook may mount something, or tell somebody of a recovery that is none of his.
                if option.endswith("_script"):
                    parser.remove_option(section, option)
        parser.remove_option(MAIN, "configuration_files_directory")
        for name, value in {
            "barman_lock_directory": str(self.own),
            "log_file": str(self.own / "barman.log"),
            # It would change to this user, who must be the one who runs it.
            "barman_user": pwd.getpwuid(os.geteuid()).pw_name,
        }.items():
            parser.set(MAIN, name, value)
        self.configuration.touch(mode=0o600)
        with self.configuration.open("w", encoding="utf-8") as file:
            parser.write(file)

    def verified(self, identity: str) -> tuple[tuple[Finding, ...], tuple[tuple[str, str], ...]]:
        """The backup against its own manifest, where it has one: of a damaged one Barman makes no failure."""
        finished = self._run("verify-backup", identity, accept=range(256))
        if finished.exit == 0:
            return (), ()
        said = tail(finished.errors, self.fetching.processes.redactor)
        if DAMAGED.search(said):
            return (Finding(code="BACKUP-ARTEFACT-ALTERED", seen=said[-1000:], where=identity),), ()
        return (), (("each file of the backup against its manifest", f"barman verify-backup: {said[-300:]}"),)

    def run(self, verb: str, *options: str, form: Sequence[str] = ()) -> str:
        """What one of Barman's commands prints."""
        return self._run(verb, *options, form=form).output.read_text("utf-8", "replace")

    def _run(self, verb: str, *options: str, form: Sequence[str] = (), accept: Sequence[int] = (0,)) -> Finished:
        words = [self.program, f"--config={self.configuration}", *form, verb, self.kept.server, *options]
        # It makes directories there to work in, and leaves them when it is killed: with the run's own they go.
        environment = {
            "TMPDIR": str(self.own),
            # Where its configuration does not say where PostgreSQL's programs are.
            "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(self.fetching.tools.directory)]),
        }
        return self.fetching.processes.run(words, timeout=self.fetching.seconds, env=environment, accept=accept)

    def json(self, verb: str, *options: str) -> Any:
        """What it says of the server.

        Raises:
            HarnessError: nothing of the kind.
        """
        said = self.run(verb, *options, form=["--format=json"])
        try:
            return json.loads(said)[self.kept.server]
        except (ValueError, LookupError, TypeError) as problem:
            raise HarnessError(
                f"barman {verb} {self.kept.server}",
                seen=f"{type(problem).__name__}: {said[:200]}",
                remedy="run it by hand",
            ) from None

    def options(self, tablespaces: Sequence[dict[str, Any]]) -> list[str]:
        """How it recovers: to the end of what it has, with everything below the run's own directory."""
        place = self.fetching.target / "tablespaces"
        help_text = self.fetching.processes.run([self.program, "recover", "--help"], timeout=60).output.read_text()
        return [
            # Without a target it would write no recovery.signal, and the server would take no log beyond the backup.
            "--target-tli=latest",
            "--no-get-wal",
            *(["--partial-wal"] if "--partial-wal" in help_text else []),
            f"--jobs={self.fetching.jobs}",
            *(f"--tablespace={each['name']}:{place / str(each['name'])}" for each in tablespaces),
        ]


def _read(kept: Kept) -> configparser.ConfigParser:
    """The operator's configuration, with that of the servers which lie beside it.

    Raises:
        UsageProblem: there is none, or it is none of Barman's.
    """
    places = [kept.configuration] if kept.configuration else [Path(each).expanduser() for each in DEFAULTS]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UsageProblem(
            f"Barman's configuration {', '.join(str(place) for place in places)}",
            seen="no such file",
            remedy="name it as configuration",
        )
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(found.read_text("utf-8"))
        beside = parser.get(MAIN, "configuration_files_directory", fallback="")
        if beside:
            for place in sorted(Path(beside).expanduser().glob("*.conf")):
                parser.read_string(place.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error) as problem:
        raise UsageProblem(
            f"Barman's configuration {found}",
            seen=f"{type(problem).__name__}: {str(problem).splitlines()[0]}",
            remedy="name one that barman check accepts, readable for this user",
        ) from None
    if not parser.has_section(MAIN) or not parser.has_section(kept.server):
        known = [name for name in parser.sections() if name != MAIN]
        raise UsageProblem(
            f"Barman's configuration {found}",
            seen=f"no server {kept.server} in it, but {', '.join(known) or 'none'}",
            remedy="correct server, or name another configuration",
        )
    return parser


def _major(number: str) -> str:
    """The major version of a server's version number, as 150020 has 15."""
    return str(int(number) // 10000) if number.isdigit() and len(number) > 4 else number.split(".")[0]


SOURCE: Final = Barman()

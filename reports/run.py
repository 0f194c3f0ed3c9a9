"""The record of one run while it is made: its directory, its journal, and the evidence at its end."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import re
import secrets
import shutil
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import evidence, failover, gate, measures, population, register, regression
from reports.accounting import account
from reports.assessment import assess_one, assess_run, cluster_facts, rehearsed
from reports.measures import last_of
from reports.records import (
    Clock,
    Finding,
    HarnessError,
    Journal,
    Redactor,
    UsageProblem,
    canonical,
    read_lines,
    utc_now,
)

INTERVAL_NOTE: Final = (
    "A recovery time is the end of the first successful probe; it lies between the start of the last failed probe and"
    " itself. A recovery point is known to one write interval. Durations are of one monotonic clock."
)

_SOURCES: Final = ("fixtures", "checks", "drills", "reports")
_SUFFIXES: Final = frozenset({".py", ".sql", ".toml", ".json", ".j2", ".css", ".sh"})


class Run:
    """One run: ``directory`` holds its files, ``journal`` its events, ``clock`` its zero, ``redactor`` its secrets.

    Args:
        runs_directory: where the run's own directory is made.
        command: the command line as it was given.
        suite: name, version, commit and digest of the sources of this suite.
        profile: name and SHA-256 of the profile in force; empty texts where there is none.
        key_id: of the key that the run will be signed with; empty where it will not be.

    ``found`` are the lines of the register that this run added for dead runs that were in none.

    Raises:
        UsageProblem: the directory cannot be made or written to, or its register is broken.
        HarnessError: the register cannot be written to.
    """

    def __init__(
        self,
        runs_directory: Path,
        *,
        command: Sequence[str] = (),
        suite: Mapping[str, str] | None = None,
        profile: Mapping[str, str] | None = None,
        key_id: str = "",
    ) -> None:
        self.run_id: Final = f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        self.directory: Final = runs_directory / self.run_id
        self.clock: Final = Clock.start()
        self.redactor: Final = Redactor()
        self.evidence: dict[str, Any] | None = None
        self._key_id: Final = key_id
        self._held: int | None = None
        try:
            # Until the first event is written there was no run, and nothing of it stays.
            with contextlib.ExitStack() as undo:
                runs_directory.mkdir(parents=True, exist_ok=True)
                # Under the register's lock, so that no other run meets a journal that nobody holds yet.
                with register.locked(runs_directory) as book:
                    self.directory.mkdir()
                    undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
                    journal = self.directory / register.JOURNAL
                    self.journal: Final = Journal(journal, clock=self.clock, redactor=self.redactor)
                    undo.callback(self.journal.close)
                    self._held = register.hold(self.directory)
                    undo.callback(self.let_go)
                    self.found: Final = book.catch_up()
                self.journal.write(
                    "run.opened",
                    run_id=self.run_id,
                    suite=dict(suite or {"name": "", "version": "", "commit": "", "source_sha256": ""}),
                    command=list(command),
                    profile=dict(profile or {"name": "", "sha256": ""}),
                    host=describe_host(),
                    interval_note=INTERVAL_NOTE,
                )
                undo.pop_all()
        except OSError as problem:
            raise UsageProblem(
                str(self.directory),
                seen=problem.strerror or str(problem),
                remedy="name a directory that can be written to with --runs-directory",
            ) from None

    def drill_directory(self, drill: str) -> Path:
        """The directory of one drill's ledger, made if need be; its name is the drill's, safe as a file name."""
        directory = self.directory / (re.sub(r"[^A-Za-z0-9._-]+", "-", drill).strip(".-")[:100] or "drill")
        directory.mkdir(exist_ok=True)
        return directory

    def relative(self, path: Path) -> str:
        """A path inside the run as the journal names it: relative to the run's directory, with forward slashes."""
        return path.relative_to(self.directory).as_posix()

    def drills(self) -> list[str]:
        """The drills opened so far."""
        return [event["drill"] for event in self._events() if event["kind"] == "drill.opened"]

    def judged(self) -> bool:
        """Whether a drill was opened, or a deployment to be checked."""
        kinds = ("drill.opened", "conformance.opened", "gate.opened")
        return any(event["kind"] in kinds for event in self._events())

    def assess(self, drill: str) -> dict[str, Any]:
        """One drill's part of the evidence, from the files as they are now; call it after ``drill.closed``.

        Raises:
            HarnessError: that drill was never opened.
        """
        if drill not in self.drills():
            raise HarnessError(f"drill {drill}", seen="never opened in this run", remedy="write drill.opened first")
        return assess_one(self._events(), self.directory, drill)

    def assess_rehearsal(self) -> dict[str, Any]:
        """What became of the rehearsal of an upgrade, from the files as they are now; call it after its end.

        Raises:
            HarnessError: none was opened in this run.
        """
        assessed = rehearsed(self._events())
        if assessed is None:
            raise HarnessError("the rehearsal", seen="never opened in this run", remedy="write rehearsal.opened first")
        return assessed

    def findings_if_observed(self, drill: str, observed: Iterable[Mapping[str, Any]]) -> list[Finding]:
        """What the accounting of a drill's ledger finds had just these lines been observed after recovery.

        Raises:
            HarnessError: the drill has not been struck.
        """
        events = [event for event in self._events() if event.get("drill") == drill]
        strike, gone_ns = last_of(events, "strike"), measures.gone_ns(events)
        if strike is None or last_of(events, "strike.proven") is None:
            raise HarnessError(
                f"drill {drill}", seen="not struck yet", remedy="account for its ledger after the strike"
            )
        ledger = read_lines(self.drill_directory(drill) / "ledger.jsonl")
        return list(account(ledger, observed, strike["at_ns"], gone_ns=gone_ns).findings)

    def findings_if(
        self,
        drill: str,
        *,
        observed: Sequence[Mapping[str, Any]] | None = None,
        witness: Sequence[Mapping[str, Any]] | None = None,
        reads: Sequence[Mapping[str, Any]] | None = None,
        planned: bool | None = None,
    ) -> list[Finding]:
        """What a failover drill's account finds had just these lines been written; what is not given is as it is.

        Args:
            drill: one that was struck, its witness and its reads closed, its ledger observed.
            observed: the lines of ``observed.jsonl``.
            witness: those of ``witness.jsonl``.
            reads: those of ``reads.jsonl``.
            planned: as if the work had been planned, and clients were to feel nothing; as it was where not given.

        Raises:
            HarnessError: the drill has not come so far.
        """
        events = [event for event in self._events() if event.get("drill") == drill]
        facts = cluster_facts(events, self.directory)
        needed = (facts.ledger, facts.observed, facts.witness, facts.reads)
        if last_of(events, "strike") is None or any(lines is None for lines in needed) or facts.problems:
            seen = "; ".join(facts.problems) or "not struck and watched to the end"
            remedy = "account for it after witness.closed, reads.closed and ledger.observed"
            raise HarnessError(f"drill {drill}", seen=seen, remedy=remedy)
        changed = dataclasses.replace(
            facts,
            observed=facts.observed if observed is None else observed,
            witness=facts.witness if witness is None else witness,
            reads=facts.reads if reads is None else reads,
        )
        return failover.findings_if(events, changed, planned=planned)

    def close(self, exit_code: int) -> dict[str, Any]:
        """Write ``run.closed``, then ``evidence.json``, and hand its content back. A second call changes nothing.

        Raises:
            HarnessError: the evidence is not what its schema says: the suite broke.
        """
        if self.evidence is None:
            self._read_history()
            self._read_past_of_gate()
            with register.locked(self.directory.parent) as book:
                head = book.lines[-1] if book.lines else None
            previous = {key: head[key] for key in ("n", "run_id", "state", "sha256", "hash")} if head else None
            self.journal.write("register.head", previous=previous, key_id=self._key_id)
            self.journal.write("run.closed", exit=int(exit_code))
            self.journal.close()
            assessed = assess_run(self.directory)
            evidence.write(assessed, self.directory / evidence.FILE_NAME)
            if "gate" in assessed:
                gate.write(assessed["gate"], self.directory)
            self.evidence = assessed
        return self.evidence

    def _read_history(self) -> None:
        """Write what past runs of the same drills took: a fact, so that the journal alone is enough to judge by it."""
        if not self.drills():
            return
        try:
            runs = [run for run in population.read(self.directory.parent) if run.run_id != self.run_id]
        except UsageProblem as problem:
            self.journal.write("not_tested", what="recovery times against past runs", reason=str(problem))
            return
        for fields in regression.facts(self._events(), runs):
            self.journal.write(regression.KIND, **fields)

    def _read_past_of_gate(self) -> None:
        """Write which past run proves that a restore works, where this one decides on an upgrade."""
        opened = last_of(self._events(), "gate.opened")
        if opened is None:
            return
        try:
            runs = [run for run in population.read(self.directory.parent) if run.run_id != self.run_id]
        except UsageProblem as problem:
            self.journal.write("not_tested", what="evidence of past drills", reason=str(problem))
            return
        profile = next(event["profile"]["name"] for event in self._events() if event["kind"] == "run.opened")
        stand_in, opened_utc = opened["stand_in"], opened["utc"]
        past = gate.past_of(runs, profile=profile, stand_in=stand_in, opened_utc=opened_utc)
        self.journal.write("gate.past", **past)

    def discard(self) -> None:
        """Remove the run's directory: for a run that opened no drill. Of a run that did, everything stays.

        Raises:
            HarnessError: a drill was opened.
        """
        if self.judged():
            raise HarnessError(
                str(self.directory), seen="it holds a drill or a check", remedy="a run is kept, aborted or not"
            )
        self.journal.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.let_go()

    def let_go(self) -> None:
        """Stop being alive to other runs, as the end of the process does."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _events(self) -> list[dict[str, Any]]:
        return list(read_lines(self.directory / "journal.jsonl"))


def describe_host() -> dict[str, Any]:
    """What the run's machine is, without its name, its users or its addresses."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "processors": os.cpu_count() or 1,
    }


def describe_suite(root: Path) -> dict[str, str]:
    """Name and version from ``pyproject.toml``, commit from git's own files, sources: empty where there are none."""
    project: dict[str, Any] = {}
    # A checkout without it is still a checkout: the evidence then shows an empty name.
    with contextlib.suppress(OSError, ValueError):
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("project", {})
    return {
        "name": str(project.get("name", "")),
        "version": str(project.get("version", "")),
        "commit": _commit(root),
        "source_sha256": _source_sha256(root),
    }


def _source_sha256(root: Path) -> str:
    """The SHA-256 of the canonical list of [path, SHA-256] of the sources, sorted; empty where there are none.

    It tells a changed checkout from another of the same commit. Empty, too, where one of them cannot be read.
    """
    places = [root / name for name in ("conftest.py", "pyproject.toml")]
    for place in (place for room in _SOURCES for place in (root / room).glob("*")):
        if place != root / "reports" / "runs":  # what runs leave is no source, and may be much
            places += [place, *place.rglob("*")] if place.is_dir() else [place]
    try:
        rows = [
            [path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
            for path in places
            if path.suffix in _SUFFIXES and path.is_file()
        ]
        return hashlib.sha256(canonical(sorted(rows))).hexdigest() if rows else ""
    except (OSError, ValueError):
        return ""


def _commit(root: Path) -> str:
    """The commit checked out, read from git's files: only one module of the suite starts subprocesses, not this."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree: the file names its own directory, which names the common one
            git = (root / git.read_text("utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return _only_digest(head)
        name = head.removeprefix("ref: ")
        if not name.startswith("refs/") or ".." in name:
            return ""  # git names nothing else: it is somebody's way to another file
        common = (git / (git / "commondir").read_text("utf-8").strip()) if (git / "commondir").exists() else git
        if (common / name).exists():
            return _only_digest((common / name).read_text("utf-8").strip())
        packed = (common / "packed-refs").read_text("utf-8").splitlines()
        return _only_digest(next((line.split()[0] for line in packed if line.endswith(f" {name}")), ""))
    except (OSError, ValueError):
        return ""


def _only_digest(text: str) -> str:
    """A commit's SHA-1 or SHA-256; empty where the text is neither, so that no other file's words get into a run."""
    return text if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) else ""

"""The ledger's writer as the engine sees it: started, watched, stopped, and its writes searched for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict

from drills import ledger, reading
from drills.lines import last_lines
from drills.observed import observe
from drills.own_writes import OwnWrites
from fixtures.application import Application, Lists
from fixtures.backup_set import sha256_of
from fixtures.deployment import ClientAccess, Deployment, NotGiven
from fixtures.processes import Running, ended_within, tail
from fixtures.rotation import Credential, with_credential
from reports.records import Clock, HarnessError, Journal, read_lines, wait_until

# What counts as recovered, with an application that can be spoken to and without.
TRANSACTION: Final = "the first business transaction that went through whole"
STORES: Final = "all services ready, a row and an object written and read back: no business transaction is described"
# What acknowledges nothing for this long is not coming by itself.
ACKNOWLEDGED_SECONDS: Final = 10.0


class Load:
    """The writes that go on during one drill.

    Args:
        path: the ledger's file; what was observed of it, and what was read, lie beside.
        relative: the same path as the journal names it.
        tag: stands in the name of every write, so that writes of other drills are not taken for ours.
        login: of the writer's own connections to the database; without it they are the application's.

    ``channels`` are those in which something is written, known once started: uploads where somebody said how the
    application is spoken to, deletions where it lists its documents and held some before the drill.
    ``lists``: it does, so that what it calls an upload is the document's own id. ``read_channels`` are those in which
    something is read; none unless reads were asked for.
    """

    def __init__(
        self,
        *,
        deployment: Deployment,
        journal: Journal,
        drill: str,
        path: Path,
        relative: Path,
        tag: str,
        login: Credential | None = None,
    ) -> None:
        self.deployment, self.journal, self.drill = deployment, journal, drill
        self.path, self.observed, self.relative, self.tag = path, path.with_name("observed.jsonl"), relative, tag
        self.reads = path.with_name("reads.jsonl")
        self._login = login
        self.channels: tuple[str, ...] = ()
        self.read_channels: tuple[str, ...] = ()
        self.lists = False
        self._writer: Running | None = None

    @property
    def prefix(self) -> str:
        """What the keys of the ledger's own objects begin with."""
        return f"{ledger.PREFIX}/{self.tag}/"

    def own_writes(self, *, since: int) -> OwnWrites:
        """What the ledger attempted, and how many uploads and deletions after an instant got no answer.

        To be asked when the writer has ended.
        """
        attempted, uploads, unanswered = {ledger.probe_key(self.tag)}, [], 0
        for entry in read_lines(self.path):
            if entry["event"] == "attempt" and entry["channel"] == "object":
                attempted.add(self.prefix + entry["id"])
            elif entry["event"] == "attempt" and entry["channel"] == ledger.API:
                uploads.append(entry["t"])
            elif entry["event"] == "failed" and entry["channel"] in (ledger.API, ledger.DELETE) and entry["t"] > since:
                unanswered += entry["error"] != ledger.REFUSED
        return OwnWrites(
            prefix=self.prefix, attempted=frozenset(attempted), unanswered=unanswered, uploads=tuple(uploads)
        )

    def deletions(self, *, since: int = 0) -> frozenset[str]:
        """The ids of the documents whose deletion was attempted since an instant; when the writer has ended."""
        return frozenset(
            entry["id"]
            for entry in read_lines(self.path)
            if entry["event"] == "attempt" and entry["channel"] == ledger.DELETE and entry["t"] >= since
        )

    def uploads(self, *, since: int = 0, until: int | None = None) -> dict[str, str]:
        """What the product calls each upload that it acknowledged, by the upload's id in the ledger.

        Args:
            since: only those that were attempted from that instant on.
            until: only those that were acknowledged before that instant.
        """
        attempts, found = dict[int, str](), dict[str, str]()
        for entry in read_lines(self.path):
            if entry["channel"] != ledger.API:
                continue
            if entry["event"] == "attempt" and entry["t"] >= since:
                attempts[entry["n"]] = entry["id"]
            elif "document" in entry and entry["n"] in attempts and (until is None or entry["t"] < until):
                found[attempts[entry["n"]]] = entry["document"]
        return found

    def launch(self) -> None:
        """Start the writer's process, which waits to be told where to write; ``start`` does it where nobody did."""
        self._writer = self.deployment.processes.start_module("ledger-writer", "drills.ledger", pipe_input=True)

    def start(
        self, *, clock: Clock, interval_ns: int, reads: bool = False, request_seconds: float = ledger.REQUEST_SECONDS
    ) -> None:
        """Have the writer write, and see each channel acknowledge.

        Args:
            reads: have it read, too, and see each channel answered.
            request_seconds: how long one request may take.
        """
        if self._writer is None:
            self.launch()
        assert self._writer is not None
        deletable = self._offered()
        self.journal.write(
            "ledger.opened",
            drill=self.drill,
            path=self.relative.as_posix(),
            channels=list(self.channels),
            recovery_basis=TRANSACTION if ledger.API in self.channels else STORES,
        )
        access = self.deployment.client_access()
        if self._login is not None:
            access = dataclasses.replace(access, dsn=with_credential(access.dsn, self._login))
        if reads:
            self.read_channels = _read_channels(self.channels, access)
        source = self._writer.popen.stdin
        assert source is not None
        source.write(
            ledger.writer_input(
                access,
                tag=self.tag,
                path=self.path,
                clock=clock,
                interval_ns=interval_ns,
                channels=self.channels,
                deletable=deletable,
                request_seconds=request_seconds,
                reads=self.reads if reads else None,
                read_channels=self.read_channels,
            )
        )
        source.flush()
        self._await(self.channels, since=0)
        self.await_answers(since=0)

    def _offered(self) -> list[str]:
        """Find out which channels the deployment offers, say of the others why not; what the writer may delete."""
        deletable: list[str] = []
        with self._application() as application:
            if isinstance(application, Lists):
                self.lists = True
                deletable = ledger.deletable(application)
            elif application is not None:
                reason = "described by its steps, the application cannot be asked which documents it holds"
                self._not_tested("deletions by users: the ledger's channel delete", reason)
        there = {ledger.API: application is not None, ledger.DELETE: bool(deletable)}
        self.channels = tuple(each for each in ledger.CHANNELS if there.get(each, True))
        return deletable

    @contextlib.contextmanager
    def _application(self) -> Iterator[Application | None]:
        """A client of the application; none where nobody said how it is spoken to, which the journal then tells."""
        try:
            application = self.deployment.application(timeout=10.0)
        except NotGiven as absent:
            if not self.channels:
                reason = f"{absent.probed} is not given. {absent.remedy}"
                self._not_tested("uploads through the product's API: the ledger's channel api", reason)
            yield None
            return
        with contextlib.closing(application):
            yield application

    def _not_tested(self, what: str, reason: str) -> None:
        self.journal.write("not_tested", drill=self.drill, what=what, reason=reason)

    def await_acknowledgements(self, *, since: int) -> None:
        """Wait until every channel that is sure to have something to do has acknowledged a write after an instant.

        Not so ``delete``: it may have used up its documents, and which of them came back is for the checks to say.

        Raises:
            HarnessError: one did not in ten seconds, or the writer has ended.
        """
        self._await([channel for channel in self.channels if channel != ledger.DELETE], since=since)

    def await_answers(self, *, since: int) -> None:
        """Wait until every channel in which something is read was answered after an instant.

        Raises:
            HarnessError: as ``await_acknowledgements``.
        """
        self._await_all(self.read_channels, lambda: _answered_since(self.reads, since), "an answered read")

    def await_upload(self) -> None:
        """Wait until a document was uploaded whose upload began after this call; an object, where nobody uploads.

        Raises:
            HarnessError: as ``await_acknowledgements``.
        """
        channel = ledger.API if ledger.API in self.channels else "object"
        self._await([channel], since=self.journal.clock.now(), begun=True)

    def _await(self, channels: Sequence[str], *, since: int, begun: bool = False) -> None:
        self._await_all(
            channels, lambda: channels_acknowledged_since(self.path, since, begun=begun), "an acknowledged write"
        )

    def _await_all(self, channels: Sequence[str], seen: Callable[[], set[str]], what: str) -> None:
        writer = self._writer
        assert writer is not None, "the load was started"

        def all_seen() -> bool:
            if not writer.alive():
                raise HarnessError(
                    "the ledger's writer",
                    seen=f"it ended: {tail(writer.errors, self.deployment.processes.redactor)}",
                    remedy="see the message",
                )
            return seen().issuperset(channels)

        wait_until(
            all_seen,
            seconds=ACKNOWLEDGED_SECONDS,
            interval=0.02,
            what=f"{what} in each of {', '.join(channels)}",
            remedy="see the failed lines of the ledger and of its reads, and the services' logs",
        )

    def hold(self) -> None:
        """Stop the writer where it is, by SIGSTOP; ``let_go`` has it go on."""
        if self._writer is not None:
            self._writer.popen.send_signal(signal.SIGSTOP)

    def let_go(self) -> None:
        """Let the writer go on."""
        if self._writer is not None:
            self._writer.popen.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the writer after its writes under way; does nothing where it does not run."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        assert writer.popen.stdin is not None
        with contextlib.suppress(OSError):
            writer.popen.stdin.close()
        if not ended_within(writer.popen, 10):
            writer.kill()
        self.path.touch()
        self.journal.write(
            "ledger.closed", drill=self.drill, path=self.relative.as_posix(), sha256=sha256_of(self.path)
        )
        if self.read_channels:
            self.reads.touch()
            relative = self.relative.with_name(self.reads.name).as_posix()
            self.journal.write("reads.closed", drill=self.drill, path=relative, sha256=sha256_of(self.reads))

    def observe(self) -> None:
        """Write down every write that the deployment now holds."""
        with self._application() as application:
            uploads = {} if isinstance(application, Lists) else self.uploads()
            found = observe(self.deployment, application, self.tag, deletions=self.deletions(), uploads=uploads)
            _write_lines(self.observed, found)
        if application is not None and not isinstance(application, Lists):
            reason = (
                "the application's documents cannot be listed: those were asked for whose upload it had acknowledged"
            )
            self._not_tested("phantoms and duplicates in the ledger's channel api", reason)
        self.journal.write(
            "ledger.observed",
            drill=self.drill,
            path=self.relative.with_name(self.observed.name).as_posix(),
            sha256=sha256_of(self.observed),
        )


def channels_acknowledged_since(path: Path, t: int, *, begun: bool = False) -> set[str]:
    """The channels in which a write was acknowledged after that instant, from the ledger's last lines.

    With ``begun`` only writes count that were attempted after it, too.
    """
    found, attempts = set(), set()
    for entry in last_lines(path):
        write = entry["channel"], entry["n"]
        if entry["event"] == "attempt" and entry["t"] > t:
            attempts.add(write)
        elif entry["event"] == "acknowledged" and entry["t"] > t and (write in attempts or not begun):
            found.add(entry["channel"])
    return found


def _answered_since(path: Path, t: int) -> set[str]:
    """The channels in which a read that began after that instant was answered, from the last lines of the reads."""
    return {line["channel"] for line in last_lines(path) if line["outcome"] == "answered" and line["t0"] > t}


def _read_channels(channels: Sequence[str], access: ClientAccess) -> tuple[str, ...]:
    """Where something can be read: in each channel that is written in, and of standbys where there can be any."""
    several = "," in str(conninfo_to_dict(access.dsn).get("host") or "")
    there = {reading.STANDBY: several}
    return tuple(each for each, source in reading.SOURCES.items() if source in channels and there.get(each, True))


def _write_lines(path: Path, lines: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")

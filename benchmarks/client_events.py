"""What happens to a cluster while clients are watched, and the ways by which they reach it."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

import httpx

from benchmarks.client_variants import FIRST_ROW, Attempt
from fixtures.application import ApplicationError
from fixtures.cluster import TIMINGS, Act, ClusterNode, leader_of
from fixtures.network import LOOPBACK, free_ports
from fixtures.postgres_tools import find_postgres, find_unprivileged
from fixtures.profile import DEFAULT_PROFILE, load_profile
from fixtures.providers.high_availability.deployment import HighAvailabilityDeployment
from fixtures.proxy import Proxy
from fixtures.refapp.client import Application
from fixtures.refapp.scales import parse_scale
from fixtures.workspace import Workspace, open_workspace
from reports.records import NANOSECONDS, Clock, Redactor, monotonic_ns, pause, utc_now, wait_until

EventName = Literal["switchover", "killed", "postmaster", "frozen", "gone", "demoted", "answers lost"]
# Linux's numbers; Python does not name them.
ATTACH_FILTER: Final = 26
DETACH_FILTER: Final = 27
LEAD_SECONDS: Final = 1.5
# Eight connections, each left after 0.9 s, and some more.
HOLD_SECONDS: Final = 9.0
LONGEST_SECONDS: Final = 90.0
# Longer than the longest budget by more than half a second.
UPLOAD_SECONDS: Final = 6.0
UPLOADS_AT_ONCE: Final = 4
UPLOAD_EVERY_SECONDS: Final = 0.1


class Dropping(Proxy):
    """A proxy whose own kernel can be told to take nothing: not even an acknowledgement goes out, as of a dead host."""

    def drop(self, drops: bool) -> None:
        """Ignore every packet of clients from now on, or no longer."""
        self._run(self._filter(drops))

    async def _filter(self, drops: bool) -> None:
        # One instruction of the classic packet filter: return 0, which is to keep nothing of the packet.
        code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
        program = struct.pack("HL", 1, ctypes.addressof(code))
        held = [writer.get_extra_info("socket") for writer in self._open]
        for each in [*(self._server.sockets if self._server else ()), *held]:
            with contextlib.suppress(OSError):
                if drops:
                    each.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)
                else:
                    each.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """A cluster that is up, with a way of the benchmark's own to each node."""

    deployment: HighAvailabilityDeployment
    workspace: Workspace
    ways: dict[str, Dropping]

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        """The cluster's nodes."""
        return self.deployment.cluster.nodes

    def leader(self) -> ClusterNode:
        """Who leads now, within a minute."""

        def named() -> str:
            found = leader_of(self.deployment.cluster.members())
            return found.node if found else ""

        return self._await(named, "a leader")

    def led_by_another(self, former: str) -> ClusterNode:
        """Who takes writes now and is not the former leader, which may think that it leads still."""

        def another() -> str:
            members = self.deployment.cluster.members()
            return next((each.node for each in members if each.role == "leader" and each.node != former), "")

        return self._await(another, "another leader")

    def _await(self, named: Callable[[], str], what: str) -> ClusterNode:
        found: list[str] = []

        def so() -> bool:
            found[:] = [named()]
            return bool(found[0])

        wait_until(so, seconds=LONGEST_SECONDS, interval=0.05, what=what)
        return next(node for node in self.nodes if node.name == found[0])

    def url(self, parameters: str, *, first: str, alone: bool = False) -> str:
        """The application's URL by the benchmark's own ways, one node first, or that one alone."""
        before, _, after = self.deployment.configuration()["DATABASE_URL"].rpartition("@")
        database = after.partition("/")[2].partition("?")[0]
        names = [first, *(node.name for node in self.nodes if node.name != first and not alone)]
        hosts = ",".join(f"{LOOPBACK}:{self.ways[name].port}" for name in names)
        return f"{before}@{hosts}/{database}?{parameters}"

    def whole_again(self) -> None:
        """Wait until every node streams."""
        self.deployment.redundant_parts.cluster.await_redundant(seconds=LONGEST_SECONDS)

    def web(self, name: str, *, budget_seconds: int) -> str:
        """One more Web, with a budget of its own; its address."""
        (port,) = free_ports(1)
        home = self.workspace.directory / name
        home.mkdir()
        self.workspace.processes.start_module(name, "fixtures.refapp", "web", env={
            **self.deployment.configuration(), "WEB_LISTEN": f"{LOOPBACK}:{port}", "HOME": str(home),
            "DATABASE_RETRY_SECONDS": str(budget_seconds),
        })  # fmt: skip
        url = f"http://{LOOPBACK}:{port}"

        def ready() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{url}/ready", trust_env=False, timeout=2).status_code == httpx.codes.OK
            return False

        wait_until(ready, seconds=30, interval=0.1, what=f"{name} to be ready")
        return url

    def application(self, url: str) -> Application:
        """A client of a Web."""
        access = self.deployment.client_access()
        return Application(url, access.api_key, timeout=UPLOAD_SECONDS, keep_alive=False)


@contextlib.contextmanager
def bench(timing: str, root: Path) -> Iterator[Bench]:
    """A cluster with these waits; everything is ended and removed afterwards."""
    redactor, clock = Redactor(), Clock.start()
    workspace = open_workspace(
        root, f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}", clock=clock, redactor=redactor
    )
    with contextlib.ExitStack() as stack:
        stack.callback(workspace.close)
        profile = load_profile(DEFAULT_PROFILE, {})
        tools = find_postgres(workspace.processes, None)
        deployment = HighAvailabilityDeployment(
            timing=TIMINGS[timing], copy_seconds=3600, tools=tools,
            unprivileged=find_unprivileged(workspace.processes, tools), processes=workspace.processes,
            redactor=redactor, profile=profile, sizes=parse_scale("small"),
            directory=workspace.directory / "deployment",
        )  # fmt: skip
        stack.callback(deployment.redundant_parts.doors.close)
        deployment.spin_up({})
        deployment.seed(lambda what, done, of: None)
        ways = {
            node.name: stack.enter_context(Dropping(LOOPBACK, node.database.port)) for node in deployment.cluster.nodes
        }
        made = Bench(deployment=deployment, workspace=workspace, ways=ways)
        with made.leader().database.connect() as connection:
            for statement in FIRST_ROW:
                connection.execute(statement.encode())
        yield made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens to the leader.

    ``strike`` is done to it; ``led`` when another one has taken over; ``mend`` when nobody watches any more.
    """

    strike: Callable[[Bench, ClusterNode], None]
    led: Callable[[Bench, ClusterNode], None] = lambda bench, node: None
    mend: Callable[[Bench, ClusterNode], None] = lambda bench, node: None


def _acts(*acts: Act) -> Callable[[Bench, ClusterNode], None]:
    def do(bench: Bench, node: ClusterNode) -> None:
        del bench
        for act in acts:
            node.act(act)

    return do


def _switch_over(bench: Bench, node: ClusterNode) -> None:
    standby = next(each for each in bench.deployment.cluster.members() if each.synchronous)
    assert standby.node != node.name
    bench.deployment.cluster.switch_over(standby.node)


def _be_gone(bench: Bench, node: ClusterNode) -> None:
    """Its network first, so that no farewell is heard."""
    bench.ways[node.name].drop(True)
    node.act(Act.KILL)


def _come_back(bench: Bench, node: ClusterNode) -> None:
    bench.ways[node.name].drop(False)
    node.act(Act.START)


def _read_only(value: str) -> Callable[[Bench, ClusterNode], None]:
    def do(bench: Bench, node: ClusterNode) -> None:
        del bench
        with node.database.connect() as connection:
            connection.execute(f"ALTER SYSTEM {value}".encode())
            connection.execute(b"SELECT pg_reload_conf()")

    return do


def _take_writes_and_start(bench: Bench, node: ClusterNode) -> None:
    _read_only("RESET default_transaction_read_only")(bench, node)
    node.act(Act.START)


EVENTS: Final[dict[EventName, Event]] = {
    "switchover": Event(strike=_switch_over),
    "killed": Event(strike=_acts(Act.KILL), mend=_acts(Act.START)),
    "postmaster": Event(strike=_acts(Act.KILL_POSTGRES)),
    "frozen": Event(strike=_acts(Act.FREEZE), mend=_acts(Act.THAW)),
    "gone": Event(strike=_be_gone, mend=_come_back),
    # Its agent is dead, another leads, and it is told to take no writes but not restarted.
    "demoted": Event(
        strike=_acts(Act.KILL_PATRONI), led=_read_only("SET default_transaction_read_only = on"),
        mend=_take_writes_and_start,
    ),
}  # fmt: skip


class Uploads:
    """Uploads to one Web, several at once, by clients that do not try again. A context manager."""

    def __init__(self, bench: Bench, url: str) -> None:
        self._bench, self._url = bench, url
        self.attempts: list[Attempt] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(UPLOADS_AT_ONCE)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=2 * UPLOAD_SECONDS)

    def _work(self) -> None:
        with self._bench.application(self._url) as application:
            while not self._ended.is_set():
                began, answered = monotonic_ns(), True
                try:
                    application.upload(f"benchmark-{secrets.token_hex(6)}", secrets.token_bytes(64))
                except (httpx.HTTPError, ApplicationError):
                    answered = False
                self.attempts.append(Attempt(began_ns=began, ended_ns=monotonic_ns(), answered=answered))
                self._ended.wait(UPLOAD_EVERY_SECONDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeated:
    """What came of uploads whose answers were lost now and then, and that were sent again until one was answered."""

    uploads: int
    repeats: int
    duplicates: int


def repeated(bench: Bench, url: str, *, keyed: bool, seconds: float = 6.0) -> Repeated:
    """Upload for a while through a way that loses answers; with one key for all tries of an upload, or none."""
    prefix, uploads, repeats = f"benchmark-{secrets.token_hex(6)}-", 0, 0
    parts = httpx.URL(url)
    assert parts.port is not None
    until = monotonic_ns() + round(seconds * NANOSECONDS)
    with Proxy(LOOPBACK, parts.port) as way, bench.application(f"http://{LOOPBACK}:{way.port}") as application:
        while monotonic_ns() < until:
            name, content, key = f"{prefix}{uploads}", secrets.token_bytes(64), secrets.token_hex(8)
            # Every second upload's first answer is lost.
            way.turn("cut" if uploads % 2 else "pass")
            while True:
                try:
                    application.upload(name, content, key=key if keyed else "")
                    break
                except (httpx.HTTPError, ApplicationError):
                    repeats += 1
                    way.turn("pass")
                    pause(0.02, why="it is sent again")
            uploads += 1
        found = len(list(application.documents(prefix)))
    return Repeated(uploads=uploads, repeats=repeats, duplicates=found - uploads)

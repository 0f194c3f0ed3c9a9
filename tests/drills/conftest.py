import contextlib
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from fixtures.network import free_ports
from reports.records import Clock, Journal, Redactor, monotonic_ns, pause, wait_until

ROOT = Path(__file__).parents[2]
NOBODY = 65534
LITTLE = "--scale=documents=4,database=64KiB"
SCENARIO = "single-node-pg_dump-rclone-total_loss"
DROP = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", "--")


class Suite:
    """The suite as a person starts it, with directories of its own so that sessions do not meet."""

    def __init__(self, place, prefix=(), python=sys.executable, **environment):
        self.place, self.prefix, self.python = place, prefix, python
        self.work, self.runs = place / "work", place / "runs"
        self.output = place / "output"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        self.environment = inherited | {"HOME": str(place), "COLUMNS": "100"} | environment

    def argv(self, *arguments):
        own = [f"--work-directory={self.work}", f"--runs-directory={self.runs}", "-p", "no:cacheprovider"]
        one = () if "-k" in arguments else ("-k", SCENARIO)
        return [*self.prefix, str(self.python), "-m", "pytest", "drills", *own, *one, *arguments]

    def start(self, *arguments):
        with self.output.open("wb") as file:
            return subprocess.Popen(self.argv(*arguments), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
                                    stdout=file, stderr=subprocess.STDOUT)  # fmt: skip

    def run(self, *arguments):
        """The exit code and everything written to the terminal."""
        popen = self.start(*arguments)
        try:
            exit_code = popen.wait(timeout=300)
        finally:
            popen.kill()
            popen.wait()
        return exit_code, self.output.read_text("utf-8")

    def evidence(self):
        (file,) = self.runs.glob("*/evidence.json")
        return json.loads(file.read_text("utf-8"))

    def left(self):
        """Everything in the work and runs directories but the lock and the register of runs, which stay."""
        stay = ("lock", "register.jsonl")
        return [str(path) for folder in (self.work, self.runs) for path in folder.glob("*") if path.name not in stay]


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path)


@pytest.fixture
def ordinary_suite(tmp_path):
    """The suite as an ordinary user's, also where root runs the tests and another user can run such a Python."""
    python = shutil.which("python{}.{}".format(*sys.version_info), path="/usr/bin:/usr/local/bin")
    readable = subprocess.run([*DROP, "test", "-r", __file__], capture_output=True).returncode == 0
    if os.geteuid() != 0 or not python or not readable:
        yield Suite(tmp_path)
        return
    place = Path(tempfile.mkdtemp(prefix="enprivacy-ordinary-"))  # pytest's own directories are closed to other users
    environment = place / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "of-the-suite.pth").write_text(sysconfig.get_path("purelib"))
    (environment / "bin" / "rclone").symlink_to(Path(sys.executable).with_name("rclone"))
    os.chown(place, NOBODY, NOBODY)
    yield Suite(place, DROP, environment / "bin" / "python", PYTHONDONTWRITEBYTECODE="1")
    shutil.rmtree(place)


class Killed:
    """A run that is ended by a signal in the middle of a phase, and what there was of it just before."""

    def __init__(self, suite):
        self.suite, self.segments, self.mapped, self.processes = suite, set(), set(), []
        self.arguments, self.servers = [LITTLE], f"*/{SCENARIO}/deployment/postgresql/data/postmaster.pid"

    def at(self, phase, number, *, and_there=""):
        """``and_there``: a pattern of files that must be there besides."""
        popen = self.suite.start(*self.arguments)
        try:
            wait_until(lambda: self._reached(popen, phase) and (not and_there or any(self.suite.work.glob(and_there))),
                       seconds=120, interval=0.02, what=f"the phase {phase} {and_there}")  # fmt: skip
            self._take_stock()
            popen.send_signal(number)
            return popen.wait(timeout=60)
        finally:
            popen.kill()
            popen.wait()

    @property
    def directory(self):
        (run,) = self.suite.runs.glob("*/")
        return self.suite.work / run.name

    def remains(self):
        """What is left of the run: processes, shared memory, directories."""
        alive = [process for process in self.processes if runs(process)]
        if not alive and not self.directory.exists():  # only now: looking at every process of the machine takes a while
            alive = [process for process in self._of_the_run() if runs(process)]
        segments = self.segments & {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
        files = [path for path in self.mapped if Path(path).exists()]
        return [*alive, *segments, *files, *([self.directory] if self.directory.exists() else [])]

    def _reached(self, popen, phase):
        assert popen.poll() is None, self.suite.output.read_text("utf-8")
        # A server is made anew after the strike: each one's segment is noted while its file names it.
        for file in self.suite.work.glob(self.servers):
            with contextlib.suppress(OSError, IndexError):
                self.segments.add(file.read_text().splitlines()[6].split()[1])
        wanted = '"kind":"phase.opened","n":'
        return any(
            wanted in line and f'"phase":"{phase}"' in line
            for file in self.suite.runs.glob("*/journal.jsonl")
            for line in file.read_text("utf-8").splitlines()
        )

    def _take_stock(self):
        self.processes = self._of_the_run()
        for process in self.processes:
            with contextlib.suppress(psutil.Error, OSError):
                self.mapped |= {each.path for each in process.memory_maps() if each.path.startswith("/dev/shm/")}

    def _of_the_run(self):
        """Those with the run's id, those in its directory, and their descendants: not looked up by the code tested."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                inside = Path(process.cwd().removesuffix(" (deleted)")).is_relative_to(self.directory)
                if inside or process.environ().get("ENPRIVACY_DRILL_RUN") == self.directory.name:
                    found |= {process, *process.children(recursive=True)}
                elif str(self.directory) in process.cmdline():
                    found.add(process)  # the guardian
        return found


def runs(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def killed(suite):
    return Killed(suite)


# Instruments: a target that is switched off and on at known instants, and how much the machine itself lags meanwhile.


class Target:
    """A real HTTP server on the loopback address that keeps what it acknowledged; off, nothing listens there."""

    def __init__(self):
        (self.port,) = free_ports(1)
        self.url, self.kept, self.lock = f"http://127.0.0.1:{self.port}/", {}, threading.Lock()
        self._server = None

    def on(self):
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with target.lock:
                    target.kept[self.path.strip("/")] = hashlib.sha256(body).hexdigest()
                self.send_response(201)
                self.end_headers()

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005})
        self._thread.start()

    def off(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def send(self, n, identity, text):
        httpx.post(self.url + identity, content=text.encode(), timeout=2, trust_env=False).raise_for_status()


@pytest.fixture
def target():
    target = Target()
    target.on()
    yield target
    target.off()


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", clock=Clock.start(), redactor=Redactor())
    yield journal
    journal.close()


@pytest.fixture
def worst_stall():
    """Nanoseconds by which a thread that only sleeps was woken too late at worst: no instrument can do better."""
    stop, worst = threading.Event(), [0]

    def sleep():
        while not stop.is_set():
            due = monotonic_ns() + 5_000_000
            pause(0.005, why="to see how late it ends")
            worst[0] = max(worst[0], monotonic_ns() - due)

    thread = threading.Thread(target=sleep)
    thread.start()
    yield lambda: worst[0]
    stop.set()
    thread.join()

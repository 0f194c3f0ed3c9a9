"""Somebody else's cluster, of which the suite knows its profile only: real nodes, really killed by his commands."""

import dataclasses
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fixtures.cluster import FAST, Act, ClusterAct, leader_of
from fixtures.ground import find_tools
from fixtures.interlock_reading import Target, require_armed
from fixtures.profile import DEFAULT_PROFILE, load_profile
from fixtures.providers.attached import node as seen_from_outside
from fixtures.providers.attached.redundant import AttachedClusterDeployment
from fixtures.providers.high_availability.deployment import HighAvailabilityDeployment
from fixtures.refapp.scales import parse_scale
from fixtures.workspace import open_workspace
from reports.records import Clock, HarnessError, Redactor, UsageProblem, wait_until

ROOT = Path(__file__).parents[3]
PASSWORD = "the-observer-s-password-4711"
STEPS = (ROOT / "examples" / "compose" / "transaction.toml").read_text("utf-8")
# The whole of a node is never lost here: nobody has given a command for it.
OFFERED = tuple(act.value for act in Act if act is not Act.LOSE)
DRILLED = "primary_killed or primary_frozen or switchover"

pytestmark = pytest.mark.cluster


class Operator:
    """Whoever runs the cluster, does what his commands ask for over a socket, and starts the suite."""

    def __init__(self, made, place):
        self.made, self.place, self.asked, self.ended = made, place, [], threading.Event()
        (place / "tmp").mkdir()
        (place / "steps.toml").write_text(STEPS)
        operator, self.profile, self.socket = self, place / "profile.toml", place / "s"

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                whom, what = self.rfile.readline().decode().split()
                operator.asked.append((whom, what))
                cluster = operator.made.cluster
                nodes = {node.name: node for node in cluster.nodes}
                nodes[whom].act(Act(what)) if whom in nodes else cluster.act(ClusterAct(what))
                self.wfile.write(b"done")

        self.server = socketserver.ThreadingUnixStreamServer(str(self.socket), Handler)
        for target in (self.server.serve_forever, self.collect):
            threading.Thread(target=target, daemon=True).start()
        with made.database.connect() as connection:
            (self.identifier,) = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
            connection.execute(f"CREATE ROLE observer LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data")
            connection.execute(f"GRANT CONNECT ON DATABASE {made.database.name} TO observer")
        values, database = made.configuration(), made.database
        hosts = ",".join(node.address for node in made.cluster.nodes)
        self.secrets = {
            "OBSERVER_DSN": f"postgresql://observer:{PASSWORD}@{hosts}/{database.name}",
            "OPERATOR": f"{database.user}:{database.password}",
            "REST_PASSWORD": made.cluster.nodes[0]._rest_password,
            "ACCESS_KEY": values["OBJECT_STORAGE_ACCESS_KEY"],
            "SECRET_KEY": values["OBJECT_STORAGE_SECRET_KEY"],
            "OPERATOR_KEY": made.objects.access_key,
            "OPERATOR_SECRET": made.objects.secret_key,
            "API_KEY": made._api_key,
        }
        self.describe()

    def collect(self):
        """Collect the servers that ended: whoever asks for one that nobody collects is told that it still runs."""
        while not self.ended.wait(0.1):
            for running in self.made.processes.services:
                running.alive()

    def command(self, node, act):
        return [sys.executable, str(Path(__file__).with_name("on_their_cluster.py")), str(self.socket), node, act]

    def describe(self, *, disposable=True, identifier="", commands=(), configure=False):
        """Write the profile; ``commands``: in place of a node's own, by act."""
        made = self.made
        services = "".join(
            f"{each.name} = {{url = '{each.url}', live = '{each.live}', ready = '{each.ready}'}}\n"
            for each in made.services if not each.name.endswith("-2")
        )  # fmt: skip
        nodes = "".join(
            f"""
[[cluster.nodes]]
name = "{node.name}"
dsn = "postgresql://${{OPERATOR}}@{node.address}/{made.database.name}"
patroni = "{node.patroni.url}"
user = "drill"
password = "${{REST_PASSWORD}}"
commands = {{{
                ", ".join(
                    f"{act} = {json.dumps(dict(commands).get(act) or self.command(node.name, act))}" for act in OFFERED
                )
            }}}
"""
            for node in made.cluster.nodes
        )
        self.profile.write_text(f"""
[deployment]
name = "acme-staging"
provider = "attached"
disposable = {str(disposable).lower()}
[postgresql]
dsn = "${{OBSERVER_DSN}}"
system_identifier = "{identifier or self.identifier}"
[objects]
endpoint = "{made.objects.endpoint}"
bucket = "{made.objects.bucket}"
access_key = "${{ACCESS_KEY}}"
secret_key = "${{SECRET_KEY}}"
admin_access_key = "${{OPERATOR_KEY}}"
admin_secret_key = "${{OPERATOR_SECRET}}"
[configuration]
file = "{made.environment_file}"
[services]
{services}
[transaction]
service = "web"
steps = "steps.toml"
variables = {{api_key = "${{API_KEY}}"}}
[queries]
references = "{ROOT}/fixtures/refapp/references.sql"
jobs = "{ROOT}/fixtures/refapp/jobs.sql"
[cluster]
configure = {str(configure).lower()}
dcs = ["http://127.0.0.1:{made.cluster.etcd.port}"]
[cluster.commands]
freeze_dcs = {json.dumps(self.command("cluster", "freeze_dcs"))}
thaw_dcs = {json.dumps(self.command("cluster", "thaw_dcs"))}
[load]
interval = "200ms"
after = "500ms"
{nodes}""")

    def environment(self):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PG"))}
        return inherited | self.secrets | {"COLUMNS": "200", "TMPDIR": str(self.place / "tmp")}

    def argv(self, *words):
        where = [f"--work-directory={self.place / 'work'}", f"--runs-directory={self.place / 'runs'}"]
        return [sys.executable, "-m", "pytest", *words, *where, "-p", "no:cacheprovider", "-rs",
                "--profile", str(self.profile)]  # fmt: skip

    def drill(self, chosen, *more):
        return self.run(self.argv("drills", "--destroy", "acme-staging", "-k", chosen, *more))

    def run(self, argv):
        """The exit code and everything written to the terminal."""
        done = subprocess.run(argv, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout + done.stderr

    def arm(self):
        argv = [sys.executable, "-m", "fixtures", "arm", "--profile", str(self.profile), "--name", "acme-staging"]
        code, output = self.run(argv)
        assert code == 0, output

    def evidence(self):
        """Of the last run."""
        return json.loads(max((self.place / "runs").glob("*/evidence.json")).read_text())

    def attach(self, directory):
        """The same cluster, in this process."""
        return AttachedClusterDeployment(
            run=f"run-{directory.name}", root=self.place / "work", others_allowed=False,
            profile=load_profile(self.profile, self.secrets), directory=directory / "attached",
            tools=self.made.database.tools, processes=self.made.processes, redactor=Redactor(),
        )  # fmt: skip

    def words(self):
        return sorted((self.place / "work" / "kept").glob("*/*/MEND.txt"))

    def interrupted(self, number):
        """End a run by a signal while the leader is frozen; its exit code."""
        self.arm()
        output = self.place / "interrupted.out"
        with output.open("wb") as file:
            popen = subprocess.Popen(
                self.argv("drills", "--destroy", "acme-staging", "-k", "primary_frozen"), cwd=ROOT,
                env=self.environment(), stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.asked.clear()
        try:
            wait_until(
                lambda: popen.poll() is not None or any(what == "freeze" for _, what in self.asked), seconds=60,
                interval=0.05, what="the strike",
            )  # fmt: skip
            assert popen.poll() is None, output.read_text()
            popen.send_signal(number)
            return popen.wait(90), output.read_text()
        finally:
            popen.kill()
            popen.wait()

    def await_whole(self):
        self.made.cluster.await_redundant()


@pytest.fixture(scope="module")
def operator(tmp_path_factory):
    clock, redactor = Clock.start(), Redactor()
    workspace = open_workspace(tmp_path_factory.mktemp("c"), f"cluster-{os.getpid()}", clock=clock, redactor=redactor)
    made = None
    try:
        profile = load_profile(DEFAULT_PROFILE, given={"deployment": {"provider": "high-availability"}})
        ground = find_tools(workspace, profile)
        made = HighAvailabilityDeployment(
            timing=FAST, copy_seconds=1, profile=profile, sizes=parse_scale("documents=4,database=64KiB"),
            directory=workspace.directory / "deployment", tools=ground.tools, unprivileged=ground.unprivileged,
            processes=workspace.processes, redactor=redactor,
        )  # fmt: skip
        made.spin_up({})
        made.seed(lambda *_: None)
        operator = Operator(made, tmp_path_factory.mktemp("theirs"))
        try:
            yield operator
        finally:
            operator.ended.set()
            operator.server.shutdown()
            operator.server.server_close()
    finally:
        if made is not None:
            made.strike_everything()
        workspace.close()


def test_it_is_looked_at_through_its_leader_and_not_broken_below_level_destroy(operator):
    code, output = operator.run(operator.argv("checks", "-k", "services_are_live or restorable"))
    assert code == 0, output
    code, output = operator.run(operator.argv("drills", "-k", "switchover"))
    assert code == 4 and "no drill of those selected belongs to level observe" in output
    assert operator.asked == []


def test_without_the_interlocks_nothing_is_touched(operator):
    for changed, held in (
        ({"disposable": False}, "disposable"),
        ({"identifier": "7711256033320456140"}, "node node2: its system_identifier is"),
    ):
        operator.describe(**changed)
        with pytest.raises(UsageProblem, match=held):
            require_armed(
                Target(load_profile(operator.profile, operator.secrets), Redactor()), run="a", others_allowed=False
            )
    operator.describe()
    code, output = operator.drill("primary_killed")
    assert code == 4 and "marker in the database: none is there" in output, output
    assert operator.asked == []


def test_what_its_profile_offers_is_drilled_and_the_rest_is_not_tested(operator):
    operator.describe()
    operator.arm()
    code, output = operator.drill(f"{DRILLED} or primary_lost or (dcs_lost and failsafe)")
    drills = {drill["disaster"]: drill for drill in operator.evidence()["drills"]}
    assert set(drills) == {"primary_killed", "primary_frozen", "switchover"}
    # How long a busy machine has clients wait is not what is tried here.
    felt = [row["code"] for drill in drills.values() for row in drill["findings"] if row["severity"] == "failure"]
    assert set(felt) <= {"PLANNED-WORK-FELT"} and code == (1 if felt else 0), output
    assert "commands has no lose" in output and "failsafe_mode is False there" in output
    assert any(what == "kill" for _, what in operator.asked)
    # Nothing of the suite's is left, nor owed.
    assert not operator.words()
    with operator.made.database.connect() as connection:
        left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'enprivacy%'").fetchall()
    assert left == []
    # The operator's key id is the word "operator", which a page says of its own accord.
    secrets = [each for name, each in operator.secrets.items() if ":" not in each and name != "OPERATOR_KEY"]
    for path in (operator.place / "runs").rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert not any(secret.encode() in text for secret in secrets), path


@pytest.fixture
def attached(operator, tmp_path):
    """The cluster as the suite has it, in this process: each act is a command that really does something."""
    operator.describe(configure=True)
    operator.arm()
    there = operator.attach(tmp_path)
    there.spin_up({})
    there.cluster.read()
    yield there
    assert there.settle() == [] and not there.mending.owed
    assert there.left_running(schema="enprivacy_drill", prefixes=("none",)) == []


def test_whatever_is_done_is_seen_from_outside_and_mended(attached):
    cluster = attached.cluster
    leader = cluster.named(leader_of(cluster.members()).node)
    standby = next(node for node in cluster.nodes if node is not leader)
    with pytest.raises(HarnessError, match="not looked at just before"):
        leader.act(Act.FREEZE)
    cluster.mark()
    for node, act in ((leader, Act.CUT_CLIENTS), (leader, Act.CUT_STANDBYS), (standby, Act.CUT_DCS)):
        node.act(act)
        assert node.cuts() == {act} and f"{node.name} join" in attached.mending.owed
        node.act(Act.JOIN)
        assert not node.cuts() and not attached.mending.owed
    standby.act(Act.FREEZE_RECEIVER)
    standby.act(Act.THAW)
    standby.act(Act.KILL_POSTGRES)
    wait_until(lambda: standby.state()["server"] == "answers as a standby", seconds=30, interval=0.1, what="it")
    cluster.act(ClusterAct.FREEZE_DCS)
    assert cluster.store_state() == "frozen"
    cluster.act(ClusterAct.THAW_DCS)
    assert cluster.store_state() == "answers"


def test_settings_are_changed_where_that_is_allowed_and_put_back(operator, attached):
    now = attached.cluster.settings
    attached.cluster.configure(dataclasses.replace(now, failsafe_mode=True, maximum_lag_on_failover=4711))
    agent = operator.made.cluster.nodes[0].patroni
    assert (agent.configuration()["failsafe_mode"], agent.configuration()["maximum_lag_on_failover"]) == (True, 4711)
    assert attached.mending.file is not None and '"failsafe_mode": false' in attached.mending.file.read_text()
    assert attached.settle() == [] and attached.mending.file is None
    assert (agent.configuration()["failsafe_mode"], attached.cluster.settings) == (False, now)


def test_a_command_that_does_nothing_is_no_strike(operator, attached, monkeypatch, tmp_path):
    monkeypatch.setattr(seen_from_outside, "SEEN_SECONDS", 1)
    operator.describe(commands={act: ["true"] for act in ("kill", "freeze", "freeze_receiver", "cut_standbys")})
    idle = operator.attach(tmp_path / "idle")
    idle.cluster.read()
    (one, *_) = idle.cluster.nodes
    monkeypatch.setattr(idle.cluster, "_may_strike", True)
    for act in (Act.KILL, Act.FREEZE, Act.FREEZE_RECEIVER):
        with pytest.raises(HarnessError, match=f"{act} to be seen at {one.name}"):
            one.act(act)
    one.act(Act.CUT_STANDBYS)
    assert not one.cuts()
    # What was tried is owed all the same: nobody knows what the command did.
    assert set(idle.mending.owed) == {f"{one.name} {act}" for act in ("start", "thaw", "join")}
    assert idle.mending.mend() == []
    idle.mending.close()


def test_what_was_frozen_is_thawed_when_the_run_is_asked_to_end(operator):
    operator.describe()
    code, output = operator.interrupted(signal.SIGTERM)
    assert code != 0, output
    assert operator.asked[-1][1] == "thaw", output
    operator.await_whole()
    assert not operator.words()


def test_after_sigkill_word_is_left_of_the_command_that_mends(operator):
    operator.describe()
    operator.interrupted(signal.SIGKILL)
    (word,) = operator.words()
    (frozen,) = (whom for whom, what in operator.asked if what == "freeze")
    line = next(line for line in word.read_text().splitlines() if line.strip().endswith(f"{frozen} thaw"))
    subprocess.run(line, shell=True, check=True, cwd="/")
    operator.await_whole()

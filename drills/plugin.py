"""The pytest plugin of this room: prepares the machine once drills were selected, and hands each test its drill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from drills.engine import Drill
from drills.keys import KeyPair, key_pair
from drills.record import Record
from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import Scenario
from fixtures.network import require_free_ports
from fixtures.plugin import OBJECTIVES, PROFILE, SIZES, work_root
from fixtures.postgres_tools import PostgresTools, Unprivileged, find_postgres, find_unprivileged
from fixtures.processes import tail
from fixtures.profile import Profile
from fixtures.providers.embedded.deployment import EmbeddedDeployment
from fixtures.refapp.scales import Sizes
from fixtures.tools import find_rclone
from fixtures.workspace import Workspace, clear_abandoned, open_workspace, require_disk
from reports.records import RUN_NAME, HarnessError, UsageProblem

# A cluster, its write-ahead log and a copy of it for the controls, before any data.
EMPTY_DEPLOYMENT_BYTES: Final = 300 * 2**20
# The data live in the cluster, in its log, in the dump, restored, and copied for the controls.
COPIES: Final = 5


@dataclasses.dataclass(kw_only=True)
class Ground:
    """What every drill of this session stands on: the work directory, and the programs found."""

    workspace: Workspace
    tools: PostgresTools
    unprivileged: Unprivileged
    keys: KeyPair


GROUND: Final = pytest.StashKey[Ground]()
WORKSPACE: Final = pytest.StashKey[Workspace]()


def scenarios() -> list[Scenario]:
    """Every scenario of the suite."""
    return [
        Scenario(
            architecture="single-node",
            database=database_methods()["pg_dump"],
            objects=object_methods()["rclone"],
            configuration=configuration_methods()["age"],
            disaster=all_disasters()["total_loss"],
        )
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One drill for each scenario, under its id."""
    if "scenario" in metafunc.fixturenames:
        metafunc.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.id)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to measure several drills at a time."""
    if config.pluginmanager.has_plugin(RUN_NAME) and config.getoption("numprocesses", None):
        raise pytest.UsageError("option -n: drills measure, so they run one at a time. Remedy: leave -n out")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first drill: clear what dead runs left, and see that the machine has all a drill needs."""
    config = session.config
    if not any("drill" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    record: Record | None = config.pluginmanager.get_plugin(RUN_NAME)
    if record is None:
        return  # a session that only lists or plans
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    try:
        root = work_root(config)
        for report in clear_abandoned(root):
            if reporter:
                ended = ", ".join(report["ended"]) or "no process"
                reporter.write_line(
                    f"cleared what run {report['run']} left: {ended}; {report['removed'] or 'no directory'}"
                )
        profile, sizes = config.stash[PROFILE], config.stash[SIZES]
        require_disk(root, profile.free_disk + EMPTY_DEPLOYMENT_BYTES + COPIES * sizes.reckoned_bytes)
        require_free_ports(profile.named_ports())
        find_rclone()
        keys = key_pair(profile)
        workspace = open_workspace(root, record.run_id, clock=record.clock, redactor=record.redactor)
        config.stash[WORKSPACE] = workspace
        tools = find_postgres(workspace.processes, profile.postgres_directory)
        unprivileged = find_unprivileged(workspace.processes, tools)
        config.stash[GROUND] = Ground(workspace=workspace, tools=tools, unprivileged=unprivileged, keys=keys)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    except HarnessError as problem:
        pytest.exit(str(problem), returncode=pytest.ExitCode.INTERNAL_ERROR)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Leave nothing of a session that ended before its fixtures were set up; after their teardown there is nothing."""
    try:
        return (yield)
    finally:
        _close(session.config)


def _close(config: pytest.Config) -> None:
    """End every process of the run and remove its work directory. Does nothing the second time."""
    if workspace := config.stash.get(WORKSPACE, None):
        del config.stash[WORKSPACE]
        workspace.close()


@pytest.fixture(scope="session")
def ground(pytestconfig: pytest.Config) -> Iterator[Ground]:
    """What every drill stands on, gone once the last has been torn down, also where an interrupt ended it."""
    yield pytestconfig.stash[GROUND]
    _close(pytestconfig)


@pytest.fixture
def drill(scenario: Scenario, run: Record, ground: Ground, pytestconfig: pytest.Config) -> Iterator[Drill]:
    """The drill of a scenario on a deployment of its own, ended whatever happens."""
    profile: Profile = pytestconfig.stash[PROFILE]
    sizes: Sizes = pytestconfig.stash[SIZES]
    directory = ground.workspace.directory / scenario.id
    directory.mkdir()
    deployment = EmbeddedDeployment(
        profile=profile,
        sizes=sizes,
        directory=directory / "deployment",
        tools=ground.tools,
        unprivileged=ground.unprivileged,
        processes=ground.workspace.processes,
        redactor=run.redactor,
    )
    drill = Drill(
        scenario=scenario,
        deployment=deployment,
        profile=profile,
        record=run,
        directory=directory,
        keys=ground.keys,
        objectives=pytestconfig.stash[OBJECTIVES],
        scale=dataclasses.asdict(sizes),
        progress=_progress(pytestconfig),
    )
    try:
        yield drill
    finally:
        drill.end()
        if not drill.passed:
            keep_logs(ground.workspace, run, scenario.id)
        deployment.strike_everything()


def keep_logs(workspace: Workspace, record: Record, drill: str) -> None:
    """Keep the end of each process's output beside the evidence, for whoever has to find out why a drill failed."""
    kept = record.drill_directory(drill) / "logs"
    kept.mkdir(exist_ok=True)
    for log in sorted(workspace.processes.logs.iterdir()):
        if text := tail(log, record.redactor):
            (kept / log.name).write_text(text + "\n", "utf-8")


def _progress(config: pytest.Config) -> Callable[[str, int, int], None]:
    """Shows long work on a terminal; says nothing with -q, in CI, or where the output goes to a file."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None or config.option.verbose < 0 or not reporter.isatty:
        return lambda what, done, of: None

    def show(what: str, done: int, of: int) -> None:
        with capture.global_and_fixture_disabled():
            reporter.rewrite(f"  {what} {done:,} of {of:,}", erase=True)

    return show

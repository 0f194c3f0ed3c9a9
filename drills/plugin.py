"""The pytest plugin of this room: prepares the machine once drills were selected, and hands each test its drill."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from drills.contract import Means, NeedsMeans, RestoresBeside
from drills.engine import Drill
from drills.keys import KeyPair, key_pair
from drills.plan import plan
from drills.record import Record
from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import Scenario, choose, every_scenario
from drills.site import open_site
from fixtures.network import require_free_ports
from fixtures.plugin import OBJECTIVES, PROFILE, SIZES, work_root
from fixtures.postgres_tools import PostgresTools, Unprivileged, find_postgres, find_unprivileged
from fixtures.processes import tail
from fixtures.providers.embedded.deployment import EmbeddedDeployment
from fixtures.providers.embedded.object_server import KEEPS
from fixtures.tools import find_rclone
from fixtures.workspace import Workspace, clear_abandoned, open_workspace, require_disk
from reports.records import RUN_NAME, HarnessError, UsageProblem

# A cluster, its write-ahead log and a copy of it for the controls, before any data.
EMPTY_DEPLOYMENT_BYTES: Final = 300 * 2**20
# The data live in the cluster, in its log, in the dump, restored, and copied for the controls.
COPIES: Final = 5


@dataclasses.dataclass(kw_only=True)
class Ground:
    """What every drill of this session stands on: the work directory, and the programs found.

    ``drills`` counts those begun.
    """

    workspace: Workspace
    tools: PostgresTools
    unprivileged: Unprivileged
    keys: KeyPair
    drills: int = 0


GROUND: Final = pytest.StashKey[Ground]()
WORKSPACE: Final = pytest.StashKey[Workspace]()
SEVERAL: Final = pytest.StashKey[bool]()
PROVER: Final = pytest.StashKey[str]()


def scenarios(architecture: str) -> list[Scenario]:
    """Every scenario of the suite."""
    return every_scenario(architecture, database_methods(), object_methods(), configuration_methods(), all_disasters())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options of this room."""
    parser.getgroup("drills", "drills: what strikes, and how it was backed up").addoption(
        "--matrix",
        choices=("sample", "pairwise", "full"),
        default="sample",
        help="which of the selected scenarios to drill: as few as bring in every method and every disaster, as few as"
        " bring in every pair of them, or all (default: %(default)s)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One drill for each scenario, under its id, with the names of its methods and its disaster as markers."""
    if "scenario" in metafunc.fixturenames:
        found = scenarios(metafunc.config.stash[PROFILE].architecture)
        marked = [
            pytest.param(each, id=each.id, marks=[getattr(pytest.mark, name) for name in each.parts.values()])
            for each in found
        ]
        metafunc.parametrize("scenario", marked)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to measure several drills at a time; make known the markers that scenarios bear."""
    if config.pluginmanager.has_plugin(RUN_NAME) and config.getoption("numprocesses", None):
        raise pytest.UsageError("option -n: drills measure, so they run one at a time. Remedy: leave -n out")
    for kind, offered in (
        ("database method", database_methods()),
        ("object method", object_methods()),
        ("configuration method", configuration_methods()),
        ("disaster", all_disasters()),
    ):
        for name in offered:
            config.addinivalue_line("markers", f"{name}: drills with this {kind}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the drills that were selected keep the sample; first see that the machine has all that they need."""
    drills = [item for item in items if "scenario" in getattr(item, "fixturenames", ())]
    if not drills:
        return
    record: Record | None = config.pluginmanager.get_plugin(RUN_NAME)
    if record is not None:  # else a session that only lists or plans
        _prepare(config, record, several=len(drills) > 1)
    absent = _unavailable(config, drills) if record is not None else {}
    able = [item for item in drills if not set(_scenario(item).parts.items()) & absent.keys()]
    chosen = {each.id for each in choose([_scenario(item) for item in able], config.getoption("matrix"))}
    kept = [item for item in able if _scenario(item).id in chosen]
    for part, reason in absent.items():
        # One drill stands for the method, so that the run shows it, and why it was not tested.
        item = next(item for item in drills if part in _scenario(item).parts.items())
        item.add_marker(pytest.mark.skip(reason=f"not tested: {reason}"))
        kept.append(item)
        assert record is not None
        record.journal.write("not_tested", what=f"{part[0]} method {part[1]}", reason=reason)
    scenarios_kept = [each for each in map(_scenario, able) if each.id in chosen]
    config.stash[SEVERAL] = len(scenarios_kept) > 1
    # One proof of the controls that depend on neither method nor disaster is enough: with a method that can restore
    # beside, if there is one, so that a cut backup is restored, too; and best where both stores come back.
    scenarios_kept.sort(key=lambda each: (not isinstance(each.database, RestoresBeside), not _restores_both(each)))
    config.stash[PROVER] = next((each.id for each in scenarios_kept), "")
    dropped = [item for item in drills if item not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def _restores_both(scenario: Scenario) -> bool:
    """Whether database and objects are restored, each into an empty place."""
    todo = plan(scenario.database, scenario.objects, scenario.disaster)
    return bool(todo.database) and todo.objects == "rebuild"


def _bytes_needed(config: pytest.Config, *, several: bool) -> int:
    """How much must be free for one drill."""
    copies = COPIES + (1 if several else 0)
    return config.stash[PROFILE].free_disk + EMPTY_DEPLOYMENT_BYTES + copies * config.stash[SIZES].reckoned_bytes


def _scenario(item: pytest.Item) -> Scenario:
    scenario: Scenario = item.callspec.params["scenario"]  # type: ignore[attr-defined]  # a Function, parametrised
    return scenario


def _unavailable(config: pytest.Config, drills: Sequence[pytest.Item]) -> dict[tuple[str, str], str]:
    """The methods among the selected drills that cannot run here, by kind and name, with the reason."""
    ground, profile = config.stash[GROUND], config.stash[PROFILE]
    means = Means(
        tools=ground.tools,
        processes=ground.workspace.processes,
        commands=profile.commands,
        versioned_bucket="versions" in KEEPS,
    )
    methods = {
        (kind, method.name): method
        for item in drills
        for kind, method in (
            ("database", _scenario(item).database),
            ("objects", _scenario(item).objects),
            ("configuration", _scenario(item).configuration),
        )
    }
    reasons = {part: method.unavailable(means) for part, method in methods.items() if isinstance(method, NeedsMeans)}
    return {part: reason for part, reason in reasons.items() if reason}


def _prepare(config: pytest.Config, record: Record, *, several: bool) -> None:
    """Before the first drill: clear what dead runs left, and see that the machine has all a drill needs."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    try:
        root = work_root(config)
        for report in clear_abandoned(root):
            if reporter:
                ended = ", ".join(report["ended"]) or "no process"
                reporter.write_line(
                    f"cleared what run {report['run']} left: {ended}; {report['removed'] or 'no directory'}"
                )
        profile = config.stash[PROFILE]
        require_disk(root, _bytes_needed(config, several=several))
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


@pytest.fixture(scope="session")
def deployment(run: Record, ground: Ground, pytestconfig: pytest.Config) -> EmbeddedDeployment:
    """The deployment that every drill of the session spins up, destroys and restores."""
    return EmbeddedDeployment(
        profile=pytestconfig.stash[PROFILE],
        sizes=pytestconfig.stash[SIZES],
        directory=ground.workspace.directory / "deployment",
        tools=ground.tools,
        unprivileged=ground.unprivileged,
        processes=ground.workspace.processes,
        redactor=run.redactor,
        keeps_template=pytestconfig.stash[SEVERAL],
    )


@pytest.fixture
def drill(
    scenario: Scenario, run: Record, ground: Ground, deployment: EmbeddedDeployment, pytestconfig: pytest.Config
) -> Iterator[Drill]:
    """The drill of a scenario, ended whatever happens, with nothing of it left."""
    directory = ground.workspace.directory / scenario.id
    directory.mkdir()
    site = open_site(
        scenario=scenario,
        deployment=deployment,
        profile=pytestconfig.stash[PROFILE],
        record=run,
        keys=ground.keys,
        directory=directory,
        number=ground.drills,
    )
    ground.drills += 1
    drill = Drill(
        site,
        objectives=pytestconfig.stash[OBJECTIVES],
        scale=dataclasses.asdict(pytestconfig.stash[SIZES]),
        every_control=pytestconfig.stash[PROVER] == scenario.id,
        progress=_progress(pytestconfig),
    )
    try:
        yield drill
    finally:
        drill.end()
        if not drill.passed:
            keep_logs(ground.workspace, run, scenario.id)
        deployment.put_away(directory / "deployment")
        # Removing thousands of files would slow the next drill down, which measures; the end of the run removes them.
        if shutil.disk_usage(directory).free < 2 * _bytes_needed(pytestconfig, several=True):
            shutil.rmtree(directory, ignore_errors=True)


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

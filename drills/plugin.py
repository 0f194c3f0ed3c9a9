"""The pytest plugin of this room: chooses among the scenarios that were selected, and hands each test its drill."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from drills.contract import Means, NeedsMeans, RestoresBeside
from drills.engine import Drill
from drills.keys import KeyPair, key_pair
from drills.plan import plan
from drills.progress import Estimate
from drills.record import Record
from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import Scenario, choose, every_scenario
from drills.set_beside import make_set_beside
from drills.shadow import Shadow
from drills.shadow_opening import open_shadow
from drills.site import open_site
from drills.suits import unsuited_parts
from fixtures.backup_set import BackupPlaces
from fixtures.deployment import Deployment, OwnDeployment
from fixtures.ground import Ground
from fixtures.plugin import (
    GROUND,
    LEVEL,
    OBJECTIVES,
    PROFILE,
    SIZES,
    bytes_needed,
    make_attached,
    make_deployment,
    make_destroyable,
)
from fixtures.processes import tail
from fixtures.providers.absent import absent_provider
from fixtures.providers.attached.destroyable import DestroyableDeployment
from fixtures.providers.object_server import KEEPS
from fixtures.workspace import Workspace
from reports.records import RUN_NAME, HarnessError, UsageProblem

NO_RESTORE: Final = (
    "cluster.nodes is for failover drills; to restore into its leader, name that as postgresql.admin_dsn in a profile"
    " without cluster.nodes"
)
THEIRS: Final = pytest.StashKey[DestroyableDeployment]()
KEYS: Final = pytest.StashKey[KeyPair]()
BEGUN: Final = pytest.StashKey[Iterator[int]]()
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
    """Of the drills that were selected keep the sample. By now the machine was seen to have all that they need."""
    record: Record | None = config.pluginmanager.get_plugin(RUN_NAME)
    drills = _of_level(config, items, record)
    if not drills:
        return
    if record is not None and not config.stash[PROFILE].own:
        if config.stash[PROFILE].nodes is not None:
            _stand_in_for(drills[0], "restoring a backup into somebody else's cluster", NO_RESTORE, record)
            _drop(config, items, drills[1:])
            return
        _require_destroyable(config, record)
    if record is not None:  # else a session that only lists or plans
        config.stash[BEGUN] = itertools.count()
        try:
            config.stash[KEYS] = key_pair(config.stash[PROFILE])
            reason = absent_provider(config.stash[PROFILE], config.stash[GROUND])
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from None
        if reason:
            _stand_in_for(drills[0], f"provider {config.stash[PROFILE].provider}", reason, record)
            _drop(config, items, drills[1:])
            return
    absent = _unavailable(config, drills) if record is not None else {}
    absent |= unsuited_parts(config.stash[PROFILE], map(_scenario, drills))
    able = [item for item in drills if not set(_scenario(item).parts.items()) & absent.keys()]
    chosen = {each.id for each in choose([_scenario(item) for item in able], config.getoption("matrix"))}
    kept = [item for item in able if _scenario(item).id in chosen]
    for part, reason in absent.items():
        # One drill stands for the method, so that the run shows it, and why it was not tested.
        item = next(item for item in drills if part in _scenario(item).parts.items())
        kept.append(item)
        if record is not None:
            what = f"{part[0]} {part[1]}" if part[0] == "disaster" else f"{part[0]} method {part[1]}"
            _stand_in_for(item, what, reason, record)
    scenarios_kept = [each for each in map(_scenario, able) if each.id in chosen]
    config.stash[SEVERAL] = len(scenarios_kept) > 1
    # One proof of the controls that depend on neither method nor disaster is enough: with a method that can restore
    # beside, if there is one, so that a cut backup is restored, too; and best where both stores come back.
    scenarios_kept.sort(key=lambda each: (not isinstance(each.database, RestoresBeside), not _restores_both(each)))
    config.stash[PROVER] = next((each.id for each in scenarios_kept), "")
    _drop(config, items, [item for item in drills if item not in kept])


def _stand_in_for(item: pytest.Item, what: str, reason: str, record: Record) -> None:
    """Let one drill show that something cannot be tested here, and why."""
    item.add_marker(pytest.mark.skip(reason=f"not tested: {reason}"))
    record.journal.write("not_tested", what=what, reason=reason)


def _drop(config: pytest.Config, items: list[pytest.Item], dropped: Sequence[pytest.Item]) -> None:
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def _of_level(config: pytest.Config, items: list[pytest.Item], record: Record | None) -> list[pytest.Item]:
    """Keep of the drills those of the level in force; hand back those that destroy, of which a sample is drawn.

    Raises:
        pytest.UsageError: nothing but drills was selected, and the level allows for none of them.
    """
    level, profile = config.stash[LEVEL], config.stash[PROFILE]
    drills = [item for item in items if "scenario" in getattr(item, "fixturenames", ())]
    shadows = [item for item in items if "shadow" in getattr(item, "fixturenames", ())]
    if not drills and not shadows:
        return []
    others = len(items) - len(drills) - len(shadows)
    left_out = {"observe": [*drills, *shadows], "shadow": drills, "destroy": shadows}[level]
    if len(left_out) == len(drills) + len(shadows) and not others:
        raise pytest.UsageError(
            f"profile {profile.path}, deployment {profile.name}: no drill of those selected belongs to level {level}."
            f" Remedy: --level shadow restores its backup into a sandbox; --destroy {profile.name} destroys it and"
            " restores it; pytest checks --profile … looks at it"
        )
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if level == "observe" and record is not None and left_out:
        reason = "the deployment is only observed; see --level shadow and --destroy"
        record.journal.write("not_tested", what="restoring a backup", reason=reason)
    return drills if level == "destroy" else []


def _require_destroyable(config: pytest.Config, record: Record) -> None:
    """See, before anything is touched, that what somebody else runs may be destroyed, and can be brought back."""
    try:
        require_lasting(config.getoption("work_directory") and config.stash[GROUND].workspace.directory)
        theirs = make_destroyable(config, record.redactor, record.run_id)
        theirs.require_room(config.stash[GROUND].workspace.directory)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    config.stash[THEIRS] = theirs


def require_lasting(place: Path | None) -> None:
    """See that the only copy of somebody's data does not lie where a restart, or tidying up, may remove it.

    Raises:
        UsageProblem: no place was named, or one below the temporary directory.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    if place is None or temporary in place.resolve().parents:
        raise UsageProblem(
            "option --work-directory, where the backup of what is destroyed is kept",
            seen=f"{place or 'not given'}: what lies below {temporary} may be gone after a restart."
            " Nothing was touched",
            remedy="name a directory on a disk that lasts: --work-directory DIR",
        )


def _restores_both(scenario: Scenario) -> bool:
    """Whether database and objects are restored, each into an empty place."""
    todo = plan(scenario.database, scenario.objects, scenario.disaster)
    return bool(todo.database) and todo.objects == "rebuild"


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
        server_apart=profile.provider == "containers",
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


@pytest.fixture(scope="session")
def deployment(run: Record, ground: Ground, pytestconfig: pytest.Config) -> Iterator[OwnDeployment]:  # noqa: ARG001 - stands on it
    """The deployment that every drill of the session destroys and restores: the suite's own, or one that is armed."""
    theirs = pytestconfig.stash.get(THEIRS, None)
    if theirs is None:
        yield make_deployment(pytestconfig, run.redactor, "deployment", keeps_template=pytestconfig.stash[SEVERAL])
        return
    yield theirs
    if problems := theirs.disarm():
        raise HarnessError(f"disarming {theirs.name}", seen="; ".join(problems), remedy="python -m fixtures disarm")


@pytest.fixture(scope="module")
def backup_maker(run: Record, pytestconfig: pytest.Config) -> Callable[[Deployment, Path], BackupPlaces]:
    """Makes a backup set of a deployment that is up, for the checks of another room, which may not import this one."""
    profile = pytestconfig.stash[PROFILE]

    def make(deployment: Deployment, directory: Path) -> BackupPlaces:
        keys = key_pair(profile)
        for secret in (keys.identity, keys.passphrase):
            run.redactor.learn(secret)
        return make_set_beside(
            deployment, directory, name=f"{run.run_id}-checks", profile=profile, keys=keys, clock=run.clock
        )

    return make


@pytest.fixture
def drill(
    scenario: Scenario, run: Record, ground: Ground, deployment: OwnDeployment, pytestconfig: pytest.Config
) -> Iterator[Drill]:
    """The drill of a scenario, ended whatever happens, with nothing of it left."""
    directory, begun = ground.workspace.directory / scenario.id, pytestconfig.stash[BEGUN]
    directory.mkdir()
    site = open_site(
        scenario=scenario,
        deployment=deployment,
        profile=pytestconfig.stash[PROFILE],
        record=run,
        keys=pytestconfig.stash[KEYS],
        directory=directory,
        number=next(begun),
    )
    drill = Drill(
        site,
        objectives=pytestconfig.stash[OBJECTIVES],
        scale=dataclasses.asdict(pytestconfig.stash[SIZES]),
        every_control=pytestconfig.stash[PROVER] == scenario.id,
        progress=show_progress(pytestconfig),
        told=told_always(pytestconfig),
    )
    try:
        yield drill
    finally:
        drill.end()
        if not drill.passed:
            keep_logs(ground.workspace, run, scenario.id)
        deployment.put_away(directory / "deployment")
        # Removing thousands of files would slow the next drill down, which measures; the end of the run removes them.
        if shutil.disk_usage(directory).free < 2 * bytes_needed(pytestconfig, several=True):
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def shadow(run: Record, ground: Ground, pytestconfig: pytest.Config) -> Iterator[Shadow]:
    """The shadow drill of the deployment that the profile attaches, or of one of the suite's own; it is only read."""
    directory, profile = ground.workspace.directory / "shadow", pytestconfig.stash[PROFILE]
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        own = None
        if profile.own:
            own = make_deployment(pytestconfig, run.redactor, "deployment")
            stack.callback(own.put_away, directory / "deployment")
            own.spin_up({})
            own.seed(show_progress(pytestconfig))
        try:
            site = open_shadow(
                own or make_attached(pytestconfig, run.redactor, directory),
                reference=own if profile.attached is None else None,
                profile=profile,
                record=run,
                ground=ground,
                directory=directory,
                progress=show_progress(pytestconfig),
            )
            drill = Shadow(site, objectives=pytestconfig.stash[OBJECTIVES])
        except UsageProblem as problem:
            # Of the deployment nothing was found that could be drilled.
            pytest.exit(run.redactor.clean(str(problem)), returncode=pytest.ExitCode.USAGE_ERROR)
        stack.callback(drill.end)
        try:
            yield drill
        finally:
            if not drill.passed:
                keep_logs(ground.workspace, run, site.id)


def keep_logs(workspace: Workspace, record: Record, drill: str) -> None:
    """Keep the end of each process's output beside the evidence, for whoever has to find out why a drill failed."""
    kept = record.drill_directory(drill) / "logs"
    kept.mkdir(exist_ok=True)
    for log in sorted(workspace.processes.logs.iterdir()):
        if text := tail(log, record.redactor):
            (kept / log.name).write_text(text + "\n", "utf-8")


def told_always(config: pytest.Config) -> Callable[[str], None]:
    """Writes a line on the terminal, also with -q: what is about to be destroyed is never kept back."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)

    return tell


def show_progress(config: pytest.Config) -> Callable[[str, int, int], None]:
    """Shows long work on a terminal; says nothing with -q, in CI, or where the output goes to a file."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None or config.option.verbose < 0 or not reporter.isatty:
        return lambda what, done, of: None

    estimate = Estimate()

    def show(what: str, done: int, of: int) -> None:
        left = estimate.told(what, done, of)
        with capture.global_and_fixture_disabled():
            reporter.rewrite(f"  {what} {done:,} of {of:,}{left}", erase=True)

    return show

"""The pytest plugin of the gate: its option, what it selects, and the one deployment that all of it looks at."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from checks.conformance.subject import Subject
from drills.gate.gate import Gate, opened
from drills.gate.prerequisites import as_record
from drills.plugin import keep_logs, show_progress
from drills.record import Record
from drills.shadow import Shadow
from drills.shadow_opening import open_shadow
from fixtures.backup_set import BackupPlaces
from fixtures.cluster_settings import HIGH_AVAILABILITY
from fixtures.deployment import Deployment
from fixtures.ground import Ground
from fixtures.objectives import BackupObjectives, Kept, backup_objectives
from fixtures.plugin import LEVEL, OBJECTIVES, PROFILE, bytes_needed, make_attached, make_deployment, work_root
from fixtures.profile import Profile
from fixtures.profile_probes.rows import missing
from reports.records import RUN_NAME, UsageProblem

PLACE: Final = Path("drills") / "test_gate.py"
EMBEDDED: Final = "embedded"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option."""
    parser.getgroup("gate", "gate: go or no-go before an upgrade").addoption(
        "--gate",
        action="store_true",
        help="decide go or no-go before an upgrade, and rehearse it on a restored copy: exit code 0 go, 1 no-go, 2"
        " could not decide. Selects what it needs, whatever else is named; writes gate.json",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Select the gate, and nothing else, before anybody asks what this session is about."""
    if config.getoption("gate"):
        if config.getoption("destroy") or config.getoption("level") == "observe":
            raise pytest.UsageError("option --gate: it restores into a sandbox and destroys nothing. Remedy: leave"
                                    " --destroy and --level out")  # fmt: skip
        config.args = [str(config.rootpath / PLACE)]
        config.option.level = "shadow"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the option the gate is not found among the drills."""
    ours = collection_path == config.rootpath / PLACE
    return True if ours and not config.getoption("gate") else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Without the option leave the gate out, where it is named; with it, tell what keeps it from deciding."""
    ours = [item for item in items if "gate" in getattr(item, "fixturenames", ())]
    if not config.getoption("gate"):
        if ours:
            items[:] = [item for item in items if item not in ours]
            config.hook.pytest_deselected(items=ours)
        return (yield)
    record: Record | None = config.pluginmanager.get_plugin(RUN_NAME)
    if record is None:
        return (yield)
    profile = config.stash[PROFILE]
    if profile.own and profile.provider != EMBEDDED:
        raise pytest.UsageError(f"option --gate: the provider is {profile.provider}. Remedy: attach the deployment"
                                ' (provider = "attached"), or leave the provider out')  # fmt: skip
    if profile.nodes is not None or (profile.architecture == HIGH_AVAILABILITY and profile.own):
        raise pytest.UsageError("option --gate: a shadow restore is of one server. Remedy: name the leader in a profile"
                                " without cluster.nodes")  # fmt: skip
    try:
        opened(record, profile, deployment=profile.name, stand_in=profile.attached is None,
               objectives=config.stash[OBJECTIVES], asked=_asked(config))  # fmt: skip
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    try:
        return (yield)
    except pytest.UsageError as problem:
        # A program or room that is missing here: no word about the deployment, so the gate stays undecided.
        said, _, remedy = str(problem).partition(". Remedy: ")
        row = missing("machine", record.redactor.clean(said), record.redactor.clean(remedy))
        record.journal.write("gate.prerequisite", **as_record(row))
        config.hook.pytest_deselected(items=[*items])
        items[:] = []
        return None


def _asked(config: pytest.Config) -> BackupObjectives:
    profile = config.stash[PROFILE]
    tier = config.getoption("targets") or profile.tier
    asked = backup_objectives(profile, rpo=config.stash[OBJECTIVES]["rpo"], tier=tier)
    if profile.backup_sets is None:
        asked = dataclasses.replace(asked, sets=Kept(least=None, source="the one set was made by the suite itself"))
    return asked


@pytest.fixture(scope="module")
def gate(
    run: Record, ground: Ground, pytestconfig: pytest.Config,
    backup_maker: Callable[[Deployment, Path], BackupPlaces],
) -> Iterator[Gate]:  # fmt: skip
    """The gate's deployment, the profile's or one of the suite's own, up and observed; ended with all its sandboxes."""
    assert pytestconfig.stash[LEVEL] == "shadow"
    profile, directory = pytestconfig.stash[PROFILE], ground.workspace.directory / "gate"
    directory.mkdir()
    progress = show_progress(pytestconfig)
    with contextlib.ExitStack() as stack:
        own = None
        if profile.attached is None:
            own = make_deployment(pytestconfig, run.redactor, "deployment")
            stack.callback(own.put_away, directory / "deployment")
            own.spin_up({})
            own.seed(progress)
        try:
            observed: Any = own or make_attached(pytestconfig, run.redactor, directory)
            run.journal.write(
                "conformance.opened", deployment=observed.name, architecture=observed.architecture,
                provider=observed.provider, stand_in=observed.stand_in, tools=dict(observed.versions()),
            )  # fmt: skip
            site = open_shadow(
                observed, reference=own, profile=profile, record=run, ground=ground, directory=directory,
                progress=progress,
            )  # fmt: skip
            shadow = Shadow(site, objectives=pytestconfig.stash[OBJECTIVES], goes_on=True)
        except UsageProblem as problem:
            row = missing("deployment", problem.seen, problem.remedy)
            run.journal.write("gate.prerequisite", **as_record(row))
            pytest.exit(run.redactor.clean(str(problem)), returncode=pytest.ExitCode.USAGE_ERROR)
        stack.callback(shadow.end)
        asked = _asked(pytestconfig)
        subject = Subject(
            deployment=observed, profile=profile, directory=directory, clock=run.clock, redactor=run.redactor,
            sets=functools.cache(lambda: _named(profile) or (backup_maker(own, directory) if own else None)),
            objectives=asked,
        )  # fmt: skip
        gate = Gate(
            subject=subject, shadow=shadow, profile=profile, record=run, ground=ground, root=work_root(pytestconfig),
            objectives=pytestconfig.stash[OBJECTIVES], asked=asked, needed=bytes_needed(pytestconfig, several=False),
        )  # fmt: skip
        stack.callback(gate.end)
        try:
            yield gate
        finally:
            if not shadow.passed or (gate.rehearsal is not None and not gate.rehearsal.passed):
                keep_logs(ground.workspace, run, site.id)


def _named(profile: Profile) -> BackupPlaces | None:
    """The operator's own backup sets, where the profile names them."""
    sets = profile.backup_sets
    if sets is None:
        return None
    return BackupPlaces(sets=sets, apart=profile.backup_sets_apart or sets.with_name(f"{sets.name}-apart"))

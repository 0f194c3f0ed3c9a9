"""The pytest plugin of this room: one test for each conformance check and each fault, on one deployment for all."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from checks.conformance.registry import every_check, every_fault
from checks.conformance.subject import Subject, behind_proxies
from fixtures.backup_set import BackupPlaces
from fixtures.cluster_settings import HIGH_AVAILABILITY
from fixtures.deployment import Deployment, Observed
from fixtures.ground import Ground, RunRecord
from fixtures.objectives import BackupObjectives, Kept, Objective, backup_objectives
from fixtures.plugin import OBJECTIVES, PROFILE, make_attached, make_deployment
from fixtures.profile import Profile
from reports.records import RUN_NAME, UsageProblem

# Why the deployments of these providers are not checked.
NOT_CHECKED: Final = {
    HIGH_AVAILABILITY: "checks break and replace each service by itself, and here clients find two of them at one door",
    "containers": "checks break what lies between services by listeners of 127.0.0.1, which containers do not reach",
    "compose": "nobody brings the compose file up for checks: bring it up yourself, and attach it",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check, and for each fault."""
    for name, registered in (("conformance", every_check), ("fault", every_fault)):
        if name in metafunc.fixturenames:
            found = registered()
            metafunc.parametrize(name, [pytest.param(each, id=each_id) for each_id, each in found.items()])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say which checks were not selected; plant no fault in a deployment that somebody else runs, and say that."""
    record: RunRecord | None = config.pluginmanager.get_plugin(RUN_NAME)
    chosen = sum("conformance" in getattr(item, "fixturenames", ()) for item in items)
    if record is not None and 0 < chosen < len(every_check()):
        what = f"{len(every_check()) - chosen} of {len(every_check())} conformance checks"
        record.journal.write("not_tested", what=what, reason="not selected on the command line")
    standing = [item for item in items if "subject" in getattr(item, "fixturenames", ())]
    provider = config.stash[PROFILE].provider
    if standing and (reason := NOT_CHECKED.get(provider, "")):
        standing[0].add_marker(pytest.mark.skip(reason=f"not tested: {reason}"))
        items[:] = [item for item in items if item not in standing[1:]]
        config.hook.pytest_deselected(items=standing[1:])
        if record is not None:
            record.journal.write("not_tested", what=f"conformance with the provider {provider}", reason=reason)
        return
    planted = [item for item in items if "fault" in getattr(item, "fixturenames", ())]
    if config.stash[PROFILE].attached is None or not planted:
        return
    items[:] = [item for item in items if item not in planted]
    config.hook.pytest_deselected(items=planted)
    if record is not None:
        what = f"the proof that the checks can fail, {len(planted)} faults"
        reason = "the deployment is only observed; pytest checks without a profile plants them in one of its own"
        record.journal.write("not_tested", what=what, reason=reason)


@pytest.fixture(scope="module")
def subject(
    run: RunRecord,
    ground: Ground,
    pytestconfig: pytest.Config,
    backup_maker: Callable[[Deployment, Path], BackupPlaces],
) -> Iterator[Subject]:
    """The deployment that the profile attaches, or one of the suite's own: up, filled, its services behind proxies."""
    directory = ground.workspace.directory / "checks"
    directory.mkdir()
    profile = pytestconfig.stash[PROFILE]
    if profile.attached is not None:
        observed = make_attached(pytestconfig, run.redactor, directory)
        try:
            _opened(run, observed)
        except UsageProblem as problem:
            pytest.exit(str(problem), returncode=pytest.ExitCode.USAGE_ERROR)
        yield Subject(
            deployment=observed,
            profile=profile,
            directory=directory,
            clock=run.clock,
            redactor=run.redactor,
            sets=lambda: _named(profile),
            objectives=_asked(pytestconfig),
        )
        return
    deployment = make_deployment(pytestconfig, run.redactor, "conformance")
    _opened(run, deployment)
    deployment.spin_up({})
    deployment.seed(lambda what, done, of: None)
    try:
        with behind_proxies(deployment, directory / "faults") as proxies:
            yield Subject(
                deployment=deployment,
                owner=deployment,
                profile=profile,
                directory=directory,
                clock=run.clock,
                redactor=run.redactor,
                proxies=proxies,
                switches=directory / "faults",
                sets=functools.cache(lambda: _named(profile) or backup_maker(deployment, directory)),
                objectives=_asked(pytestconfig),
            )
    finally:
        deployment.put_away(directory / "deployment")


def _opened(run: RunRecord, deployment: Observed) -> None:
    run.journal.write(
        "conformance.opened",
        deployment=deployment.name,
        architecture=deployment.architecture,
        provider=deployment.provider,
        stand_in=deployment.stand_in,
        tools=dict(deployment.versions()),
    )


def _named(profile: Profile) -> BackupPlaces | None:
    """The operator's own backup sets, where the profile names them."""
    sets = profile.backup_sets
    if sets is None:
        return None
    return BackupPlaces(sets=sets, apart=profile.backup_sets_apart or sets.with_name(f"{sets.name}-apart"))


def _asked(config: pytest.Config) -> BackupObjectives:
    """What is asked of the backups. A set that the suite has made for itself tells nothing of how many are kept."""
    profile = config.stash[PROFILE]
    tier = config.getoption("targets") or profile.tier
    asked = backup_objectives(profile, rpo=config.stash[OBJECTIVES]["rpo"], tier=tier)
    if profile.backup_sets is None:
        source = "the one set was made by the suite itself"
        unset = {name: Objective(target_ns=None, source=source) for name in asked.frequency}
        asked = dataclasses.replace(asked, sets=Kept(least=None, source=source), frequency=unset)
    return asked

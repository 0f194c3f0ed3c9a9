"""The pytest plugin of failover drills: one test for each disaster and its settings, on one cluster for all of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import pytest

from drills import ledger
from drills.failover import disasters
from drills.failover.attached.care import Care
from drills.failover.attached.plugin import FITTED
from drills.failover.contract import ClusterDisaster
from drills.failover.engine import Failover
from drills.failover.scenario import Outage, every_outage
from drills.failover.site import Before, open_failover_site
from drills.plugin import keep_logs, show_progress, told_always
from drills.record import Record
from fixtures.cluster import RedundantDeployment
from fixtures.cluster_settings import HIGH_AVAILABILITY
from fixtures.ground import Ground
from fixtures.offered import offered
from fixtures.plugin import OBJECTIVES, PROFILE, SIZES, make_deployment
from fixtures.providers.attached.redundant import AttachedClusterDeployment

BEFORE: Final = pytest.StashKey[Before]()


def all_cluster_disasters() -> dict[str, ClusterDisaster]:
    """Every disaster of a cluster, by name."""
    return offered(disasters, "DISASTER")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One drill for each outage, under its id, with the disaster's name as marker; none where there is no cluster."""
    if "failover" not in metafunc.fixturenames:
        return
    profile = metafunc.config.stash[PROFILE]
    found = every_outage(profile.architecture, all_cluster_disasters()) if _replicates(metafunc.config) else []
    marked = [pytest.param(each, id=each.id, marks=getattr(pytest.mark, each.disaster.name)) for each in found]
    metafunc.parametrize("outage", marked)


def _replicates(config: pytest.Config) -> bool:
    return config.stash[PROFILE].architecture == HIGH_AVAILABILITY


def pytest_configure(config: pytest.Config) -> None:
    """Make known the markers that failover drills bear."""
    for name in all_cluster_disasters():
        config.addinivalue_line("markers", f"{name}: failover drills with this disaster")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where there is no cluster there are no failover drills: the one empty item that stands for them goes."""
    if _replicates(config):
        return
    dropped = [item for item in items if "failover" in getattr(item, "fixturenames", ())]
    if dropped:
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)


@pytest.fixture(scope="module")
def cluster_deployment(
    run: Record, ground: Ground, their_cluster: AttachedClusterDeployment | None, pytestconfig: pytest.Config
) -> Iterator[Callable[..., RedundantDeployment]]:
    """The deployment that failover drills break, made at the first and made anew after one that did not pass.

    Somebody else's is never made anew: the next drill on it begins by seeing that it is well.
    """
    if their_cluster is not None:
        yield lambda **_: cast(RedundantDeployment, their_cluster)
        return
    kept: list[Any] = []

    def get(*, anew: bool = False) -> RedundantDeployment:
        while kept and anew:
            kept.pop().put_away(ground.workspace.directory / f"put-away-{run.clock.now()}")
        if not kept:
            deployment = make_deployment(pytestconfig, run.redactor, "cluster")
            kept.append(deployment)
            deployment.spin_up({})
            deployment.seed(show_progress(pytestconfig))
            ledger.prepare(deployment)
        return cast(RedundantDeployment, kept[0])

    yield get
    while kept:
        kept.pop().put_away(ground.workspace.directory / "put-away")


@pytest.fixture
def failover(
    outage: Outage, run: Record, ground: Ground, cluster_deployment: Callable[..., RedundantDeployment],
    their_cluster: AttachedClusterDeployment | None, pytestconfig: pytest.Config,
) -> Iterator[Failover]:  # fmt: skip
    """The failover drill of an outage, ended whatever happens."""
    before, fitted = pytestconfig.stash.setdefault(BEFORE, Before()), pytestconfig.stash.get(FITTED, {})
    outage = fitted.get(outage.id, outage)
    anew = their_cluster is None and (before.broken or (before.spoilt and not outage.variant.expects))
    if anew:
        before.orphaned = 0
    before.broken = True  # until a drill has passed on it: also where it could not even be made
    deployment = cluster_deployment(anew=anew)
    directory = ground.workspace.directory / outage.id
    directory.mkdir()
    site = open_failover_site(
        outage=outage, deployment=deployment, profile=pytestconfig.stash[PROFILE], record=run, directory=directory,
        before=before,
    )  # fmt: skip
    drill = Failover(
        site, objectives=pytestconfig.stash[OBJECTIVES], scale=dataclasses.asdict(pytestconfig.stash[SIZES])
    )
    with contextlib.closing(Care(their_cluster, told_always(pytestconfig))) as care:
        try:
            yield drill
        finally:
            care.mend()
            drill.end()
            before.broken, before.spoilt = not drill.passed, bool(outage.variant.expects)
            if not drill.passed:
                keep_logs(ground.workspace, run, outage.id)

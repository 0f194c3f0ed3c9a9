"""The pytest plugin of failover drills on somebody else's cluster: it hands its deployment to that of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

import pytest

from drills import ledger
from drills.failover.attached.offered import fitted, reason_against
from drills.failover.scenario import Outage
from drills.guarding import LEDGER_SCHEMA, UPLOADED
from drills.plugin import require_lasting, told_always
from drills.record import Record
from fixtures.cluster import RedundantDeployment
from fixtures.kept import KEPT, MEND
from fixtures.markers import read_out
from fixtures.plugin import GROUND, LEVEL, PROFILE
from fixtures.providers.attached.redundant import AttachedClusterDeployment
from reports.records import RUN_NAME, HarnessError, UsageProblem

THEIR_CLUSTER: Final = pytest.StashKey[AttachedClusterDeployment]()
# Each outage as it is drilled there, by its id.
FITTED: Final = pytest.StashKey[dict[str, Outage]]()
NO_NODES: Final = "the profile describes no cluster: name its nodes as cluster.nodes, as examples/attached-cluster.toml"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the failover drills that were selected, see which somebody else's cluster lets one do.

    Raises:
        pytest.UsageError: the level allows for none of what was selected, or an interlock holds.
    """
    drills = [item for item in items if "failover" in getattr(item, "fixturenames", ())]
    profile, record = config.stash[PROFILE], config.pluginmanager.get_plugin(RUN_NAME)
    if profile.own or not drills:
        return
    if config.stash[LEVEL] != "destroy":
        _leave_out(config, items, drills)
    elif record is not None:
        _choose(config, items, drills, record)


def _leave_out(config: pytest.Config, items: list[pytest.Item], drills: Sequence[pytest.Item]) -> None:
    profile = config.stash[PROFILE]
    items[:] = [item for item in items if item not in drills]
    config.hook.pytest_deselected(items=drills)
    if not items:
        raise pytest.UsageError(
            f"profile {profile.path}, deployment {profile.name}: no drill of those selected belongs to level"
            f" {config.stash[LEVEL]}. Remedy: --destroy {profile.name} breaks it and sees it mended; pytest checks"
            " --profile … looks at it"
        )


def _choose(config: pytest.Config, items: list[pytest.Item], drills: Sequence[pytest.Item], record: Record) -> None:
    profile = config.stash[PROFILE]
    if profile.nodes is None:
        _not_tested(drills[0], "failover drills", NO_NODES, record)
        items[:] = [item for item in items if item not in drills[1:]]
        config.hook.pytest_deselected(items=drills[1:])
        return
    try:
        ground = config.stash[GROUND]
        require_lasting(config.getoption("work_directory") and ground.workspace.directory)
        theirs = AttachedClusterDeployment(
            run=record.run_id, root=ground.workspace.directory.parent,
            others_allowed=config.getoption("allow_other_clients"), profile=profile,
            directory=ground.workspace.directory / "attached", tools=ground.tools,
            processes=ground.workspace.processes, redactor=record.redactor,
        )  # fmt: skip
        theirs.require()
        if theirs.cluster.agents:
            theirs.cluster.read()
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    config.stash[THEIR_CLUSTER], config.stash[FITTED] = theirs, {}
    for item in drills:
        outage = _outage(item)
        if reason := reason_against(outage, theirs):
            _not_tested(item, f"failover drill {outage.id}", reason, record)
        else:
            config.stash[FITTED][outage.id] = fitted(outage, theirs.cluster.settings)


def _not_tested(item: pytest.Item, what: str, reason: str, record: Record) -> None:
    item.add_marker(pytest.mark.skip(reason=f"not tested: {reason}"))
    record.journal.write("not_tested", what=what, reason=reason)


def _outage(item: pytest.Item) -> Outage:
    outage: Outage = item.callspec.params["outage"]  # type: ignore[attr-defined]  # a Function, parametrised
    return outage


@pytest.fixture(scope="module")
def their_cluster(run: Record, pytestconfig: pytest.Config) -> Iterator[AttachedClusterDeployment | None]:
    """The armed cluster, the marker used by this run, and at the end all that is the suite's removed; or none.

    Raises:
        HarnessError: something of the suite's could not be removed.
    """
    theirs = pytestconfig.stash.get(THEIR_CLUSTER, None)
    if theirs is None:
        yield None
        return
    tell = told_always(pytestconfig)
    seen = read_out(theirs.target, theirs.require())
    word = pytestconfig.stash[GROUND].workspace.directory.parent / KEPT / run.run_id / "failover" / MEND
    tell("will be broken node by node, and mended:")
    for line in [*seen.lines(), f"should this run not end, and left something broken: {word} says how to mend it"]:
        tell(run.redactor.clean(line))
    theirs.spin_up({})
    ledger.prepare(cast(RedundantDeployment, theirs))
    yield theirs
    run.journal.write(
        "not_tested", what=f"removing {UPLOADED}", reason="nobody told the suite how documents are deleted"
    )
    prefixes = (f"{ledger.PREFIX}/{run.run_id}-", ledger.probe_key(f"{run.run_id}-"))
    if problems := theirs.left_running(schema=LEDGER_SCHEMA, prefixes=prefixes):
        raise HarnessError(
            f"leaving {theirs.name} as it was", seen="; ".join(problems),
            remedy=f"drop schema {LEDGER_SCHEMA}, remove objects below {ledger.PREFIX}/, python -m fixtures disarm",
        )  # fmt: skip

"""Failover drills on somebody else's cluster: which of them its profile offers, and what is owed to it whatever comes.

The plugin of these drills hands its deployment and its care to the one of all failover drills.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

import pytest

from drills import ledger
from drills.failover.contract import NodeFault, ServiceFault, Variant
from drills.failover.scenario import Outage
from drills.guarding import ASKING_TO_END, LEDGER_SCHEMA, UPLOADED, interrupt
from drills.plugin import require_lasting, told_always
from drills.record import Record
from fixtures.cluster import USUAL_SETTINGS, ClusterAct, ClusterSettings, Part, RedundantDeployment
from fixtures.kept import KEPT, MEND
from fixtures.markers import read_out
from fixtures.plugin import GROUND, LEVEL, PROFILE
from fixtures.providers.attached.cluster import offers
from fixtures.providers.attached.redundant import AttachedClusterDeployment
from reports.records import RUN_NAME, HarnessError, UsageProblem

THEIR_CLUSTER: Final = pytest.StashKey[AttachedClusterDeployment]()
# Each outage as it is drilled there, by its id.
FITTED: Final = pytest.StashKey[dict[str, Outage]]()
NO_NODES: Final = "the profile describes no cluster: name its nodes as cluster.nodes, as examples/attached-cluster.toml"
RENEWS: Final = (
    "services are renewed in it, and an attached deployment's are its operator's: drill it on the suite's own"
)
NO_AGENTS: Final = (
    "none of cluster.nodes has patroni, its REST address, by which the timing and the settings in force are read"
)


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


def reason_against(outage: Outage, theirs: AttachedClusterDeployment) -> str:
    """Why a drill cannot be done there; empty text where it can."""
    cluster, disaster = theirs.cluster, outage.disaster
    if not cluster.agents:
        return NO_AGENTS
    if Part.SERVICES in disaster.needs and not isinstance(disaster, ServiceFault):
        return RENEWS
    service = disaster.service if isinstance(disaster, ServiceFault) else ""
    for need in sorted(disaster.needs):
        if why := theirs.lacks(need, service) if isinstance(need, Part) else offers(cluster, need):
            return why
    if isinstance(disaster, NodeFault) and disaster.paper == "noticed" and cluster.starts_again_seconds:
        return (
            f"primary_start_timeout is {cluster.starts_again_seconds} s: its agent starts the killed server again, and"
            " nobody else is to lead"
        )
    wanted, now = wanted_settings(outage.variant, cluster.settings), cluster.settings
    differs = [key for key, value in wanted.as_record().items() if value != now.as_record()[key]]
    if differs and (why := cluster.lacks(ClusterAct.CONFIGURE)):
        key = differs[0]
        return f"{key} is {now.as_record()[key]} there, and this drill is of {wanted.as_record()[key]}; {why}"
    return ""


def wanted_settings(variant: Variant, now: ClusterSettings) -> ClusterSettings:
    """Under which settings a drill is done there: the usual ones leave the operator his own limit of the lag."""
    if variant.settings != USUAL_SETTINGS:
        return variant.settings
    return dataclasses.replace(USUAL_SETTINGS, maximum_lag_on_failover=now.maximum_lag_on_failover)


def fitted(outage: Outage, now: ClusterSettings) -> Outage:
    """The outage under the settings that it has there."""
    wanted = wanted_settings(outage.variant, now)
    if wanted == outage.variant.settings:
        return outage  # disasters tell their variants apart by which object they are
    return dataclasses.replace(outage, variant=dataclasses.replace(outage.variant, settings=wanted))


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


class Care:
    """What one drill owes to somebody else's cluster; of one of the suite's own nothing.

    From the beginning on a signal that asks the run to end interrupts it, so that what was broken is mended first.
    """

    def __init__(self, theirs: AttachedClusterDeployment | None, tell: Callable[[str], None]) -> None:
        self._theirs, self._tell = theirs, tell
        self._signals: dict[signal.Signals, Any] = {}
        if theirs is not None:
            self._signals = {each: signal.signal(each, interrupt) for each in ASKING_TO_END
                             if signal.getsignal(each) != signal.SIG_IGN}  # fmt: skip

    def mend(self) -> None:
        """Mend what the drill has left broken, before anything else is ended. Only SIGKILL keeps it from that."""
        if self._theirs is None:
            return
        self._signals.setdefault(signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
        for problem in self._theirs.mending.mend():
            self._say(f"{self._theirs.name}: not mended yet: {problem}")

    def close(self) -> None:
        """See the cluster whole.

        Raises:
            HarnessError: it is not; where the word lies that says what to do.
        """
        if self._theirs is None:
            return
        problems, word = self._theirs.settle(), self._theirs.mending.file
        while self._signals:
            signal.signal(*self._signals.popitem())
        if problems:
            says = f"; {word} says by which commands that is done" if word else ""
            told = f"{self._theirs.name} is NOT MENDED{says}"
            self._say(told)
            raise HarnessError(told, seen="; ".join(problems), remedy="see the agents' logs")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            self._tell(line)

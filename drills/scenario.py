"""A scenario: which methods against which disaster on which architecture; and which of all of them a run drills."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from drills.contract import ConfigurationMethod, DatabaseMethod, Disaster, ObjectMethod, SpoilsBackup, TakesLong
from drills.plan import impossible, plan
from fixtures.cluster_settings import HIGH_AVAILABILITY

Matrix = Literal["sample", "pairwise", "full"]
# What the sample of a cluster strikes with: whatever else strikes a single node does the same to a cluster, which takes
# longer to make. Replication is no backup: each database method must bring a cluster back that is lost as a whole, and
# a wrong statement reaches every node.
OF_A_CLUSTER: Final = ("total_loss", "wrong_update")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One drill's plan. Its id reads ``single-node-pg_dump-rclone-total_loss`` unless it has a ``name`` of its own."""

    architecture: str
    database: DatabaseMethod
    objects: ObjectMethod
    configuration: ConfigurationMethod
    disaster: Disaster
    name: str = ""

    @property
    def id(self) -> str:
        """The name under which it is selected, journalled and reported."""
        return self.name or "-".join([self.architecture, self.database.name, self.objects.name, self.disaster.name])

    @property
    def parts(self) -> dict[str, str]:
        """The names that it brings together, by kind."""
        return {
            "database": self.database.name,
            "objects": self.objects.name,
            "configuration": self.configuration.name,
            "disaster": self.disaster.name,
        }

    @property
    def tried(self) -> set[tuple[str, str]]:
        """Kind and name of the disaster, and of each method that has to restore something after it."""
        todo = plan(self.database, self.objects, self.disaster)
        needed = {
            "database": bool(todo.database),
            "objects": todo.objects != "keep",
            "configuration": todo.configuration,
            "disaster": True,
        }
        return {(kind, name) for kind, name in self.parts.items() if needed[kind]}


def every_scenario(
    architecture: str,
    databases: Mapping[str, DatabaseMethod],
    objects: Mapping[str, ObjectMethod],
    configurations: Mapping[str, ConfigurationMethod],
    disasters: Mapping[str, Disaster],
) -> list[Scenario]:
    """All that can be drilled together.

    Who backs the database up in some way keeps the configuration in that way too, where there is one; else by ``age``.
    """
    return [
        Scenario(
            architecture=architecture,
            database=database,
            objects=bucket,
            configuration=configurations.get(database.name) or configurations["age"],
            disaster=disaster,
        )
        for disaster, database, bucket in itertools.product(disasters.values(), databases.values(), objects.values())
        if not impossible(bucket, disaster)
    ]


def _sampled(scenario: Scenario) -> bool:
    """Whether it is one of those of which a sample is drawn; a wrong statement is undone to the instant before it."""
    disaster, whole = scenario.disaster.name, OF_A_CLUSTER[0]
    if scenario.architecture != HIGH_AVAILABILITY:
        return True
    return disaster == whole or (disaster in OF_A_CLUSTER and scenario.database.basis == "target")


def _rebuilt(scenario: Scenario) -> set[tuple[str, str]]:
    """On a cluster that is lost as a whole, the database method once more, so that each is tried with just that."""
    lost = scenario.architecture == HIGH_AVAILABILITY and scenario.disaster.name == OF_A_CLUSTER[0]
    return {("whole cluster", scenario.database.name)} if lost else set()


def choose(scenarios: Sequence[Scenario], matrix: Matrix) -> list[Scenario]:
    """Which of the scenarios to drill, in their order.

    ``sample`` takes as few as have every method restore something and every disaster strike, and of those such as try
    most pairs. On a cluster it has every database method restore one that was lost as a whole, and a wrong statement
    undone; the other disasters strike where nothing else was selected. ``pairwise`` goes on until every pair of a
    method and a disaster, or of two methods, that is possible was tried. ``full`` takes all. The choice is greedy, the
    same every time, and not always the smallest.
    """
    if matrix == "full":
        return list(scenarios)
    if matrix == "sample":
        scenarios = [each for each in scenarios if _sampled(each)] or scenarios
    tried = {scenario.id: scenario.tried | _rebuilt(scenario) for scenario in scenarios}
    names = set[tuple[str, str]]().union(*tried.values())
    pairs = {pair for each in tried.values() for pair in itertools.combinations(sorted(each), 2)}
    used = collections.Counter[tuple[str, str]]()
    chosen: set[str] = set()

    def gain(scenario: Scenario) -> tuple[int, int, int, int]:
        new = set(itertools.combinations(sorted(tried[scenario.id]), 2)) & pairs
        seen = ("database", scenario.database.name) not in names
        twice = isinstance(scenario.disaster, SpoilsBackup)
        again = bool(names) and isinstance(scenario.database, TakesLong) and (seen or twice)
        # A method that has nothing to do here may as well be one that was seldom there.
        return len(tried[scenario.id] & names), -again, len(new), -sum(used[part] for part in scenario.parts.items())

    while names or (matrix == "pairwise" and pairs):
        best = max((each for each in scenarios if each.id not in chosen), key=gain)
        chosen.add(best.id)
        names -= tried[best.id]
        pairs -= set(itertools.combinations(sorted(tried[best.id]), 2))
        used.update(best.parts.items())
    return [scenario for scenario in scenarios if scenario.id in chosen]

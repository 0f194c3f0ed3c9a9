"""Every database server is stopped in order and started with the programs of another minor version, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drills.failover.contract import (
    ClusterDisaster,
    PlannedWork,
    Struck,
    one_after_the_other,
    started,
)
from fixtures.cluster import ClusterAct


def upgrade(struck: Struck) -> None:
    """Standbys first, then another one leads, then the old leader."""
    cluster = struck.deployment.cluster
    old, new = struck.leader.database.tools, cluster.other_programs()
    struck.noted["directory"] = str(new.directory.resolve())
    if old.version == new.version:
        reason = f"only {new.version} is here: its programs were copied. Name others as cluster.upgrade_directory"
        struck.not_tested.append({"what": "another minor version of PostgreSQL", "reason": reason})
    one_after_the_other(struck, lambda node: cluster.upgrade(node.name, new))


def programs(struck: Struck) -> Mapping[str, str]:
    """Where each server's program lies now."""
    seen = {node.name: started(node).partition(" from ")[2] for node in struck.deployment.cluster.nodes}
    wanted = struck.noted["directory"]
    return {name: "" if directory == wanted else f"it runs from {directory}" for name, directory in seen.items()}


DISASTER: Final[ClusterDisaster] = PlannedWork(
    name="minor_upgrade",
    needs=frozenset({ClusterAct.UPGRADE, ClusterAct.SWITCH_OVER}),
    work=upgrade,
    proof=programs,
)

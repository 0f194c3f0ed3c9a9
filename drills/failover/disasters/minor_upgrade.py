"""Every database server is stopped in order and started with the programs of another minor version, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from drills.failover.contract import (
    USUAL,
    ClusterDisaster,
    Floor,
    Leads,
    Need,
    Struck,
    Variant,
    one_after_the_other,
    started,
)
from fixtures.cluster import ClusterAct, ClusterSettings, Timing
from reports.records import NANOSECONDS


class MinorUpgrade:
    """See ``ClusterDisaster``."""

    name = "minor_upgrade"
    variants: Sequence[Variant] = (USUAL,)
    planned = True
    leads: Leads = "another"
    needs: frozenset[Need] = frozenset({ClusterAct.UPGRADE, ClusterAct.SWITCH_OVER})

    def lasts_ns(self, timing: Timing) -> int:
        """A moment."""
        del timing
        return NANOSECONDS

    def strike(self, struck: Struck) -> None:
        """Standbys first, then another one leads, then the old leader."""
        cluster = struck.deployment.cluster
        old, new = struck.leader.database.tools, cluster.other_programs()
        struck.noted["directory"] = str(new.directory.resolve())
        if old.version == new.version:
            reason = f"only {new.version} is here: its programs were copied. Name others as cluster.upgrade_directory"
            struck.not_tested.append({"what": "another minor version of PostgreSQL", "reason": reason})
        one_after_the_other(struck, lambda node: cluster.upgrade(node.name, new))

    def places(self, struck: Struck) -> Mapping[str, str]:
        """Where each server's program lies now."""
        seen = {node.name: started(node).partition(" from ")[2] for node in struck.deployment.cluster.nodes}
        wanted = struck.noted["directory"]
        return {name: "" if directory == wanted else f"it runs from {directory}" for name, directory in seen.items()}

    def mend(self, struck: Struck) -> str:
        """Nothing was broken: the new programs stay in use."""
        del struck
        return ""

    def floor(self, timing: Timing, settings: ClusterSettings) -> Floor | None:
        """As of a switchover: none."""
        del timing, settings
        return None


DISASTER: Final[ClusterDisaster] = MinorUpgrade()

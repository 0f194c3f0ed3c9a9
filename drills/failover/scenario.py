"""A failover drill's plan: which disaster, under which settings; and all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from drills.failover.contract import ClusterDisaster, Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outage:
    """One failover drill's plan. Its id reads ``high-availability-dcs_lost-failsafe``."""

    architecture: str
    disaster: ClusterDisaster
    variant: Variant

    @property
    def id(self) -> str:
        """The name under which it is selected, journalled and reported."""
        return "-".join(filter(None, [self.architecture, self.disaster.name, self.variant.name]))


def every_outage(architecture: str, disasters: Mapping[str, ClusterDisaster]) -> list[Outage]:
    """Each disaster under each of its settings; those last that are to do harm, for the next would find it."""
    outages = [
        Outage(architecture=architecture, disaster=disaster, variant=variant)
        for disaster in disasters.values()
        for variant in disaster.variants
    ]
    return sorted(outages, key=lambda each: bool(each.variant.expects))

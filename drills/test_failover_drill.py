"""The failover drills: something breaks while clients work, the cluster heals, and every write is accounted for.

configure → load → strike → hold → mend → verify → controls → judge → clear
"""

from __future__ import annotations

from drills.failover.engine import Failover


def test_failover_drill(failover: Failover) -> None:
    failover.configure()
    failover.start_load()
    failover.strike()
    failover.hold()
    failover.mend()
    failover.verify()
    failover.prove_controls()
    failover.judge()
    failover.clear()

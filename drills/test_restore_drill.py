"""The restore drills: each destroys a whole running system under load, restores it, and accounts for everything.

spin up → seed → load → back up → diverge → strike → restore → start → verify → controls → judge
"""

from __future__ import annotations

from drills.engine import Drill


def test_restore_drill(drill: Drill) -> None:
    drill.spin_up()
    drill.seed()
    drill.start_load()
    drill.back_up()
    drill.diverge()
    drill.strike()
    drill.restore()
    drill.start()
    drill.verify()
    drill.prove_controls()
    drill.judge()

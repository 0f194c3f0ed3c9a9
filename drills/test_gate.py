"""The gate before an upgrade: what a restore needs, the deployment, its backup restored, the upgrade rehearsed.

prerequisites → conformance → shadow restore → backups → rehearsal: upgrade → new version → old version → roll back
"""

from __future__ import annotations

import pytest

from checks.conformance.registry import Conformance
from drills.gate.gate import Gate


def test_prerequisites(gate: Gate) -> None:
    gate.see_prerequisites()


def test_conformance(conformance: Conformance, gate: Gate) -> None:
    if reason := gate.look(conformance):
        pytest.skip(f"not tested: {reason}")


def test_shadow_restore(gate: Gate) -> None:
    gate.see_backups()
    gate.shadow.look()
    gate.shadow.take()
    gate.shadow.fetch()
    gate.shadow.restore()
    gate.shadow.boot()
    gate.shadow.verify()
    gate.shadow.prove_controls()
    gate.shadow.judge()


def test_backups(gate: Gate) -> None:
    gate.tell_backups()


def test_rehearsal(gate: Gate) -> None:
    rehearsal = gate.rehearse()
    if rehearsal is None:
        pytest.skip("not tested: the profile does not say how the upgrade is done")
    rehearsal.prepare()
    rehearsal.upgrade()
    rehearsal.run_new()
    rehearsal.try_old()
    rehearsal.roll_back()
    rehearsal.try_new()
    rehearsal.prove_controls()
    rehearsal.judge()

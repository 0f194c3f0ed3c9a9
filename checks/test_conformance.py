"""Conformance: what a deployment that is up must do, and the proof that each of these checks can fail."""

from __future__ import annotations

import pytest

from checks.checked import checked, proven
from checks.conformance.registry import Conformance, Fault, every_check
from checks.conformance.subject import Subject
from fixtures.ground import RunRecord


def test_conformance(conformance: Conformance, subject: Subject, run: RunRecord) -> None:
    with checked(
        run.journal, "", conformance.id, title=conformance.title, guide=conformance.guide, supports=conformance.supports
    ) as check:
        conformance.look(subject, check)
    check.require()
    if not any(check.looked_at.values()) and not check.findings:
        pytest.skip("not tested: " + "; ".join(f"{each['what']}: {each['reason']}" for each in check.not_tested))


def test_fault_is_seen(fault: Fault, subject: Subject, run: RunRecord) -> None:
    with (
        proven(run.journal, fault.name, breaks=fault.breaks, expects=fault.expects) as check,
        fault.apply(subject) as other,
    ):
        every_check()[fault.check].look(other or subject, check)
    check.require_saw(fault.expects)

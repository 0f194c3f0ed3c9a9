"""The table of conformance checks: whole, proven, cited, and the one in the docs."""

from pathlib import Path

import pytest

from checks.__main__ import table
from checks.conformance.registry import Conformance, conformance, every_check, every_fault
from reports.records import HarnessError

ROOT = Path(__file__).parents[2]
GUIDE_LINES = 31


SHOWN = {code for fault in every_fault().values() if len(fault.expects) == 1 for code in fault.expects}


@pytest.mark.parametrize("check", every_check().values(), ids=lambda check: check.id)
def test_every_check_has_a_fault_of_its_own_and_each_of_its_codes_one_that_alone_shows_it(check):
    assert any(fault.check == check.id for fault in every_fault().values())
    assert set(check.finds) <= SHOWN


@pytest.mark.parametrize("check", every_check().values(), ids=lambda check: check.id)
def test_every_check_says_what_must_be_so_and_cites_the_guide_and_a_standard(check: Conformance):
    line, _, words = check.guide.removeprefix("line ").partition(": ")
    assert 0 < int(line) <= GUIDE_LINES
    assert words
    assert len(check.title) > 20
    assert check.supports


def test_the_table_in_the_docs_is_the_one_in_force():
    assert "\n".join(table()) in (ROOT / "docs" / "conformance.md").read_text("utf-8")


def test_a_code_that_the_table_of_findings_does_not_know_is_refused():
    def look(subject, check):
        """Something."""

    with pytest.raises(HarnessError, match="NO-SUCH-CODE is not in"):
        conformance(guide="line 1: x", supports=(), finds=("NO-SUCH-CODE",))(look)

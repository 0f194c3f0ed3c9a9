"""Backup sets that cannot be looked at: their own reason, and no word about the restore."""

from types import SimpleNamespace

import pytest

from drills.gate import backups
from drills.gate.gate import Gate
from fixtures.objectives import Objective
from reports.records import HarnessError


def test_sets_that_cannot_be_read_are_told_as_such_and_the_restore_goes_on(monkeypatch):
    def broken(*_):
        raise HarnessError("backup sets", seen="permission denied", remedy="let the suite read them")

    written = []
    asked = SimpleNamespace(frequency=dict.fromkeys(backups.COMPONENTS, Objective(target_ns=None, source="none")))
    journal = SimpleNamespace(write=lambda kind, **fields: written.append(fields))
    gate = Gate(
        subject=SimpleNamespace(deployment=None, sets=lambda: None),
        shadow=SimpleNamespace(backups=SimpleNamespace(database=None, objects=None)),
        profile=SimpleNamespace(backup_max_age_ns=1), record=SimpleNamespace(journal=journal), ground=None, root=None,
        objectives={}, asked=asked, needed=0,
    )  # fmt: skip
    monkeypatch.setattr(backups, "ages", broken)
    gate.see_backups()
    with pytest.raises(HarnessError, match="permission denied"):
        gate.tell_backups()
    assert {each["component"] for each in written} == {*backups.COMPONENTS}
    assert all("permission denied" in each["error"] and each["remedy"] == "let the suite read them" for each in written)

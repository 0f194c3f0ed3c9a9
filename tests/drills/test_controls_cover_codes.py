"""Every finding code has a control that plants its cause, or stands here with the reason why none does."""

import types

import pytest

from checks.conformance.registry import every_fault
from drills.conforming import Trail
from drills.contract import Archives, Job, RestoresBeside, Target
from drills.controls import archive, backup, configuration, database, point_in_time
from drills.controls.prove import BESIDE
from drills.failover.contract import USUAL
from drills.failover.controls import Verified, of_the_account, of_the_cluster
from drills.gate.controls import controls as of_a_rehearsal
from drills.shadow_controls import of_the_heartbeat, of_the_transaction, of_the_way_out, of_volume
from reports.records import Clock, Severity, finding_kinds

FIGURES = "a figure of the drill held against an objective or another figure: reports/measures.py, tests/reports"
JUDGES = "says what became of a control, and so cannot be one: tests/drills/test_verdicts_of_checks_and_controls.py"
NOTICE = "a notice: a control must see a failure. tests/checks"
WITHOUT_A_CONTROL = {
    "RTO-EXCEEDED": FIGURES,
    "RPO-EXCEEDED": FIGURES,
    "OUTAGE-DISAGREES": FIGURES,
    "RECOVERY-UNSEEN": FIGURES,
    "RECOVERY-SLOWER": NOTICE,
    "STRIKE-UNPROVEN": "the strike itself plants it, and the drill ends where it is found: tests/drills/disasters",
    "WRONG-KEY-ACCEPTED": "the disaster wrong_key plants it in the drill itself",
    "NOT-LEFT-AS-IT-WAS": "of a deployment that somebody else runs, after the controls: tests/drills/test_destroy.py",
    "NOBODY-PROMOTED": "the row's own control plants it, a drill of its own: drills/failover/disasters/lag_exceeded.py",
    "COPY-DIFFERS": "two object servers, one of them written to: tests/fixtures/test_high_availability.py",
    "UPGRADE-FAILED": "a release that dies half-way plants it in a rehearsal of its own: tests/drills/gate",
    "UPGRADE-UNUSABLE": "booting on data that they refuse is tried for each cell of the matrix: tests/drills/gate",
    "ROLLBACK-FAILED": "a backup that cannot be restored ends the shadow restore before: tests/drills/test_shadow.py",
    "UPGRADE-REMOVES-STRUCTURE": NOTICE,
    "DISASTER-UNSEEN": JUDGES,
    "CONTROL-NOT-CAUGHT": JUDGES,
    "HEALTHY-TWIN-ACCUSED": JUDGES,
    "SEQUENCE-AHEAD": NOTICE,
    "AUDIT-STREAM-LACKS": NOTICE,
    "EGRESS-BY-FILE": NOTICE,
    "EGRESS-LOOKUP-SLOW": NOTICE,
}


class Method:
    """Has every ability that adds controls."""

    def settings(self, job): ...

    def streams(self, wanted): ...
    def start_archiving(self, source, job): ...

    def flush(self, source, job): ...

    def check_archive(self, backup, archive, job): ...

    def restore_beside(self, backup, target, name, job): ...


@pytest.fixture
def bench(tmp_path):
    """A bench that controls can be listed for; none of them is run."""
    observed = tmp_path / "observed.jsonl"
    for path in (observed, tmp_path / "ledger.jsonl"):
        path.touch()
    assert isinstance(Method(), Archives) and isinstance(Method(), RestoresBeside)
    instant = types.SimpleNamespace(target=Target(name="instant", time="", lsn="0/3000000"))
    return types.SimpleNamespace(
        deployment=types.SimpleNamespace(configuration=lambda: {"NAME": "value"}),
        method=Method(),
        observed=observed,
        backup=types.SimpleNamespace(manifest=dict),
        expected=types.SimpleNamespace(database=types.SimpleNamespace(server_version=170010)),
        outcome=types.SimpleNamespace(made=types.SimpleNamespace(instant=instant), trail=Trail()),
        job=Job(processes=None, jobs=1, seconds=1, recipient="", archive=tmp_path),
    )


@pytest.fixture
def controls(bench):
    found = [control for family in BESIDE for control in family.controls(bench)]
    found += [
        *of_the_heartbeat(bench, None),
        *of_the_way_out(bench),
        *of_volume(bench, None),
        *of_the_transaction(bench),
        *of_the_upgrade(),
    ]
    return [*found, *database.controls(bench, None), *of_failovers(bench)]


def of_the_upgrade():
    """Those of a rehearsal; its healthy twin is one more of the name that every family's has."""
    site = types.SimpleNamespace(deployment=types.SimpleNamespace(stand_in=True))
    proof = types.SimpleNamespace(before=types.SimpleNamespace(site=site))
    found = list(of_a_rehearsal(proof))
    assert any(not control.expects for control in found)
    return [control for control in found if control.expects]


def of_failovers(bench):
    ledger = bench.observed.with_name("ledger.jsonl")
    site = types.SimpleNamespace(
        id="drill",
        load=types.SimpleNamespace(observed=bench.observed, path=ledger, reads=ledger),
        watch=types.SimpleNamespace(path=ledger),
        journal=types.SimpleNamespace(clock=Clock.start()),
        record=types.SimpleNamespace(findings_if=lambda drill: []),
        outage=types.SimpleNamespace(variant=USUAL),
    )
    return [*of_the_account(site), *of_the_cluster(site, Verified(fingerprint=None, members=[]))]


def test_every_code_has_a_control_or_a_reason(controls):
    expected = {code for control in controls for code in control.expects}
    expected |= {code for fault in every_fault().values() for code in fault.expects}
    assert sorted(finding_kinds().keys() - expected) == sorted(WITHOUT_A_CONTROL)
    assert expected <= finding_kinds().keys()


def test_only_notices_are_excused_as_notices():
    excused = {code for code, reason in WITHOUT_A_CONTROL.items() if reason == NOTICE}
    assert all(finding_kinds()[code].severity is Severity.NOTICE for code in excused)


def test_controls_have_names_of_their_own(controls):
    names = [control.name for control in controls]
    assert sorted(set(names)) == sorted(names)


def test_what_hangs_on_the_method_is_proven_in_every_drill(bench):
    for family in (archive, backup, point_in_time):
        assert all(control.every_drill for control in family.controls(bench))


@pytest.mark.parametrize("family", [*BESIDE, database])
def test_every_family_has_a_healthy_twin(bench, family):
    controls = family.controls(bench, None) if family is database else family.controls(bench)
    twins = [control.name for control in controls if not control.expects]
    assert twins or family is configuration  # its values as they are: the drill's own check of them

"""What the comparison is made of: the script's stages, the drill's journal, the flags of both, the table."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import bare, drilled
from benchmarks.sameness import compression_of, flags_missing
from benchmarks.stages import STAGES, Bare, Round
from benchmarks.table import figures, render
from reports.records import HarnessError

SECOND = 10**9
PRINTED = """ dump database\t3
 copy objects\t2
 encrypt\t1
back up\t6
strike\t1
restore configuration\t1
provision\t1
restore database\t1
restore objects\t1
start and first transaction\t1
recovery\t6
apart: rclone check --download\t4
"""


def phase(name, opened, closed):
    return [
        {"kind": "phase.opened", "phase": name, "t": opened},
        {"kind": "phase.closed", "phase": name, "t": closed},
    ]


def command(tool, started, ended):
    return {"kind": "command", "argv": [f"/bin/{tool}", "--compress=zstd:1"], "started_ns": started, "ended_ns": ended}


JOURNAL = [
    *phase("back up", 10, 40),
    command("pg_dump", 11, 21),
    command("pg_dumpall", 21, 23),
    command("rclone", 23, 38),
    command("rclone", 41, 45),  # asked for its version
    {"kind": "strike", "at_ns": 100},
    *phase("provision", 110, 119),
    *phase("restore configuration", 120, 121),
    *phase("restore database", 122, 140),
    *phase("restore objects", 142, 150),
    *phase("start", 151, 170),
    {"kind": "probe", "outcome": "failed", "ended_ns": 105},
    {"kind": "probe", "outcome": "succeeded", "ended_ns": 175},
    {"kind": "check", "check": "database", "started_ns": 180, "ended_ns": 185},
    {"kind": "check", "check": "objects", "started_ns": 185, "ended_ns": 192},
]


def test_the_scripts_lines_become_every_stage_of_the_comparison():
    seen = bare.read_stages(PRINTED, elapsed_ns=20)
    assert set(STAGES) <= set(seen.stages)
    assert seen.stages["measured path"] == 12
    assert seen.check_objects_ns == 4


def test_a_wall_clock_set_meanwhile_is_seen():
    with pytest.raises(HarnessError, match="set the clock"):
        bare.read_stages(PRINTED, elapsed_ns=10)


def test_the_journal_gives_every_stage_and_the_parts_of_recovery_add_up():
    seen = drilled.read_times(JOURNAL)
    assert set(seen.stages) == set(STAGES)
    assert seen.stages["recovery"] == 75
    assert sum(took for name, took in seen.stages.items() if name in (" strike", *drilled.PATH.values())) == 75
    assert seen.stages[" dump database"] == 12
    assert seen.stages[" copy objects"] == 15
    assert (seen.dump_ns, seen.verify_database_ns, seen.verify_objects_ns) == (10, 5, 7)


def test_a_flag_that_only_the_drill_uses_is_named():
    commands = [["unshare", "-U", "--", "/bin/initdb", "--pgdata=/a", "--data-checksums"], ["/bin/cp", "--archive"]]
    assert flags_missing(commands, 'initdb --pgdata="$DATA"') == ["initdb --data-checksums"]
    assert flags_missing(commands, 'initdb --pgdata="$DATA" --data-checksums') == []


def test_the_dump_is_compressed_as_the_drill_did():
    assert compression_of(drilled.read_times(JOURNAL).commands) == "zstd:1"


def test_the_ratio_is_that_of_the_medians_and_over_budget_it_is_marked():
    def a_round(ours, others):
        one = dataclasses.replace(drilled.read_times(JOURNAL), stages=dict.fromkeys(STAGES, ours * SECOND))
        one = dataclasses.replace(one, phases=dict.fromkeys(("fingerprint", "verify", "controls"), 1))
        return Round(drilled=one, bare=Bare(stages=dict.fromkeys(STAGES, others * SECOND), check_objects_ns=7))

    value = figures([a_round(2, 1), a_round(3, 2), a_round(9, 1)])
    assert value["stages"]["back up"]["ratio"] == 3
    assert value["stages"]["back up"]["ratio_of_least"] == 2
    shown = render(value, title="here", small_peak=[])
    assert "3.000 !" in shown
    assert "1.000 !" not in shown


def test_the_largest_resident_size_of_a_process_is_read():
    assert drilled.peak_bytes(2**22 + 1) == 0
    assert drilled.peak_bytes(int(Path("/proc/self").readlink().name)) > 2**20

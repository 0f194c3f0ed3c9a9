"""What the comparison is made of: the script's stages, the drill's journal, the flags of both, the table."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bare, drilled
from benchmarks.sameness import compression_of, differences, read_commands
from benchmarks.stages import STAGES, Bare, Round
from benchmarks.table import figures, render
from reports.records import HarnessError

SECOND = 10**9
PRINTED = """copy objects\t5
 dump database\t3
 copy objects again\t2
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


OPENED = {
    "kind": "drill.opened",
    "methods": {"database": "pg_dump", "objects": "rclone", "configuration": "age"},
    "disaster": "total_loss",
}
JOURNAL = [
    OPENED,
    command("initdb", 0, 1),  # off the measured path
    *phase("copy objects", 2, 6),
    command("rclone", 3, 6),
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
    seen = bare.read_stages(PRINTED, elapsed_ns=21)
    assert set(STAGES) <= set(seen.stages)
    assert seen.stages["measured path"] == 17
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
    assert seen.stages[" copy objects again"] == 15
    assert seen.stages["copy objects"] == 4
    assert seen.stages["measured path"] == 4 + 30 + 75
    assert (seen.between_ns, seen.pause_ns) == (4, 60)
    assert (seen.dump_ns, seen.verify_database_ns, seen.verify_objects_ns) == (10, 5, 7)


def test_only_the_commands_of_the_measured_path_are_held_against_the_scripts():
    assert [Path(argv[0]).name for argv in drilled.read_times(JOURNAL).commands] == [
        *("rclone", "pg_dump", "pg_dumpall", "rclone", "rclone")
    ]


@pytest.mark.parametrize(
    "events",
    [
        [event for event in JOURNAL if event is not OPENED],
        [OPENED, *JOURNAL],
        [OPENED | {"disaster": "ransomware"}, *JOURNAL[1:]],
        [OPENED | {"methods": OPENED["methods"] | {"objects": "rclone_crypt"}}, *JOURNAL[1:]],
    ],
    ids=["no drill", "two drills", "another disaster", "another method"],
)
def test_a_journal_of_other_drills_is_refused(events):
    with pytest.raises(HarnessError, match="exactly the drill pg_dump × rclone × age × total_loss"):
        drilled.read_times(events)


def test_the_selection_gives_exactly_one_drill(pytestconfig):
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "drills", "-m", drilled.SCENARIO, "--collect-only", "-q"],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
    ).stdout
    found = [line for line in shown.splitlines() if "test_restore_drill[" in line]
    assert [line.partition("[")[2] for line in found] == ["single-node-pg_dump-rclone-total_loss]"]


DRILLED = [
    ("unshare", "-U", "--", "/bin/initdb", "--pgdata=/a", "--data-checksums"),
    ("/bin/pg_dump", "--snapshot=1-2", "--jobs=2", "--file=/a/dump"),
    ("/bin/rclone", "copy", "store:a", "/a", "--no-check-dest", "--config="),
    ("/bin/rclone", "copy", "store:a", "/a", "--config="),
    ("/bin/pg_config", "--configure"),
]
RAN = [
    ("/bin/initdb", "--data-checksums", "--pgdata=/b"),
    ("/bin/rclone", "copy", "store:b", "/b", "--no-check-dest", "--config="),
    ("/bin/pg_dump", "--file=/b/dump", "--jobs=2"),
    ("/bin/rclone", "copy", "store:b", "/b", "--config="),
]


def test_the_same_commands_on_other_places_are_the_same():
    assert differences(DRILLED, RAN) == []


def test_a_command_that_one_side_leaves_out_is_named():
    assert differences(DRILLED, RAN[:-1]) == ["only the drill: rclone --config="]
    assert differences(DRILLED[1:], RAN) == ["only the script: initdb --data-checksums --pgdata"]


def test_a_flag_that_differs_is_named_with_both_its_commands():
    other = [*RAN[:-1], ("/bin/rclone", "copy", "store:b", "/b", "--no-check-dest", "--config=")]
    assert differences(DRILLED, other) == [
        "only the drill: rclone --config=",
        "only the script: rclone --config= --no-check-dest",
    ]
    assert differences([("pg_restore", "--jobs=2")], [("pg_restore", "--jobs=4")]) == [
        "only the drill: pg_restore --jobs=2",
        "only the script: pg_restore --jobs=4",
    ]


def test_the_scripts_commands_are_read_word_by_word():
    assert read_commands("/bin/initdb\t--pgdata=/a b\t\n/bin/psql\t--quiet\t\n") == (
        ("/bin/initdb", "--pgdata=/a b"),
        ("/bin/psql", "--quiet"),
    )


def test_the_dump_is_compressed_as_the_drill_did():
    assert compression_of(drilled.read_times(JOURNAL).commands) == "zstd:1"


def test_the_ratio_is_that_of_the_medians_and_over_budget_it_is_marked():
    def a_round(ours, others):
        one = dataclasses.replace(drilled.read_times(JOURNAL), stages=dict.fromkeys(STAGES, ours * SECOND))
        one = dataclasses.replace(one, phases=dict.fromkeys(("fingerprint", "verify", "controls"), 1))
        took = dict.fromkeys(STAGES, others * SECOND)
        return Round(drilled=one, bare=Bare(stages=took, check_objects_ns=7, commands=()))

    value = figures([a_round(2, 1), a_round(3, 2), a_round(9, 1)])
    assert value["stages"]["back up"]["ratio"] == 3
    assert value["stages"]["back up"]["ratio_of_least"] == 2
    shown = render(value, title="here", small_peak=[])
    assert "3.000 !" in shown
    assert "1.000 !" not in shown


def test_the_largest_resident_size_of_a_process_is_read():
    assert drilled.peak_bytes(2**22 + 1) == 0
    assert drilled.peak_bytes(int(Path("/proc/self").readlink().name)) > 2**20

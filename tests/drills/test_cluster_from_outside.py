"""Drills of a cluster, started as a person starts them: what they show, and what is left when they are killed."""

import contextlib
import signal

import pytest

from reports.records import HarnessError, wait_until

OF_A_CLUSTER = ("--provider=high-availability", "--cluster-timing=fast", "--scale=documents=4,database=64KiB")
RESTORE = "high-availability-basebackup_wal-rclone-total_loss"


@pytest.mark.cluster
def test_a_cluster_that_is_lost_as_a_whole_is_restored_and_redundant_again(suite):
    exit_code, output = suite.run(*OF_A_CLUSTER, "-k", RESTORE)
    assert exit_code == 0, output
    assert "NOT STOCK: ttl 5 s" in output
    (drill,) = suite.evidence()["drills"]
    assert (drill["architecture"], drill["verdict"]) == ("high-availability", "passed")
    checks = {row["check"]: row for row in drill["checks"]}
    assert checks["full redundancy"]["looked_at"] == {"nodes": 3}
    assert drill["controls"]["caught"] == drill["controls"]["planted"] > 70
    journal = next(suite.runs.glob("*/journal.jsonl")).read_text("utf-8")
    assert journal.count('"how":"restored"') == 1
    assert journal.count('"how":"rebuilt"') == 2
    assert list(suite.work.glob("*/*")) == []


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("drill", "phase", "and_there"),
    [
        (RESTORE, "spin up", "*/deployment/postgresql/node3/data/global"),
        ("primary_killed and not async", "hold", ""),
    ],
    ids=["while the cluster forms", "while another takes over"],
)
def test_a_killed_run_leaves_nothing_of_its_cluster(killed, drill, phase, and_there):
    killed.arguments = [*OF_A_CLUSTER, "-k", drill]
    killed.servers = "*/*/postgresql/node*/data/postmaster.pid"
    assert killed.at(phase, signal.SIGKILL, and_there=and_there) == -signal.SIGKILL
    assert len(killed.processes) > 20
    assert killed.segments
    with contextlib.suppress(HarnessError):
        wait_until(lambda: not killed.remains(), seconds=20, interval=0.05, what="the end of all that the run made")
    assert killed.remains() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster-timing=fast"], ("option --cluster-timing: given, though the provider is embedded",)),
        (
            ["--provider=high-availability", "--profile=examples/distribution.toml"],
            ("deployment.architecture: single-node, though the provider is high-availability", "leave it out"),
        ),
        (
            ["--provider=embedded", "--profile=examples/high-availability.toml"],
            ("deployment.architecture: high-availability, though the provider is embedded", '"high-availability"'),
        ),
    ],
)
def test_what_does_not_fit_together_ends_the_run_with_one_message(suite, arguments, words):
    exit_code, output = suite.run(*arguments)
    assert exit_code == 4
    assert [word for word in words if word not in output] == []
    assert "Traceback" not in output
    assert suite.left() == []

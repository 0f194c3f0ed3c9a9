from pathlib import Path

import pytest

import fixtures.refapp
from checks.quiet import (
    JobState,
    archiving_settings,
    compare_archives,
    compare_jobs,
    judge_settings,
    list_archive,
    read_job_effects,
    read_jobs,
    read_settings,
)
from reports.records import HarnessError

REFERENCE = Path(fixtures.refapp.__file__).parent
OFF = {
    "archive_mode": "off",
    "archive_command": "(disabled)",
    "archive_library": "",
    "archive_cleanup_command": "",
    "primary_conninfo": "",
    "synchronous_standby_names": "",
}
DONE = JobState(state="finished", marker="done 0 100.5")
WAITING = JobState(state="pending", marker="pending 0")


def codes(findings):
    return [finding.code for finding in findings]


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "archive" / "0001").mkdir(parents=True)
    for name in ("000000010000000000000001", "0001/000000010000000000000002"):
        (tmp_path / "archive" / name).write_bytes(b"segment")
    return tmp_path / "archive"


def test_an_archive_left_alone_is_silent(archive):
    assert compare_archives(list_archive(archive), list_archive(archive)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.with_name("000000020000000000000001").write_bytes(b"another timeline"), "is new"),
        (lambda path: path.unlink(), "is gone"),
        (lambda path: path.write_bytes(b"segmenT"), "was written again"),
        (lambda path: path.write_bytes(b"segment"), "was written again"),
        (lambda path: path.with_name("copy").write_bytes(b"segment") and path.with_name("copy").rename(path), "again"),
    ],
    ids=["added", "removed", "other bytes", "the same bytes", "put in its place"],
)
def test_an_archive_that_was_written_to_is_found(archive, change, said):
    before = list_archive(archive)
    change(archive / "0001/000000010000000000000002")
    (finding,) = compare_archives(before, list_archive(archive))
    assert finding.code == "ARCHIVE-WRITTEN"
    assert said in finding.seen


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"archive_mode": "on", "archive_command": "cp %p /archive/%f"}, ["archive_command"]),
        ({"archive_mode": "always", "archive_library": "basic_archive"}, ["archive_library"]),
        ({"primary_conninfo": "host=source password=very-secret"}, ["primary_conninfo"]),
        ({"synchronous_standby_names": "FIRST 1 (standby)"}, ["synchronous_standby_names"]),
        ({"archive_cleanup_command": "pg_archivecleanup /archive %r"}, ["archive_cleanup_command"]),
        ({"archive_mode": "on", "archive_command": "/bin/true"}, []),
        ({"archive_mode": "on", "archive_command": ""}, []),
        ({}, []),
    ],
)
def test_settings_that_reach_for_others_are_found(settings, where):
    findings = judge_settings(OFF | settings)
    assert [finding.where for finding in findings] == where
    assert "very-secret" not in "".join(finding.seen for finding in findings)


def test_an_archive_of_its_own_is_no_finding():
    settings = OFF | {"archive_mode": "on", "archive_command": "cp %p /restored/archive/%f"}
    assert judge_settings(settings, own=["/restored/archive"]) == []


@pytest.mark.parametrize(
    ("waited_for", "found"),
    [
        ('"node2"', False),
        ("node1", False),
        ('ANY 1 ("node2",node3)', False),
        ("2 (node1, node3)", False),
        ("*", True),
        ("node2, enprivacy_archive", True),
        ("FIRST 1 (node22)", True),
    ],
)
def test_of_a_cluster_a_server_may_wait_for_members_and_for_nobody_else(waited_for, found):
    settings = OFF | {"synchronous_standby_names": waited_for}
    findings = judge_settings(settings, members=["node1", "node2", "node3"])
    assert bool(findings) == found
    assert len(judge_settings(settings)) == 1


def test_a_server_that_archives_nothing_is_silent_and_its_settings_are_all_read(server):
    with server.connect("postgres") as connection:
        assert archiving_settings(connection) == []
        assert read_settings(connection) == OFF


def test_settings_hidden_from_a_role_are_an_error_not_a_pass(server):
    with server.connect("postgres") as connection:
        connection.execute("SET SESSION AUTHORIZATION app_role")
        with pytest.raises(HarnessError, match="primary_conninfo cannot be read"):
            archiving_settings(connection)


def test_an_enabled_subscription_is_found(database):
    with database() as connection:
        connection.execute("BEGIN; SET LOCAL client_min_messages = error")
        connection.execute(
            "CREATE SUBSCRIPTION follower CONNECTION 'host=source' PUBLICATION feed WITH (connect = false)"
        )
        assert archiving_settings(connection) == []
        connection.execute("UPDATE pg_subscription SET subenabled = true WHERE subname = 'follower'")
        assert codes(archiving_settings(connection)) == ["ARCHIVE-LIVE"]
        connection.rollback()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"1": DONE, "2": WAITING}, {"1": DONE, "2": DONE, "3": WAITING}, []),
        ({"1": DONE}, {}, []),
        ({"1": DONE}, {"1": JobState(state="finished", marker="done 1 200.5")}, ["JOB-RAN-AGAIN"]),
        ({"1": DONE}, {"1": WAITING}, ["JOB-RAN-AGAIN"]),
        ({"1": WAITING}, {"1": WAITING}, ["JOB-UNFINISHED"]),
        ({"1": WAITING}, {}, ["JOB-UNFINISHED"]),
    ],
)
def test_jobs_are_held_against_the_restored_state(before, after, expected):
    findings = compare_jobs(before, after, {"document 1": 1})
    assert codes(findings) == expected
    assert all("job 1 " in finding.seen for finding in findings)


def test_an_effect_that_is_there_twice_is_found():
    assert codes(compare_jobs({}, {}, {"document 1": 1, "document 2": 2})) == ["JOB-DOUBLED"]


def test_a_query_that_gives_another_state_is_an_error_not_a_pass(database):
    with database() as connection, pytest.raises(HarnessError, match="'running' of job 7"):
        read_jobs(connection, "SELECT 7, 'running', 'x'")


REFERENCE_TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.jobs (id bigint, document_id int, status text, attempts int, finished_at timestamptz);
CREATE TABLE app.audit_events (event_type text, outcome text, target_type text, target_id text);
CREATE TABLE app.redactions (document_id int);
INSERT INTO app.jobs VALUES (1, 10, 'done', 0, '2026-01-01'), (2, 20, 'pending', 0, NULL), (3, 30, 'failed', 3, now());
INSERT INTO app.redactions VALUES (10);
INSERT INTO app.audit_events SELECT 'document.redacted', outcome, 'document', '10'
    FROM unnest(ARRAY['success', 'failure']) outcome
"""


def test_the_reference_application_s_queries_see_a_job_that_runs_again(database):
    jobs, effects = ((REFERENCE / name).read_text() for name in ("jobs.sql", "job_effects.sql"))
    with database() as connection:
        connection.execute(REFERENCE_TABLES)
        before = read_jobs(connection, jobs)
        assert [job.state for job in before.values()] == ["finished", "pending", "finished"]
        assert read_job_effects(connection, effects) == {}
        connection.execute("UPDATE app.jobs SET finished_at = now() WHERE id = 1")
        connection.execute("INSERT INTO app.audit_events VALUES ('document.redacted', 'success', 'document', '10')")
        findings = compare_jobs(before, read_jobs(connection, jobs), read_job_effects(connection, effects))
    assert codes(findings) == ["JOB-RAN-AGAIN", "JOB-UNFINISHED", "JOB-DOUBLED"]
    assert "document 10 is there 2 times" in findings[-1].seen

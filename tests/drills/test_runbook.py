"""The runbook, from journals that a real ``Journal`` wrote and from a real run's where there is one."""

import hashlib
import json
from pathlib import Path

import pytest

from drills.__main__ import NOTHING, PRINTED, UNUSABLE, main
from reports.records import Clock, Journal, Redactor

RUNS = Path(__file__).parents[2] / "reports" / "runs"
METHODS = {"database": "pg_dump", "objects": "rclone", "configuration": "age"}


class Writer:
    """Writes the journals and the evidence of runs below a directory."""

    def __init__(self, runs):
        self.runs = runs

    def run(self, run_id, drills, *, profile=("built-in", ""), closed=True):
        directory = self.runs / run_id
        directory.mkdir(parents=True)
        redactor = Redactor()
        redactor.learn("a-password")
        self.clock = Clock.start()
        self.journal = Journal(directory / "journal.jsonl", clock=self.clock, redactor=redactor)
        self.journal.write("run.opened", run_id=run_id, profile=dict(zip(("name", "sha256"), profile, strict=True)))
        for drill in drills:
            self.drill(f"/srv/{run_id}", drill)
        if closed:
            self.journal.write("run.closed", exit=0)
        self.journal.close()
        figures = {"reasons": ["RPO missed"], "recovery_point": {"achieved_ns": 250_000_000, "lower_bound": False}}
        assessed = [{"drill": drill["name"], "verdict": drill.get("verdict", "passed"), **figures} for drill in drills]
        (directory / "evidence.json").write_text(json.dumps({"drills": assessed}))
        return directory

    def drill(self, place, drill):
        name = drill["name"]
        objectives = {"rto": {"target_ns": 3_600_000_000_000, "source": "the profile"}, "rpo": {"target_ns": None}}
        self.journal.write(
            "drill.opened", drill=name, architecture="single-node", provider=drill.get("provider", "embedded"),
            stand_in=True, disaster=drill.get("disaster", "total_loss"), methods=METHODS | drill.get("methods", {}),
            tools={"postgresql": "17.10"}, objectives=objectives, **drill.get("opened", {}),
        )  # fmt: skip
        with self.journal.phase("back up", drill=name):
            self.command(name, ["/usr/bin/pg_dump", f"--file={place}/{name}/backups/1/dump"])
        with self.journal.phase("strike", drill=name):
            self.journal.write("strike", drill=name, at_ns=self.clock.now())
        for phase in drill.get("phases", ["detect", "restore database", "first transaction"]):
            with self.journal.phase(phase, drill=name):
                if phase == "detect":
                    for status in (200, 0):
                        self.journal.write("health", drill=name, service="web", endpoint="live", status=status, at_ns=1)
                if phase == "restore database":
                    for argv in drill.get("commands", [["/usr/bin/pg_restore", f"{place}/{name}/backups/1/dump"]]):
                        self.command(name, argv, **drill.get("more", {}))
        now = self.clock.now()
        self.journal.write("probe", drill=name, outcome="succeeded", started_ns=now, ended_ns=now)
        with self.journal.phase("verify", drill=name):
            self.command(name, ["/usr/bin/rclone", "version"])
            self.journal.write("check", drill=name, not_tested=[{"what": "objects' tags", "reason": "not kept"}])
        self.journal.write("drill.closed", drill=name, outcome="done", error="")

    def command(self, drill, argv, **more):
        now = self.clock.now()
        self.journal.write("command", drill=drill, argv=argv, exit=0, started_ns=now, ended_ns=now + 1_500_000, **more)


@pytest.fixture
def written(tmp_path):
    return Writer(tmp_path / "runs")


@pytest.fixture
def runbook(written, capsys):
    """What ``python -m drills runbook`` prints about the runs written, or the exit status and what it complains of."""

    def print_it(*arguments):
        status = main(["runbook", f"--runs-directory={written.runs}", *map(str, arguments)])
        printed = capsys.readouterr()
        return printed.out if status == PRINTED else (status, printed.err)

    return print_it


def test_the_steps_after_the_strike_stand_in_their_order_with_their_commands(written, runbook):
    written.run("20260101T000000Z-0001", [{"name": "one"}])
    text = runbook()
    assert [line.partition(":")[0] for line in text.splitlines() if line.startswith("### ")] == [
        "### 1. Detect",
        "### 2. Restore database",
        "### 3. First transaction",
    ]
    assert "Took 1.5 ms, exit 0:\n\n```sh\npg_restore '<work directory>/backups/1/dump'\n```" in text
    assert "Seen: no answer from web live." in text
    assert "pg_dump --file" not in text and "rclone version" not in text


def test_before_clients_are_let_in_a_password_that_came_back_is_rotated_again(written, runbook):
    phases = ["detect", "restore database", "start", "first transaction"]
    written.run("20260101T000000Z-0001", [{"name": "one", "phases": phases}])
    text = runbook()
    assert text.index("### 3. Start") < text.index("Rotate it again now") < text.index("### 4. First transaction")
    assert "psql --dbname=postgres --command='\\password <application user>'" in text


def test_where_the_database_survived_no_password_came_back(written, runbook):
    written.run("20260101T000000Z-0001", [{"name": "one", "phases": ["detect", "restore objects", "start"]}])
    assert "Rotate it again" not in runbook()


def test_targets_and_figures_are_told_with_their_source(written, runbook):
    written.run("20260101T000000Z-0001", [{"name": "one"}])
    text = runbook()
    assert "measured, target 1 h (the profile)" in text
    assert "- Recovery point: 250 ms measured, no target" in text
    assert "run `20260101T000000Z-0001`" in text


def test_a_run_s_own_directories_are_named_by_what_they_hold(written, runbook):
    places = {"backup set": "/d/backups", "archive": "/d/archive", "data directory": "/d/pg/data", "scratch": "/d/pg"}
    words = ["--pgdata=/d/pg/data", "/d/backups/2026-0001-2/database", "/d/pg/x", "cp /d/archive/%f", "/d/archives"]
    drill = {
        "name": "one",
        "opened": {"places": places},
        "commands": [["unshare", "-U", "--", "/opt/bin/pg_ctl", *words, "password=a-password"]],
        "more": {"env": ["PGPASSFILE"], "stdin": "/d/pg/roles.sql"},
    }
    written.run("20260101T000000Z-0001", [drill])
    assert (
        "exit 0; variables PGPASSFILE:\n\n```sh\nunshare -U -- pg_ctl '--pgdata=<data directory>'"
        " '<backup set>/database' '<scratch>/x' 'cp <archive>/%f' /d/archives 'password=[redacted]'"
        " < '<scratch>/roles.sql'\n```"
    ) in runbook()


def test_there_is_one_procedure_for_each_choice_of_methods_and_total_loss_comes_first(written, runbook):
    drills = [
        {"name": "some-dropped", "disaster": "table_dropped", "phases": ["detect", "shut out", "restore database"]},
        {"name": "some-lost"},
        {"name": "other-lost", "methods": {"database": "basebackup_wal"}},
    ]
    written.run("20260101T000000Z-0001", drills)
    text = runbook()
    assert [line for line in text.splitlines() if line.startswith("- Drilled: ")] == [
        "- Drilled: some-lost, disaster total_loss",
        "- Drilled: other-lost, disaster total_loss",
    ]


def test_a_restore_that_was_disturbed_on_purpose_is_not_the_one_to_follow(written, runbook):
    disturbed = ["detect", "restore database, killed", "provision again", "restore database"]
    plain = ["detect", "shut out", "restore database"]
    drills = [
        {"name": "killed", "disaster": "restore_killed", "phases": disturbed},
        {"name": "wiped", "disaster": "data_directory_wiped", "phases": plain},
    ]
    written.run("20260101T000000Z-0001", drills)
    assert "- Drilled: wiped" in runbook()


def test_every_disaster_of_the_run_is_told_with_what_was_restored(written, runbook):
    plan = {
        "database": "restored to the instant before the disaster",
        "objects": "survived",
        "configuration": "survived",
    }
    drills = [{"name": "a"}, {"name": "b", "disaster": "table_dropped", "opened": {"plan": plan}}]
    written.run("20260101T000000Z-0001", drills)
    text = runbook()
    assert "| total_loss | age + pg_dump + rclone | not restored | restored | not restored |" in text
    assert "| table_dropped | age + pg_dump + rclone | survived | restored to the instant before the disaster |" in text


def test_what_was_not_tested_and_what_did_not_pass_is_named_and_is_no_procedure(written, runbook):
    failed = {"name": "bad", "methods": {"objects": "versions"}, "verdict": "failed"}
    written.run("20260101T000000Z-0001", [{"name": "good"}, failed])
    text = runbook()
    assert "- Restored in it: database\n" in text
    assert "- objects' tags: not kept\n- the product itself" in text
    assert "- bad did not pass (failed): RPO missed" in text
    assert "objects by versions" not in text


def test_the_newest_finished_run_of_just_that_profile_counts(written, runbook, tmp_path):
    profile = tmp_path / "ours.toml"
    profile.write_text("[deployment]\n")
    ours = (profile.name, hashlib.sha256(profile.read_bytes()).hexdigest())
    written.run("20260101T000000Z-0001", [{"name": "old"}], profile=ours)
    written.run("20260102T000000Z-0002", [{"name": "new"}], profile=ours)
    written.run("20260103T000000Z-0003", [{"name": "aborted"}], profile=ours, closed=False)
    written.run("20260104T000000Z-0004", [], profile=ours)
    written.run("20260105T000000Z-0005", [{"name": "built-in"}])
    text = runbook("--profile", profile)
    assert text.startswith("# Restoring the deployment of profile ours.toml\n\nMeasured in run `20260102T000000Z-0002`")


def test_without_a_run_of_the_profile_it_says_how_to_make_one(written, runbook, tmp_path):
    profile = tmp_path / "ours.toml"
    profile.write_text("[deployment]\n")
    written.run("20260101T000000Z-0001", [{"name": "one"}], profile=("ours.toml", "0" * 64))
    status, said = runbook("--profile", profile)
    assert status == NOTHING
    assert "run 20260101T000000Z-0001 was of that name, and of another content" in said
    assert f"pytest drills --profile {profile}" in said
    assert runbook()[0] == NOTHING


def test_a_shadow_restore_has_no_runbook_and_does_not_hide_an_older_one(written, runbook):
    shadow = {"name": "shadow", "opened": {"level": "shadow"}, "methods": {}}
    written.run("20260102T000000Z-0002", [shadow])
    status, said = runbook()
    assert status == NOTHING
    assert "run 20260102T000000Z-0002 is a shadow restore, which has no runbook" in said and "lacks" not in said
    written.run("20260101T000000Z-0001", [{"name": "one"}])
    assert "run `20260101T000000Z-0001`" in runbook()


def test_where_the_newest_run_is_of_another_profile_and_none_was_named_that_is_told(written, capsys):
    def said():
        return main(["runbook", f"--runs-directory={written.runs}"]), capsys.readouterr()

    written.run("20260102T000000Z-0002", [{"name": "theirs"}], profile=("ours.toml", "0" * 64))
    status, printed = said()
    assert status == NOTHING and "name the profile by --profile FILE (ours.toml)" in printed.err
    written.run("20260101T000000Z-0001", [{"name": "built-in"}])
    status, printed = said()
    assert status == PRINTED and "20260101T000000Z-0001" in printed.out
    assert "a newer run is of profile ours.toml" in printed.err


def test_of_a_server_that_lived_on_nothing_is_shown_that_only_the_suites_own_has(written, runbook):
    phases = ["detect", "shut out", "provision", "restore configuration", "restore database", "start"]
    written.run("20260101T000000Z-0001", [{"name": "one", "phases": phases}])
    ours = ("pg_ctl", "CREATE ROLE postgres;", "environment.json'", "empty servers", "role and keys in")
    assert [each for each in ours if each not in runbook()] == []
    written.run("20260102T000000Z-0002", [{"name": "one", "phases": phases, "provider": "attached"}])
    theirs = runbook()
    assert [each for each in ours if each in theirs] == []
    assert "SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles" in theirs and "values.json" in theirs


@pytest.mark.parametrize("verdict", ["failed", "error"])
def test_where_nothing_passed_there_is_no_procedure_to_follow(verdict, written, runbook):
    written.run("20260101T000000Z-0001", [{"name": "one", "verdict": verdict}])
    status, said = runbook()
    assert status == NOTHING and f"one: {verdict}" in said


def test_without_the_evidence_nothing_is_known_to_have_passed(written, runbook):
    (written.run("20260101T000000Z-0001", [{"name": "one"}]) / "evidence.json").unlink()
    assert runbook()[0] == NOTHING


@pytest.mark.parametrize("content", [None, b"= not TOML", b"\xff"])
def test_an_unreadable_profile_is_unusable(content, runbook, tmp_path):
    profile = tmp_path / "ours.toml"
    if content is not None:
        profile.write_bytes(content)
    assert runbook("--profile", profile)[0] == UNUSABLE


def test_an_altered_journal_is_unusable(written, runbook):
    journal = written.run("20260101T000000Z-0001", [{"name": "one"}]) / "journal.jsonl"
    journal.write_text(journal.read_text().replace("pg_restore", "rm"))
    status, said = runbook()
    assert status == UNUSABLE and "do not trust this run" in said


def test_a_bare_call_and_help_explain_and_an_unknown_option_is_unusable(capsys):
    assert main([]) == PRINTED and "runbook" in capsys.readouterr().out
    assert main(["runbook", "--help"]) == PRINTED and "exit status: 0 printed" in capsys.readouterr().out
    assert main(["runbook", "--nonsense"]) == UNUSABLE


def test_a_real_run_of_this_checkout_yields_its_own_commands(capsys):
    if main(["runbook", f"--runs-directory={RUNS}"]) != PRINTED:
        pytest.skip("no finished run of the built-in profile that passed")
    text = capsys.readouterr().out
    assert "### 1. Detect: " in text and ". First transaction: " in text
    assert "```sh\n" in text and "enprivacy-drills-" not in text

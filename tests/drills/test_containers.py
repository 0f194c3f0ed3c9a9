"""Drills in containers: evidence like that of the embedded deployment, and nothing left in the engine."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import docker
import psutil
import pytest

from fixtures.providers.containers.clearing import LABEL, require_listener
from fixtures.providers.containers.engine import engine_address
from fixtures.providers.containers.image import OWN_BASE
from reports.records import wait_until

LITTLE = "--scale=documents=4,database=64KiB"
# Who and when: never the same in two runs.
OF_ONE_RUN = re.compile(
    r".*_ns|.*_utc|.*sha256|run_id|command|deployment|breaks|felt|lost_cases|worst_channel|(first|last)_.*_probe"
)
# How much was written while the drill lasted; a drill in containers lasts longer.
WRITTEN = re.compile(
    r"bytes|files|rows|objects|orphaned|referenced|references|jobs|lines|events.*|of them.*|bytes of logs|processes"
    r"|failed_probes|recovered|lost|attempted|acknowledged.*|indeterminate|lost_before_shut|actions.*|in flight"
)


@pytest.fixture(scope="module")
def engine():
    """A client of the engine; where the environment says that one must be there, its absence is a failure."""
    try:
        require_listener(engine_address())  # a client that finds nobody leaves its socket behind
        made = docker.from_env(timeout=60)
    except (OSError, docker.errors.DockerException):
        assert "CONTAINERS_REQUIRED" not in os.environ, "CI has started an engine"
        pytest.skip("no Docker engine answers: docs/containers.md")
    with contextlib.closing(made):
        yield made


def without_times(value):
    """Evidence without what a run's times decide, in an order of its own."""
    if isinstance(value, dict):
        return {
            key: without_times(each)
            for key, each in value.items()
            if not OF_ONE_RUN.fullmatch(key) and not (WRITTEN.fullmatch(key) and type(each) is int)
        }
    if isinstance(value, list):
        return sorted((without_times(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    if isinstance(value, str):
        return re.sub(r"port \d+", "port", value).replace("containers", "embedded")
    return value


@pytest.fixture
def make_suite(suite, tmp_path):
    def make(name, **environment):
        (tmp_path / name).mkdir(exist_ok=True)
        return type(suite)(tmp_path / name, **environment)

    return make


def of_the_run(engine, run):
    mine = {"filters": {"label": f"{LABEL}={run}"}}
    return [*engine.containers.list(all=True, ignore_removed=True, **mine), *engine.networks.list(**mine)]


def test_evidence_that_differs_in_more_than_times_is_told_apart():
    check = {
        "check": "strike",
        "verdict": "passed",
        "findings": 0,
        "duration_ns": 1,
        "looked_at": {"tables": 3, "rows": 9},
    }
    evidence = {"drills": [{"checks": [check], "controls": {"rows": [{"control": "row lost", "caught": True}]}}]}
    same, *others = (json.loads(json.dumps(evidence)) for _ in range(4))
    same["drills"][0]["checks"][0] |= {"duration_ns": 2, "looked_at": {"tables": 3, "rows": 10}}
    others[0]["drills"][0]["checks"][0]["verdict"] = "not tested"
    others[1]["drills"][0]["checks"][0]["looked_at"]["tables"] = 2
    others[2]["drills"][0]["controls"]["rows"][0]["caught"] = False
    assert without_times(same) == without_times(evidence)
    assert all(without_times(other) != without_times(evidence) for other in others)


@pytest.mark.slow
def test_containers_and_embedded_give_the_same_evidence_times_apart(make_suite, engine):
    seen = {}
    for provider in ("embedded", "containers"):
        suite = make_suite(provider)
        exit_code, output = suite.run("--provider", provider)
        assert exit_code == 0, output
        seen[provider] = suite.evidence()
        assert seen[provider]["drills"][0]["provider"] == provider
        assert seen[provider]["verdict"] == "passed"
        (run,) = suite.runs.glob("*/")
        verify = [sys.executable, "-m", "reports", "verify", run]
        assert subprocess.run(verify, cwd=Path(__file__).parents[2], capture_output=True).returncode == 0
    tools = seen["containers"]["drills"][0]["tools"]
    assert tools.pop("docker")
    assert {tools.pop(f"image {part}").split()[1][:7] for part in ("postgresql", "objects", "application")} == {
        "sha256:"
    }
    assert without_times(seen["containers"]) == without_times(seen["embedded"])
    assert of_the_run(engine, run.name) == [], "the run was the one in containers, and has ended"


@pytest.mark.slow
def test_a_killed_runs_containers_are_removed_by_its_guardian_or_named_and_cleared_by_the_next_run(make_suite, engine):
    suite = make_suite("killed")
    run = killed_while_drilling(suite, engine, guardian=False)
    wait_until(
        lambda: not of_the_run(engine, run), seconds=30, interval=0.1, what="the guardian to remove the containers"
    )
    wait_until(lambda: not suite.left()[1:], seconds=30, interval=0.1, what="the work directory to go")
    run = killed_while_drilling(suite, engine, guardian=True)
    others = engine.networks.create("of-nobody-s-run", labels={LABEL: "of-another-run"})
    try:
        assert {each.name.rpartition("-")[2] for each in of_the_run(engine, run)} >= {"web", "postgresql"}
        exit_code, output = suite.run("--provider", "containers", "-k", "pg_dump-rclone-total_loss", LITTLE)
        assert exit_code == 0, output
        assert re.search(f"cleared what run {run} left: .*container enprivacy-drills-{run}-deployment-.*-web", output)
        assert of_the_run(engine, run) == []
        assert engine.networks.list(names=[others.name]), "what is another's stays"
    finally:
        others.remove()


def killed_while_drilling(suite, engine, *, guardian):
    """Start a drill in containers, kill it with SIGKILL once its services run, and its guardian too; the run's id."""
    before = {path.name for path in suite.runs.glob("*/")}
    popen = suite.start("--provider", "containers", LITTLE)
    try:

        def serves():
            assert popen.poll() is None, suite.output.read_text("utf-8")
            new = {path.name for path in suite.runs.glob("*/")} - before
            return new and any(each.name.endswith("-postgresql") for each in of_the_run(engine, *new))

        wait_until(serves, seconds=120, interval=0.1, what="a container of PostgreSQL")
        (run,) = {path.name for path in suite.runs.glob("*/")} - before
        if guardian:
            for process in psutil.process_iter(["cmdline"]):
                if "fixtures.guardian" in (process.info["cmdline"] or ()) and run in process.info["cmdline"]:
                    process.kill()
        popen.send_signal(signal.SIGKILL)
    finally:
        popen.kill()
        popen.wait()
    return run


def assert_not_tested(suite, exit_code, output, reason):
    assert exit_code == 1, output
    evidence = suite.evidence()
    assert evidence["verdict"] == "error", "nothing was drilled"
    (row,) = [row for row in evidence["not_tested"] if row["what"] == "provider containers"]
    assert re.search(reason, row["reason"])
    assert "Traceback" not in output


def test_without_an_engine_nothing_is_tested_and_the_reason_says_what_to_install(make_suite, tmp_path):
    suite = make_suite("absent", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert_not_tested(
        suite, *suite.run("--provider", "containers"), "no Docker engine answers at .*none.sock.*docker.io"
    )


def test_an_engine_elsewhere_is_not_used(make_suite):
    suite = make_suite("elsewhere", DOCKER_HOST="tcp://127.0.0.1:9")
    assert_not_tested(suite, *suite.run("--provider", "containers"), "need not see this machine's files")


def test_an_image_without_postgresql_is_named(make_suite, engine, tmp_path):
    if not engine.images.list(name=OWN_BASE):
        pytest.skip(f"{OWN_BASE} is not here: fixtures/providers/containers/make-base")
    (tmp_path / "profile.toml").write_text(f'[deployment]\nname = "bare"\n[containers]\npostgres = "{OWN_BASE}"\n')
    suite = make_suite("bare")
    told = suite.run("--profile", str(tmp_path / "profile.toml"), "--provider", "containers")
    assert_not_tested(suite, *told, f"the image {OWN_BASE} holds .*not found")

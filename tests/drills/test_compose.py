"""Drills of a compose file: struck and restored, and an operator's own project of the same file is not touched."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import docker
import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fixtures.network import free_ports
from fixtures.processes import Processes
from fixtures.providers.compose.program import ComposeProgram, find_compose
from fixtures.providers.compose.project import OF_PROJECT, project_name
from fixtures.providers.containers.clearing import LABEL, require_listener
from fixtures.providers.containers.engine import engine_address
from reports.records import Clock, Redactor, wait_until

ROOT = Path(__file__).parents[2]
PORTS = ("DATABASE_PORT", "OBJECTS_PORT", "WEB_PORT", "JOB_PORT", "LLM_PORT", "OCR_PORT")
SECRETS = ("POSTGRES_PASSWORD", "OPERATOR_SECRET", "APPLICATION_SECRET", "API_KEY")


def absent(reason):
    assert "CONTAINERS_REQUIRED" not in os.environ, f"CI has one: {reason}"
    pytest.skip(f"{reason}: docs/compose.md")


@pytest.fixture(scope="module")
def engine():
    try:
        require_listener(engine_address())  # a client that finds nobody leaves its socket behind
        made = docker.from_env(timeout=60)
    except (OSError, docker.errors.DockerException):
        absent("no Docker engine answers")
    with contextlib.closing(made):
        yield made


@pytest.fixture(scope="module")
def program(engine, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    found = find_compose(Processes(run_id="none", logs=logs, clock=Clock.start(), redactor=Redactor()))
    if not isinstance(found, ComposeProgram):
        absent(found)
    return found.words


@pytest.fixture
def file(tmp_path, program):
    """The example in a directory of the test's, prepared for ports of its own."""
    directory = tmp_path / "compose"
    ignored = shutil.ignore_patterns(".env", "services.env", "__pycache__")
    shutil.copytree(ROOT / "examples/compose", directory, ignore=ignored)
    profile = directory / "profile.toml"
    profile.write_text(profile.read_text().replace("../../", f"{ROOT}/"))
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    prepare = {**os.environ, **ports, "SUITE": str(ROOT), "PYTHON": sys.executable}
    subprocess.run([directory / "prepare.sh"], check=True, env=prepare, capture_output=True)
    return directory / "docker-compose.yml"


@pytest.fixture
def drilled(suite, file):
    """Starts the suite on the file, with what its operator has exported."""
    lines = (file.parent / ".env").read_text().splitlines()
    suite.environment |= dict(line.split("=", 1) for line in lines)
    suite.arguments = [
        "--provider",
        "compose",
        "--compose",
        str(file),
        "--profile",
        str(file.with_name("profile.toml")),
    ]
    return suite


def everything(engine, key, value):
    mine = {"filters": {"label": f"{key}={value}"}}
    there = [*engine.containers.list(all=True, ignore_removed=True, **mine), *engine.networks.list(**mine)]
    return there + engine.volumes.list(**mine)


@pytest.mark.slow
def test_it_is_struck_and_restored_and_the_operators_own_project_of_the_same_file_stays(drilled, file, engine, program):
    other = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    theirs = [*program, "--project-name", "of-its-operator", "--file", str(file)]
    secret = [drilled.environment[name] for name in SECRETS]
    before = (file.parent / "services.env").read_bytes()
    try:
        subprocess.run([*theirs, "up", "-d", "db", "objects"], check=True, env=drilled.environment | other)
        stood = {each.id: each.attrs["State"]["StartedAt"] for each in of_operator(engine)}
        theirs_dsn = make_conninfo(
            host="127.0.0.1", port=other["DATABASE_PORT"], user="postgres", dbname="postgres",
            password=drilled.environment["POSTGRES_PASSWORD"],
        )  # fmt: skip
        wait_until(lambda: answers(theirs_dsn), seconds=60, interval=0.1, what="the operator's own database")
        with psycopg.connect(theirs_dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE theirs AS SELECT system_identifier FROM pg_control_system()")
        exit_code, output = drilled.run(*drilled.arguments)
        assert exit_code == 0, output
        assert {each.id: each.attrs["State"]["StartedAt"] for each in of_operator(engine)} == stood
        with psycopg.connect(theirs_dsn) as connection:
            same = "SELECT t.system_identifier = c.system_identifier FROM theirs t, pg_control_system() c"
            assert connection.execute(same).fetchone() == (True,)
    finally:
        subprocess.run([*theirs, "down", "-v"], check=True, env=drilled.environment | other)
    assert (file.parent / "services.env").read_bytes() == before
    evidence = drilled.evidence()
    (drill,) = evidence["drills"]
    assert (drill["provider"], drill["verdict"]) == ("compose", "passed")
    assert drill["controls"]["caught"] == drill["controls"]["planted"] > 50
    assert {"docker compose", "image db"} <= drill["tools"].keys()
    (run,) = (path.name for path in drilled.runs.glob("*/"))
    journal = [json.loads(line) for line in (drilled.runs / run / "journal.jsonl").read_text().splitlines()]
    (proven,) = [each["proofs"] for each in journal if each["kind"] == "strike.proven"]
    assert {"containers", "volumes", "configuration", "db", "web"} <= {each["what"].split(",")[0] for each in proven}
    assert {each["seen"] for each in proven} == {"gone"}
    assert everything(engine, LABEL, run) == [] == everything(engine, OF_PROJECT, project_name(run))
    texts = [output, *(each.read_text(errors="replace") for each in drilled.runs.rglob("*") if each.is_file())]
    secret += [line.partition("=")[2] for line in before.decode().splitlines() if "KEY=" in line or "SECRET=" in line]
    assert [value for value in secret for text in texts if value in text] == []


def answers(dsn):
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn, connect_timeout=2):
        return True
    return False


def of_operator(engine):
    return engine.containers.list(filters={"label": f"{OF_PROJECT}=of-its-operator"})


def assert_refused(drilled, engine, *told):
    exit_code, output = drilled.run(*drilled.arguments)
    assert exit_code == 4, output
    flat = " ".join(output.split())
    assert [text for text in told if text not in flat] == [], output
    assert "Traceback" not in output
    mine = {"label": f"{OF_PROJECT}.working_dir={Path(drilled.arguments[3]).parent}"}
    assert engine.containers.list(all=True, filters=mine) == []


def test_fixed_names_and_anothers_volume_are_refused_by_name(drilled, file, engine):
    text = file.read_text().replace(
        "  objects:\n    image", "  objects:\n    container_name: acme-objects\n    image", 1
    )
    file.write_text(text.replace("\n  database:\n", "\n  database: {external: true, name: acme-data}\n"))
    assert_refused(
        drilled, engine, "services.objects.container_name: acme-objects", "volumes.database: external, acme-data",
        "Nothing was made",
    )  # fmt: skip


def test_a_port_that_is_taken_is_told(drilled, engine):
    with socket.create_server(("127.0.0.1", int(drilled.environment["JOB_PORT"]))):
        assert_refused(drilled, engine, f"taken: {drilled.environment['JOB_PORT']} (job)", "Nothing was made")


def test_a_store_of_the_profile_that_is_not_the_files_is_refused(drilled, engine):
    drilled.environment["DATABASE_PORT"], other = str(free_ports(1)[0]), drilled.environment["DATABASE_PORT"]
    profile = Path(drilled.arguments[-1])
    profile.write_text(profile.read_text().replace("${DATABASE_PORT}", other))
    assert_refused(drilled, engine, f"127.0.0.1:{other}, which is no port", "Nothing was made")


def test_a_file_that_the_program_refuses_is_told_in_its_own_words(drilled, file, engine):
    file.write_text(file.read_text().replace("depends_on:", "depend_on:", 1))
    assert_refused(drilled, engine, "services.install.depend_on")


def test_without_an_engine_nothing_is_tested_and_the_reason_says_what_to_install(drilled, tmp_path):
    drilled.environment["DOCKER_HOST"] = f"unix://{tmp_path}/none.sock"
    exit_code, output = drilled.run(*drilled.arguments)
    assert exit_code == 1, output
    (row,) = [row for row in drilled.evidence()["not_tested"] if row["what"] == "provider compose"]
    assert re.search(r"no Docker engine answers at .*none\.sock.*docker\.io", row["reason"])


def test_without_the_program_nothing_is_tested_and_the_reason_says_so(drilled, tmp_path):
    if Path(sys.executable).with_name("docker-compose").exists():
        pytest.skip("it lies beside Python")
    for name in ("unshare", "setpriv"):  # what the suite looks for before
        (tmp_path / name).symlink_to(shutil.which(name))
    drilled.environment["PATH"] = str(tmp_path)
    exit_code, output = drilled.run(*drilled.arguments)
    assert exit_code == 1, output
    (row,) = [row for row in drilled.evidence()["not_tested"] if row["what"] == "provider compose"]
    assert "install Docker's compose plugin" in row["reason"]


@pytest.mark.slow
def test_what_a_killed_run_leaves_its_guardian_clears_or_else_the_next_run_which_names_it(drilled, file, engine):
    run = killed(drilled, engine, when=1, guardian=False)
    wait_until(lambda: not everything(engine, LABEL, run), seconds=60, interval=0.2, what="the guardian to clear")
    wait_until(lambda: not (drilled.work / run).exists(), seconds=30, interval=0.2, what="the work directory to go")
    assert everything(engine, LABEL, run) == []
    run = killed(drilled, engine, when=7, guardian=True)
    assert everything(engine, LABEL, run)
    file.write_text("services: {}\n")
    exit_code, output = drilled.run(*drilled.arguments)
    assert exit_code == 4, output
    flat = " ".join(output.split())
    project = project_name(run)
    for left in (f"container {project}-db-1", f"volume {project}_database", f"network {project}_default"):
        assert re.search(f"cleared what run {run} left: .*{left}", flat), output
    assert everything(engine, LABEL, run) == [] == everything(engine, OF_PROJECT, project)


def killed(drilled, engine, *, when, guardian):
    """Start a drill, kill it with SIGKILL once so many containers are there, and its guardian too; the run's id."""
    before = {path.name for path in drilled.runs.glob("*/")}
    popen = drilled.start(*drilled.arguments)
    try:

        def begun():
            assert popen.poll() is None, drilled.output.read_text("utf-8")
            new = {path.name for path in drilled.runs.glob("*/")} - before
            mine = {"label": f"{LABEL}={next(iter(new), '')}"}
            return len(engine.containers.list(all=True, ignore_removed=True, filters=mine)) >= when

        wait_until(begun, seconds=120, interval=0.05, what="its containers")
        (run,) = {path.name for path in drilled.runs.glob("*/")} - before
        if guardian:
            for process in psutil.process_iter(["cmdline"]):
                if "fixtures.guardian" in (process.info["cmdline"] or ()) and run in process.info["cmdline"]:
                    process.kill()
        popen.send_signal(signal.SIGKILL)
    finally:
        popen.kill()
        popen.wait()
    return run

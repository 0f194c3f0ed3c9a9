"""The templates for schedulers: they are what their readers expect, and the commands in them run."""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from reports.run import Run
from reports.webhook import SECONDS

ROOT = Path(__file__).parents[1]
SCHEDULERS = ROOT / "examples" / "schedulers"
GITHUB = yaml.safe_load((SCHEDULERS / "github-actions.yml").read_text("utf-8"))
GITLAB = yaml.safe_load((SCHEDULERS / "gitlab-ci.yml").read_text("utf-8"))["restore-drills"]
CLAIM, CRONJOB = yaml.safe_load_all((SCHEDULERS / "kubernetes" / "cronjob.yaml").read_text("utf-8"))
POD = CRONJOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]
SERVICE = (SCHEDULERS / "systemd" / "enprivacy-drill.service").read_text("utf-8")
DOCKERFILE = (SCHEDULERS / "kubernetes" / "Dockerfile").read_text("utf-8")
ONE_DRILL = "pg_dump-rclone-total_loss"
# In place of the real one: it drills nothing, but refuses what pytest refuses and takes the selection that it is given.
# The run that it leaves is that of the one drill that is really run, and dates have all begun before it.
STAND_IN = f"""#!/bin/sh
case "$*" in
*" pytest "*) {{python}} "$@" --collect-only -q -k {ONE_DRILL} && cp -r {{run}} "$RUNS_OF_THE_TEST" ;;
*) exec {{python}} "$@" ;;
esac
"""
DATE = '#!/bin/sh\nexec {date} --date=2000-01-01 "$@"\n'


def steps(*, named=None):
    found = [step for step in GITHUB["jobs"]["drill"]["steps"] if "run" in step]
    return next(step for step in found if step["name"] == named) if named else found


def copied_into_the_image(place):
    """What the Dockerfile copies, less what its list of exceptions leaves out."""
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                left_out = shutil.ignore_patterns("__pycache__", ".*_cache", *(["runs"] if source == "reports" else []))
                shutil.copytree(ROOT / source, place / target, ignore=left_out)
            else:
                shutil.copy(ROOT / source, place / target)


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """What the image holds, with a virtual environment that is not made anew."""
    place = tmp_path / "checkout"
    place.mkdir()
    copied_into_the_image(place)
    shutil.copy(ROOT / "Makefile", place)
    program(place / ".venv" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (place / ".venv" / ".ready").touch()
    return place


@pytest.fixture
def chat():
    """A webhook that takes everything."""
    taken = []

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield SimpleNamespace(taken=taken, url=f"http://127.0.0.1:{server.server_port}/services/of-the-test")
        server.shutdown()
        thread.join()


def shell(script, place, *, timeout=100, **environment):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ENPRIVACY_", "PYTEST_"))}
    argv = script if isinstance(script, list) else ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(
        argv, cwd=place, env={**own, "NO_PROXY": "127.0.0.1", **environment}, capture_output=True, text=True,
        timeout=timeout,
    )  # fmt: skip


@pytest.mark.slow
def test_the_container_drills_keeps_the_run_and_tells_of_it_where_it_is_late(checkout, chat, tmp_path):
    """The one drill that is really run: the files that the image holds suffice for it, and its target is not met."""
    (container,) = POD["containers"]
    settings = {each["name"]: each["value"] for each in container["env"]}
    (tmp_path / "webhook").write_text(chat.url)
    settings |= {"ENPRIVACY_RUNS": str(tmp_path / "runs"), "ENPRIVACY_WEBHOOK_FILE": str(tmp_path / "webhook")}
    del settings["ENPRIVACY_EVIDENCE_KEY"]
    arguments = [word.replace("/work/", f"{tmp_path}/work/") for word in container["args"]]
    entry = re.search(r'ENTRYPOINT \["/opt/enprivacy-drills/(.+)"\]', DOCKERFILE)[1]
    ended = shell([entry, *arguments, "--rto", "1ms", "-k", ONE_DRILL], checkout, timeout=280, **settings)
    assert ended.returncode == 1, ended.stdout[-3000:] + ended.stderr[-3000:]
    (run,) = (tmp_path / "runs").glob("2*")
    assert json.loads((run / "evidence.json").read_text("utf-8"))["verdict"] == "failed"
    assert "figures    every figure computed again" in ended.stdout
    (message,) = chat.taken
    assert message["text"].startswith("Restore drills: failed\n") and "`RTO-EXCEEDED`" in message["text"]
    assert chat.url not in ended.stdout + ended.stderr
    assert not any(chat.url.encode() in file.read_bytes() for file in run.rglob("*") if file.is_file())


@pytest.fixture
def collecting(checkout, tmp_path):
    """The checkout, in which a drill is only collected; the runs directory holds an aborted run afterwards."""
    run = Run(tmp_path / "made")
    run.journal.close()
    python, date = shlex.quote(sys.executable), shutil.which("date")
    program(checkout / ".venv" / "bin" / "python", STAND_IN.format(python=python, run=run.directory))
    program(tmp_path / "bin" / "date", DATE.format(date=date))
    (checkout / "reports" / "runs").mkdir()
    return checkout, {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                      "RUNS_OF_THE_TEST": str(checkout / "reports" / "runs")}  # fmt: skip


def test_every_step_of_the_github_workflow_runs(collecting, chat, tmp_path):
    checkout, environment = collecting
    handed_on = tmp_path / "github.env"
    environment |= {
        "GITHUB_ENV": str(handed_on), "RUNNER_TEMP": str(tmp_path), "GITHUB_SERVER_URL": "https://ci.example",
        "GITHUB_REPOSITORY": "acme/drills", "GITHUB_RUN_ID": "1", **GITHUB["jobs"]["drill"]["env"],
    }  # fmt: skip
    secrets = {"ENPRIVACY_WEBHOOK": chat.url, "EVIDENCE_KEY": "-----BEGIN\nKEY-----", "CACHED": "true"}
    codes = {}
    for step in steps():
        ended = shell(step["run"], checkout, **environment, **{name: secrets[name] for name in step.get("env", ())})
        codes[step["name"]] = ended.returncode
        handed = handed_on.read_text().splitlines()
        environment |= dict(line.split("=", 1) for line in handed)
    assert codes == {"Set up": 0, "Drill": 0, "Hold the evidence against its files": 1, "Tell of what did not pass": 0}
    assert Path(environment["ENPRIVACY_EVIDENCE_KEY"]).read_text() == "-----BEGIN\nKEY-----\n"
    assert Path(environment["ENPRIVACY_EVIDENCE_KEY"]).stat().st_mode & 0o777 == 0o600
    (message,) = chat.taken
    assert "https://ci.example/acme/drills/actions/runs/1" in message["text"]


def test_the_lines_of_the_gitlab_job_run(collecting, chat):
    checkout, environment = collecting
    values = {
        name: str(value).replace("$CI_JOB_URL", "https://gl.example/1") for name, value in GITLAB["variables"].items()
    }
    (checkout / "hook").write_text(chat.url)
    environment |= {**values, "ENPRIVACY_WEBHOOK_FILE": str(checkout / "hook")}
    ended = shell("\n".join([*GITLAB["before_script"], *GITLAB["script"]]), checkout, **environment)
    assert ended.returncode == 1, ended.stdout + ended.stderr  # the run that is left here was aborted
    (message,) = chat.taken
    (run,) = (checkout / "reports" / "runs").glob("2*")
    assert f"https://gl.example/1/artifacts/browse/reports/runs/{run.name}" in message["text"]
    assert message["text"].startswith("Restore drills: aborted")
    (run / "junit.xml").write_text("<testsuites/>")
    assert shell("\n".join(GITLAB["after_script"]), checkout).returncode == 0
    assert (checkout / GITLAB["artifacts"]["reports"]["junit"]).read_text() == "<testsuites/>"


def test_the_command_of_the_systemd_service_runs(collecting, tmp_path):
    checkout, environment = collecting
    (command,) = re.findall(r"^ExecStart=/opt/enprivacy-drills/(.+)$", SERVICE, re.MULTILINE)
    (settings,) = re.findall(r"^Environment=(.+)$", SERVICE, re.MULTILINE)
    environment |= dict(each.split("=", 1) for each in shlex.split(settings.replace("%S", str(tmp_path))))
    Path(environment["ENPRIVACY_RUNS"]).mkdir(parents=True)
    environment["RUNS_OF_THE_TEST"] = environment["ENPRIVACY_RUNS"]
    ended = shell(shlex.split(command.replace("%C", str(tmp_path))), checkout, **environment)
    assert ended.returncode == 1 and "nobody is told" in ended.stderr
    assert ONE_DRILL in ended.stdout and "aborted" in ended.stdout


def test_an_option_that_is_misspelt_is_seen(collecting, chat):
    checkout, environment = collecting
    environment |= {"ENPRIVACY_WEBHOOK": chat.url}
    ended = shell(["examples/schedulers/drill.sh", "--tragets", "standard"], checkout, **environment)
    assert ended.returncode == 4 and "unrecognized arguments: --tragets" in ended.stderr
    assert "no run was recorded" in chat.taken[0]["text"]


def test_a_drill_that_hangs_is_interrupted_and_told(collecting, chat):
    checkout, environment = collecting
    program(checkout / ".venv" / "bin" / "python", f"""#!/bin/sh
case "$*" in
*" pytest "*) exec sleep 60 ;;
*) exec {sys.executable} "$@" ;;
esac
""")  # fmt: skip
    environment |= {"ENPRIVACY_WEBHOOK": chat.url, "ENPRIVACY_DRILL_SECONDS": "0.3"}
    assert shell(["examples/schedulers/drill.sh"], checkout, timeout=SECONDS + 20, **environment).returncode == 124
    assert "no run was recorded" in chat.taken[0]["text"]


def test_the_github_workflow_may_only_read_and_keeps_the_evidence_whatever_happens():
    job = GITHUB["jobs"]["drill"]
    assert GITHUB["permissions"] == {"contents": "read"}
    assert set(GITHUB[True]) == {"schedule", "workflow_dispatch"}  # YAML reads the key "on" as true
    assert GITHUB["concurrency"]["cancel-in-progress"] is False
    assert all(re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    after = job["steps"][job["steps"].index(steps(named="Drill")) + 2 :]
    assert [step["if"].startswith("${{ always()") for step in after] == [True] * 3
    restored, saved = (step["with"] for step in job["steps"] if "/cache/" in step.get("uses", ""))
    assert restored["key"] == saved["key"] and restored["key"].startswith(restored["restore-keys"])
    assert not any("secrets." in step["run"] for step in steps())
    assert steps(named="Drill")["timeout-minutes"] < job["timeout-minutes"]


def test_the_gitlab_job_keeps_the_evidence_whatever_happens():
    assert GITLAB["artifacts"]["when"] == GITLAB["cache"][1]["when"] == "always"
    assert GITLAB["artifacts"]["paths"] == GITLAB["cache"][1]["paths"] == ["reports/runs/"]
    assert GITLAB["resource_group"] and GITLAB["interruptible"] is False


def test_the_cron_job_never_drills_twice_and_runs_without_rights():
    (container,) = POD["containers"]
    assert CRONJOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert CRONJOB["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0 and POD["restartPolicy"] == "Never"
    assert POD["securityContext"]["runAsNonRoot"] and POD["automountServiceAccountToken"] is False
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert f"useradd --uid {POD['securityContext']['runAsUser']} " in DOCKERFILE
    assert f"USER {POD['securityContext']['runAsUser']}:" in DOCKERFILE
    seconds = {each["name"]: each["value"] for each in container["env"]}["ENPRIVACY_DRILL_SECONDS"]
    assert CRONJOB["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] >= int(seconds) + 120 + 60


def test_what_the_cron_job_mounts_is_there():
    (container,) = POD["containers"]
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    places = [mount["mountPath"] for mount in container["volumeMounts"]]
    paths = [each["value"] for each in container["env"] if each["value"].startswith("/")]
    assert all(any(path == place or path.startswith(f"{place}/") for place in places) for path in paths)


def test_the_image_holds_no_evidence_and_what_its_file_names_is_there():
    kept, left_out = [], []
    for line in (SCHEDULERS / "kubernetes" / "Dockerfile.dockerignore").read_text("utf-8").splitlines():
        (kept if line.startswith("!") else left_out).append(line.removeprefix("!"))
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    assert copied == set(kept) and all((ROOT / name).exists() for name in copied)
    assert "reports/runs" in left_out and "*" in left_out
    assert "--require-hashes" in DOCKERFILE


def test_a_docker_engine_takes_the_dockerfile():
    if not shutil.which("docker") or shell(["docker", "buildx", "version"], ROOT).returncode:
        pytest.skip("no docker with buildx, which checks a Dockerfile, is installed")
    if shell(["docker", "version"], ROOT).returncode:
        pytest.skip("no Docker engine answers")
    argv = ["docker", "build", "--check", "-f", "examples/schedulers/kubernetes/Dockerfile", "."]
    ended = shell(argv, ROOT)
    if "failed to resolve source metadata" in ended.stderr:
        pytest.skip("no registry of images is in reach")
    assert ended.returncode == 0, ended.stderr


def test_systemd_takes_the_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for unit in (SCHEDULERS / "systemd").iterdir():
        text = unit.read_text("utf-8").replace("/opt/enprivacy-drills", str(ROOT))
        (tmp_path / unit.name).write_text(re.sub(r"^User=.*", "User=root", text, flags=re.MULTILINE))
    ended = shell(["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())], ROOT)
    ours = [line for line in ended.stderr.splitlines() if "enprivacy" in line]
    assert ours == [] and ended.returncode == 0, ended.stderr
    (tmp_path / "enprivacy-drill.service").write_text(SERVICE.replace("KillMode=mixed", "KillMode=gently"))
    assert "gently" in shell(["systemd-analyze", "verify", str(tmp_path / "enprivacy-drill.service")], ROOT).stderr


def test_no_template_puts_a_secret_on_a_command_line():
    for template in (path for path in SCHEDULERS.rglob("*") if path.is_file() and path.suffix != ".md"):
        text = template.read_text("utf-8")
        assert not re.search(r"--[a-z-]*(?:webhook|password|secret|token|key)[a-z-]*[ =]\"?\$", text), template

"""Starts and stops one service of a deployment that is not the suite's: ``somebody.py start NAME FILE HOME``."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def start(name, file, home):
    """Start it as a daemon that outlives whoever asked; does nothing where it runs."""
    if running(name, home):
        return
    values = dict(line.split("=", 1) for line in file.read_text("utf-8").splitlines() if line and line[0] != "#")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home / name), "PYTHONPATH": str(ROOT), **values}
    with (home / f"{name}.out").open("ab") as out, (home / f"{name}.err").open("ab") as err:
        popen = subprocess.Popen(
            [sys.executable, "-m", "fixtures.refapp", name],
            env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, cwd=home,
        )  # fmt: skip
    (home / f"{name}.pid").write_text(str(popen.pid))


def running(name, home):
    try:
        pid = int((home / f"{name}.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else pid


def stop(name, file, home):
    """SIGKILL it, and return when it is gone."""
    if pid := running(name, home):
        os.kill(pid, signal.SIGKILL)
    while running(name, home):
        time.sleep(0.01)


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))

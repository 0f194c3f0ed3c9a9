"""Runs modules as ``python -m`` does, each in a process of its own, forked from one that has imported what they import.

A line of JSON asks for one: its words, environment, three files and a limit in seconds. A line answers: its exit code.
"""

import importlib
import json
import os
import runpy
import signal
import sys

# All but the plugins themselves, which pytest rewrites.
IMPORTED = ("pytest", "drills.shadow_opening", "drills.plan", "fixtures.arming", "fixtures.ground",
            "fixtures.providers.attached.destroyable", "fixtures.providers.embedded.deployment",
            "reports.run")  # fmt: skip
FLAGS = (os.O_RDONLY, *2 * [os.O_WRONLY | os.O_CREAT | os.O_TRUNC])


def main():
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            become(asked)
            return
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def become(asked):
    """Be that module; its ``SystemExit``, or its traceback, ends this process as it would end that one."""
    signal.alarm(asked["seconds"])
    for target, (file, flags) in enumerate(zip(asked["files"], FLAGS, strict=True)):
        os.dup2(os.open(file, flags), target)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # the old one holds what was read ahead
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["words"]
    runpy.run_module(asked["words"][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

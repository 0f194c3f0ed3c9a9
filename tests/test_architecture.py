"""The rooms' walls: who may import whom, who may start processes, who may read clocks. Read from the sources."""

import ast
import fnmatch
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("reports", "fixtures", "checks", "drills", "tests", "benchmarks")
RECORDS = "reports.records"
# What a file may import of this project, by the first pattern that matches its path; itself is always allowed.
MAY_IMPORT = {
    "reports/records.py": (),
    "reports/*": ("reports",),
    "fixtures/*": ("fixtures", RECORDS),
    "checks/*": ("checks", "fixtures", RECORDS),
    "drills/methods/*": ("drills.contract", "fixtures", RECORDS),
    "drills/disasters/*": ("drills.contract", "fixtures", RECORDS),
    "drills/failover/disasters/*": ("drills.failover.contract", "fixtures", RECORDS),
    "drills/*": ("drills", "checks", "fixtures", RECORDS),
    "conftest.py": (),
    "tests/*": ("reports", "fixtures", "checks", "drills", "benchmarks"),
    "benchmarks/*": ("reports", "fixtures", "checks", "drills", "benchmarks"),
}
FREE = ("tests/", "benchmarks/")
PYTEST_IN = ("conftest.py", "*/plugin.py", "checks/test_*.py", "drills/test_*.py")
STARTERS = ("subprocess", "multiprocessing", "pty", "concurrent.futures.ProcessPoolExecutor", "psutil.Popen",
            "asyncio.subprocess", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell")  # fmt: skip
OS_STARTERS = ("fork", "forkpty", "system", "popen", "exec", "spawn", "posix_spawn")
CLOCKS = ("now", "utcnow", "today")
LONGEST = 400


def imports(tree):
    """Every module or name that a source imports, wherever the statement stands, with the names it is taken from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).endswith(("import_module", "__import__")):
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def dotted(node):
    """``os.path.join`` of the expression that says so; of any other expression its last name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def within(name, *modules):
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def matches(path, *patterns):
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def problems(path, source):
    """What a source text may not do in the file of that name."""
    tree = ast.parse(source)
    return [
        *(f"imports {name}" for name in imports(tree) if not may_import(path, name)),
        *([] if path.startswith(FREE) else forbidden_calls(path, tree)),
    ]


def may_import(path, name):
    parts = name.split(".")
    if name.startswith("."):
        return False  # a relative import hides which room it reaches into
    if parts[0] == "tests" or any(part.startswith("test_") or part == "conftest" for part in parts):
        return False
    if parts[0] in ROOMS:
        own = path.removesuffix(".py").replace("/", ".")
        allowed = next(allowed for pattern, allowed in MAY_IMPORT.items() if matches(path, pattern))
        return within(name, own, *allowed)
    if path == "reports/records.py":
        return parts[0] in sys.stdlib_module_names and not within(name, *STARTERS)
    if path.startswith(FREE):
        return True
    if within(name, *STARTERS):
        return path == "fixtures/processes.py"
    if within(name, "time"):
        return False
    return parts[0] not in ("pytest", "_pytest") or matches(path, *PYTEST_IN)


def forbidden_calls(path, tree):
    """Processes started past ``fixtures.processes``, clocks read past ``reports.records``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        *before, last = dotted(node.func).split(".")
        if before == ["os"] and last.startswith(OS_STARTERS) and path != "fixtures/processes.py":
            yield f"starts a process by os.{last}, line {node.lineno}"
        if before and f"{before[-1]}.{last}" in STARTERS and path != "fixtures/processes.py":
            yield f"starts a process by {last}, line {node.lineno}"
        reads_date = last in CLOCKS and before and before[-1] in ("datetime", "date")
        reads_loop = last == "time" and not node.args and not node.keywords
        if (reads_date or reads_loop) and path != "reports/records.py":
            yield f"reads a clock by {last}, line {node.lineno}"


def sources():
    rooms = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if not hidden(path)]
    return sorted([ROOT / "conftest.py", *rooms])


def hidden(path):
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_keeps_to_its_room(path):
    assert problems(name_of(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize(
    "package",
    [path for path in sources() if path.name == "__init__.py" and not path.is_relative_to(ROOT / "tests")],
    ids=name_of,
)
def test_a_folder_says_what_it_is_for(package):
    assert ast.get_docstring(ast.parse(package.read_text("utf-8")))


def test_every_folder_of_a_room_is_a_package_that_can_say_so():
    folders = {path.parent for path in sources() if path.parent != ROOT and not path.is_relative_to(ROOT / "tests")}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_the_root_conftest_only_lists_plugins():
    _, listing = ast.parse((ROOT / "conftest.py").read_text("utf-8")).body
    assert ast.unparse(listing).startswith("pytest_plugins = [")


BAD = [
    ("reports/records.py", "import httpx", "imports httpx"),
    ("reports/records.py", "from reports import evidence", "imports reports.evidence"),
    ("reports/page.py", "from fixtures.profile import Profile", "imports fixtures.profile.Profile"),
    ("reports/page.py", "def late():\n    import drills", "imports drills"),
    ("reports/page.py", "if TYPE_CHECKING:\n    from checks import objects", "imports checks.objects"),
    ("fixtures/network.py", "from reports.evidence import write", "imports reports.evidence.write"),
    ("fixtures/network.py", "from reports import evidence", "imports reports.evidence"),
    ("fixtures/network.py", "import checks.objects", "imports checks.objects"),
    ("fixtures/network.py", "import pytest", "imports pytest"),
    ("checks/objects.py", "from drills.ledger import PREFIX", "imports drills.ledger.PREFIX"),
    ("checks/objects.py", "from . import merkle", "imports ..merkle"),
    ("drills/engine.py", "import importlib\nimportlib.import_module('reports.page')", "imports reports.page"),
    ("drills/engine.py", "from drills import test_restore_drill", "imports drills.test_restore_drill"),
    ("drills/engine.py", "import tests.reports", "imports tests.reports"),
    ("drills/methods/database/pg_dump.py", "from checks import objects", "imports checks.objects"),
    ("drills/methods/database/pg_dump.py", "from drills.methods.objects import rclone",
     "imports drills.methods.objects.rclone"),
    ("drills/methods/objects/rclone.py", "from drills.engine import Drill", "imports drills.engine.Drill"),
    ("drills/disasters/total_loss.py", "import pytest", "imports pytest"),
    ("drills/disasters/total_loss.py", "from drills.disasters import fire", "imports drills.disasters.fire"),
    ("drills/engine.py", "import subprocess", "imports subprocess"),
    ("drills/engine.py", "from multiprocessing import Process", "imports multiprocessing.Process"),
    ("drills/engine.py", "import os\nos.fork()", "starts a process by os.fork, line 2"),
    ("drills/engine.py", "import os\nos.execvp('sh', ['sh'])", "starts a process by os.execvp, line 2"),
    ("drills/engine.py", "import os\nos.system('true')", "starts a process by os.system, line 2"),
    ("fixtures/guardian.py", "import psutil\npsutil.Popen(['sh'])", "starts a process by Popen, line 2"),
    ("fixtures/guardian.py", "from time import sleep", "imports time.sleep"),
    ("checks/contents.py", "import datetime\ndatetime.datetime.now()", "reads a clock by now, line 2"),
    ("checks/contents.py", "from datetime import date\ndate.today()", "reads a clock by today, line 2"),
    ("fixtures/refapp/web.py", "asyncio.get_running_loop().time()", "reads a clock by time, line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "source", "problem"), BAD)
def test_a_wall_climbed_is_seen(path, source, problem):
    assert problem in problems(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("reports/records.py", "import time, tomllib\ntime.sleep(1)"),
        ("reports/page.py", "import jinja2\nfrom reports.records import Verdict"),
        ("fixtures/processes.py", "import subprocess\nsubprocess.Popen(['true'])"),
        ("fixtures/plugin.py", "import pytest\nfrom fixtures.profile import Profile"),
        ("drills/methods/database/pg_dump.py", "from drills.contract import Job\nfrom fixtures import tools"),
        ("benchmarks/sizes.py", "import subprocess, time\nfrom drills.ledger import PREFIX"),
    ],
)
def test_what_is_allowed_is_not_seen(path, source):
    assert problems(path, source) == []

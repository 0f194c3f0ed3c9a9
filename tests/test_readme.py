"""Every command that the README shows is one that is there: targets, modules, options, files, selections."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# What a person does before or around ours, and what every shell knows.
EVERYDAY = {"cd", "git", "export", "python3", "python3.11", "open", "xdg-open"}


def commands(text):
    """The command lines of the fenced sh blocks: continued ones joined, comments and prompts left out."""
    for block in re.findall(r"^```(?:sh|shell|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                yield words


def problem_with(words):
    """Why a command line cannot be run here; empty where it can."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]  # a variable for this one command
    if not words:
        return ""
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program in ("python", "python3") and arguments[:1] == ["-m"]:
        program, *arguments = arguments[1:]
    known = {"make": make, "pytest": pytest_command, "reports": reports, "benchmarks": benchmarks, ".ci/run": file}
    if program in known:
        return known[program](arguments)
    return "" if program in EVERYDAY else f"the test knows no command {program!r}"


def make(arguments):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    asked = [word for word in arguments if "=" not in word]
    wrong = [word for word in asked if word not in targets]
    options = next((word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")), "")
    return f"no make target {wrong[0]}" if wrong else pytest_command(shlex.split(options)) if options else ""


def pytest_command(arguments):
    shown = shown_by("pytest", "--help")
    options = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    unknown = [word for word in options if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", shown)]
    if unknown:
        return f"pytest knows no option {unknown[0]}"
    places = [word for word in arguments if re.fullmatch(r"(drills|checks|tests)(/\S*)?(::\S+)?", word)]
    absent = [word for word in places if not (ROOT / word.split("::")[0]).exists()]
    return f"nothing at {absent[0]}" if absent else ""


def reports(arguments):
    shown = shown_by("reports", "--help")
    return "" if arguments and re.search(rf"\b{re.escape(arguments[0])}\b", shown) else f"reports knows no {arguments}"


def benchmarks(arguments):
    return "" if (ROOT / "benchmarks" / "__main__.py").is_file() else "there are no benchmarks"


def file(arguments):
    return "" if (ROOT / ".ci" / "run").is_file() else "no file .ci/run"


SHOWN = {}


def shown_by(module, option):
    if module not in SHOWN:
        asked = [sys.executable, "-m", module, option, *(["-p", "no:cacheprovider"] if module == "pytest" else [])]
        SHOWN[module] = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return SHOWN[module]


def shown_commands():
    return list(commands(README.read_text("utf-8"))) if README.is_file() else []


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_a_command_of_the_readme_can_be_run(words):
    assert problem_with(words) == ""


def test_the_readme_shows_the_two_commands_for_a_fresh_machine():
    assert {"drill", "test"} <= {words[1] for words in shown_commands() if words[0] == "make"}


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", README.read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("make drill", ""),
        ("make drill ARGS='--targets critical'", ""),
        ("make drill ARGS=--tragets", "pytest knows no option --tragets"),
        ("make coffee", "no make target coffee"),
        ("CI=1 .venv/bin/python -m pytest drills -q --rto 4h", ""),
        ("pytest drills -k 'total_loss and pg_dump'", ""),
        ("pytest --rto=4h --no-such-option", "pytest knows no option --no-such-option"),
        ("pytest tests/nowhere.py", "nothing at tests/nowhere.py"),
        ("python -m reports verify reports/runs/<run-id>", ""),
        ("python -m reports forge reports/runs/1", "reports knows no ['forge', 'reports/runs/1']"),
        ("python -m reports", "reports knows no []"),
        ("rm -rf /", "the test knows no command 'rm'"),
    ],
)
def test_a_command_that_cannot_be_run_is_seen(line, problem):
    (words,) = commands(f"text\n\n```sh\n{line}\n```\n")
    assert problem_with(words) == problem


def test_only_shell_blocks_are_commands():
    text = "```toml\nnot = 1\n```\n```sh\n# a comment\n$ make \\\n  drill  # at once\n\nmake test\n```\nmake coffee\n"
    assert list(commands(text)) == [["make", "drill"], ["make", "test"]]

"""Every command that the README, or CI, shows is one that is there: targets, modules, options, files, selections."""

import itertools
import os
import re
import shlex
import shutil
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
    known = {"make": make, "pytest": pytest_command, "reports": reports, "drills": drills, "benchmarks": benchmarks,
             "fixtures": fixtures}  # fmt: skip
    if program.startswith(".ci/"):
        return "" if os.access(ROOT / program, os.X_OK) else f"no program {program}"
    if program in known:
        return known[program](arguments)
    return "" if program in EVERYDAY else f"the test knows no command {program!r}"


def make(arguments):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
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
    places = [word for word in arguments if re.fullmatch(r"(drills|checks|tests|examples)(/\S*)?(::\S+)?", word)]
    absent = [word for word in places if not (ROOT / word.split("::")[0]).exists()]
    return f"nothing at {absent[0]}" if absent else selection(arguments)


def selection(arguments):
    """Why a command with a selection drills nothing; empty where it drills something, or selects nothing."""
    selecting = {"-k", "-m", "--matrix", "--provider"}
    asked = [word for pair in itertools.pairwise(arguments) if pair[0] in selecting for word in pair]
    if not asked:
        return ""
    argv = [sys.executable, "-m", "pytest", "drills", "--collect-only", "-q", "-p", "no:cacheprovider", *asked]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    return "" if ended.returncode == 0 else f"no drill is selected by {shlex.join(asked)}"


def reports(arguments):
    return options_of("reports", arguments[:1], arguments[1:]) if arguments else "reports knows no []"


def drills(arguments):
    return options_of("drills", arguments[:1], arguments[1:])


def fixtures(arguments):
    words = 2 if arguments[:1] == ["profile"] else 1
    return options_of("fixtures", arguments[:words], arguments[words:])


def options_of(module, command, rest):
    """What the help of a module's command does not know; empty where it knows everything."""
    shown = shown_by(module, *command, "--help")
    if f"{module} {' '.join(command)}" not in shown:
        return f"{module} knows no {command}"
    unknown = [word for word in rest if word.startswith("-") and word not in shown]
    return f"{module} {' '.join(command)} knows no option {unknown[0]}" if unknown else ""


def benchmarks(arguments):
    return "" if (ROOT / "benchmarks" / "__main__.py").is_file() else "there are no benchmarks"


SHOWN = {}


def shown_by(module, *words):
    if (module, *words) not in SHOWN:
        asked = [sys.executable, "-m", module, *words, *(["-p", "no:cacheprovider"] if module == "pytest" else [])]
        SHOWN[module, *words] = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout
    return SHOWN[module, *words]


def shown_commands():
    shown = commands(README.read_text("utf-8")) if README.is_file() else ()
    return [list(words) for words in dict.fromkeys(map(tuple, shown))]


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
        ("pytest drills -k total_lost", "no drill is selected by -k total_lost"),
        ("pytest drills -m ransomware --matrix pairwise", ""),
        ("make drill ARGS='-k table_droped'", "no drill is selected by -k table_droped"),
        ("pytest drills --profile examples/commands.toml", ""),
        ("pytest drills --profile examples/nobody.toml", "nothing at examples/nobody.toml"),
        ("python -m drills runbook --profile acme.toml", ""),
        ("python -m drills runbook --format pdf", "drills runbook knows no option --format"),
        ("python -m drills rehearse", "drills knows no ['rehearse']"),
        (".ci/install-optional", ""),
        (".ci/deploy", "no program .ci/deploy"),
        ("pytest --rto=4h --no-such-option", "pytest knows no option --no-such-option"),
        ("pytest tests/nowhere.py", "nothing at tests/nowhere.py"),
        ("python -m reports verify reports/runs/<run-id>", ""),
        ("python -m reports forge reports/runs/1", "reports knows no ['forge']"),
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


def of_ci():
    """The command lines of CI's script that are ours."""
    lines = re.findall(r"^[^#\n]*?\bstep (.+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    return [shlex.split(line.partition(";")[0]) for line in lines]


@pytest.mark.parametrize("words", of_ci(), ids=" ".join)
def test_a_command_of_ci_can_be_run(words):
    assert problem_with(words) == ""


def test_ci_drills_and_tests_what_the_readme_shows_first():
    assert {"lint", "drill", "test"} <= {words[1] for words in of_ci() if words[0] == "make"}


def test_without_package_sources_the_installer_names_what_is_missing_and_goes_on(tmp_path):
    (tmp_path / ".ci").mkdir()
    installer = shutil.copy(ROOT / ".ci" / "install-optional", tmp_path / ".ci")
    for name in ("apt-get", "sudo", "python-without-an-index"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name}: out of reach >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": str(tmp_path / "python-without-an-index")}
    ended = subprocess.run([installer, "no-such-package"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "out of reach" in ended.stderr
    for what in ("package no-such-package", "Barman in .cache/barman", "OpenStack Swift in .cache/swift"):
        assert f"MISSING, and what needs it is not tested: {what}" in ended.stdout.splitlines()

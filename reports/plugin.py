"""The pytest plugin of this room: opens a run, hands it to the drills, and closes it with evidence, page and table.

The order at the end matters and is the hooks' own: session fixtures are torn down and ``junit.xml`` is written by
plain ``pytest_sessionfinish`` hooks; ours is ``trylast``, so that the last ``drill.closed`` is in the journal before
the evidence is computed; pytest-html's is ``trylast`` too but registered later, so that its page is written after ours.
The seal comes after all of them: the innermost wrapper goes on when they have ended, and before the terminal's closing
lines, which are an outer one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, though not marked so for mypy

from reports import artefacts, closing, page, signing, wording
from reports.records import RUN_NAME, HarnessError
from reports.run import Run, describe_suite
from reports.sealing import Seal

RUN: Final = pytest.StashKey[Run]()
_PROBLEMS: Final = pytest.StashKey[list[str]]()
_SIGNER: Final = pytest.StashKey[CryptoSigner | None]()
_SEAL: Final = pytest.StashKey[Seal | None]()
_OWN_PAGE: Final = pytest.StashKey[bool]()
_EXECUTED: Final = pytest.StashKey[bool]()
_FINISHED: Final = pytest.StashKey[bool]()
_KEY_VARIABLE: Final = "ENPRIVACY_EVIDENCE_KEY"
_OWN_ROOMS: Final = ("tests", "benchmarks")
_ONLY_TELLS: Final = ("collectonly", "help", "version", "markers", "showfixtures", "show_fixtures_per_test",
                      "cacheshow", "setupplan")  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options of this room."""
    group = parser.getgroup("evidence", "evidence: what a run of drills leaves behind")
    group.addoption(
        "--runs-directory",
        metavar="DIR",
        type=Path,
        help="where each run's directory is made (default: reports/runs in the checkout)",
    )
    group.addoption(
        "--evidence-key",
        metavar="FILE",
        type=Path,
        help="the private key that signs the run, of python -m reports keygen"
        f" (default: the file that {_KEY_VARIABLE} names, else the run is not signed)",
    )


def judges_a_deployment(config: pytest.Config) -> bool:
    """Whether this session drills or checks a deployment, and so is a run: not when it only tells, nor tests us."""
    if hasattr(config, "workerinput") or any(config.getoption(name, None) for name in _ONLY_TELLS):
        return False
    own = [config.rootpath / room for room in _OWN_ROOMS]
    places = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    return not all(any(place.is_relative_to(room.resolve()) for room in own) for place in places)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open the run and point pytest-html and JUnit into its directory, before they look where to write."""
    if not judges_a_deployment(config):
        return
    runs: Path = config.getoption("runs_directory") or config.rootpath / "reports" / "runs"
    try:
        signer = config.stash[_SIGNER] = _signer(config)
        run = Run(
            Path(config.invocation_params.dir, runs),
            command=["pytest", *map(str, config.invocation_params.args)],
            suite=describe_suite(config.rootpath),
            profile=_profile(config),
            key_id=signer.public_key.keyid if signer else "",
        )
    except HarnessError as problem:
        raise pytest.UsageError(str(problem)) from None
    config.stash[RUN] = run
    config.pluginmanager.register(run, RUN_NAME)
    config.stash[_OWN_PAGE] = hasattr(config.option, "htmlpath") and not config.option.htmlpath
    if config.stash[_OWN_PAGE]:
        config.option.htmlpath = str(run.directory / "report.html")
        config.option.self_contained_html = True
    if not config.getoption("xmlpath", None):
        config.option.xmlpath = str(run.directory / "junit.xml")


def _signer(config: pytest.Config) -> CryptoSigner | None:
    """Read before anything is drilled: a key that cannot be used is not found out about when all is over."""
    given = config.getoption("evidence_key") or os.environ.get(_KEY_VARIABLE)
    if not given:
        return None
    path = Path(config.invocation_params.dir, given)
    return signing.read_signer(path, passphrase=os.environ.get(signing.PASSPHRASE, ""))


def _profile(config: pytest.Config) -> dict[str, str]:
    """Name and digest of the profile's file, where one is given and can be read; the fixtures judge its content."""
    given = config.getoption("profile", None)
    if not given:
        return {"name": "built-in", "sha256": ""}
    path = Path(config.invocation_params.dir, str(given))
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and os.access(path, os.R_OK) else ""
    return {"name": path.name, "sha256": digest}


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which dead runs were met and registered: one that was killed is not to be forgotten."""
    run = config.stash.get(RUN, None)
    return [f"register: run {line['run_id']} added as {line['state']}" for line in (run.found if run else ())]


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """The record of this run: its journal, clock, redactor and directory."""
    if RUN not in pytestconfig.stash:
        pytest.fail("this session only tests the suite itself, or is a worker of pytest-xdist, and has no run:"
                    " make a reports.run.Run(tmp_path), or leave -n out")  # fmt: skip
    return pytestconfig.stash[RUN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Redact what a test printed, logged or raised, before any report sees it."""
    report = yield
    item.config.stash[_EXECUTED] = True
    if run := item.config.stash.get(RUN, None):
        report.sections = [(header, run.redactor.clean(text)) for header, text in report.sections]
        text = report.longreprtext
        if (cleaned := run.redactor.clean(text)) != text:
            report.longrepr = cleaned
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the run: evidence first, and exit with 1 where its verdict is worse than pytest's own."""
    run = session.config.stash.get(RUN, None)
    if run is None or session.config.stash.get(_FINISHED, False):
        return
    session.config.stash[_FINISHED] = True
    if _to_discard(session, run):
        _silence_junit(session.config, run)
        return
    try:
        evidence = run.close(int(exitstatus))
    except (HarnessError, OSError) as problem:
        _tell(session.config, str(problem))
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        return
    if evidence["verdict"] in ("error", "failed", "not tested") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if "gate" in evidence:
        session.exitstatus = evidence["gate"]["exit"]


@pytest.hookimpl(wrapper=True, trylast=True, specname="pytest_sessionfinish")
def pytest_sessionfinish_sealing(session: pytest.Session) -> Generator[None]:
    """Seal the run when every file of it is written, whatever became of the other hooks."""
    try:
        return (yield)
    except OSError as problem:  # a page that its plugin could not write, as on a disk that is full
        _tell(session.config, f"a report was not written: {problem}")
        pytest_sessionfinish(session, pytest.ExitCode.INTERNAL_ERROR)  # ours, where that one came before it
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        return None
    finally:
        if _seal(session.config):
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def _seal(config: pytest.Config) -> list[str]:
    """Write the artefacts and the seal of a run that has its evidence, once; hand back what went wrong."""
    run = config.stash.get(RUN, None)
    if run is None or run.evidence is None or _SEAL in config.stash:
        return []
    config.stash[_SEAL] = None
    try:
        config.stash[_SEAL], problems = artefacts.write_all(
            run.directory, run.evidence, run.directory.parent, signer=config.stash[_SIGNER]
        )
    except (HarnessError, OSError) as problem:
        problems = [f"the run is not sealed: {problem}"]
    _tell(config, *problems)
    return problems


def _tell(config: pytest.Config, *problems: str) -> None:
    """Keep what went wrong for the closing lines."""
    config.stash[_PROBLEMS] = [*config.stash.get(_PROBLEMS, []), *problems]


def _to_discard(session: pytest.Session, run: Run) -> bool:
    """Whether nothing was judged: no drill opened, and no test executed or the input refused."""
    refused = session.exitstatus == pytest.ExitCode.USAGE_ERROR
    return not run.judged() and (refused or not session.config.stash.get(_EXECUTED, False))


def _silence_junit(config: pytest.Config, run: Run) -> None:
    """Keep pytest's own JUnit plugin from announcing a file of a directory that is about to be removed."""
    if Path(config.option.xmlpath).is_relative_to(run.directory):
        junit: Any = config.pluginmanager.get_plugin("junitxml")
        if junit is not None:
            junit.pytest_unconfigure(config)  # made to be called without its file, too: a second time it does nothing


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory of a run that opened no drill and wrote no evidence; close the journal of any other."""
    run = config.stash.get(RUN, None)
    if run is None:
        return
    if run.evidence is None and not run.judged():
        run.discard()
    run.journal.close()
    _seal(config)  # where the session ended without the hook above
    run.let_go()


@pytest.hookimpl(optionalhook=True)
def pytest_metadata(metadata: dict[str, Any], config: pytest.Config) -> None:
    """Keep what pytest-metadata takes from CI's environment out of the page: it holds addresses, names and paths."""
    given = {key for key, _ in config.getoption("metadata", [])}
    for key in [key for key in metadata if key in os.environ and key not in given]:
        del metadata[key]


@pytest.hookimpl(optionalhook=True)
def pytest_html_report_title(report: Any) -> None:
    """Give the page a title of its own."""
    report.title = "Restore drills and conformance"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_summary(prefix: list[str], session: pytest.Session) -> None:
    """Put our summary on top of pytest-html's page."""
    config = session.config
    run = config.stash.get(RUN, None)
    if run is None:
        return
    if run.evidence is not None:
        prefix.insert(0, page.render(run.evidence, run.directory))
    if config.stash[_OWN_PAGE]:
        # Our closing lines name the page: pytest-html need not announce it a second time, after them.
        for plugin in list(config.pluginmanager.get_plugins()):
            if type(plugin).__module__ == "pytest_html.selfcontained_report":
                config.pluginmanager.unregister(plugin)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Close with the table, the findings, what was not tested, and where the report lies."""
    if problems := config.stash.get(_PROBLEMS, None):
        terminalreporter.section("evidence", red=True)
        for problem in problems:
            terminalreporter.line(wording.one_line(problem), red=True)
    run = config.stash.get(RUN, None)
    if run is None or run.evidence is None:
        return
    terminalreporter.section("restore drill" if run.drills() else "conformance")
    for text, style in closing.lines(run.evidence):
        terminalreporter.line(text, **style)
    report = Path(config.option.htmlpath) if getattr(config.option, "htmlpath", None) else None
    audit = run.directory / "evidence.html"
    for what, path in (("report", report), ("audit", audit), ("evidence", run.directory / "evidence.json")):
        if path is not None and (path is not audit or audit.exists()):
            terminalreporter.line(f"{what + ':':<10}{_near(path, config)}")
    if seal := config.stash.get(_SEAL, None):
        signed = f"signed by the key {seal.key_id}" if seal.key_id else "not signed (no key)"
        terminalreporter.line(f"{'sealed:':<10}line {seal.n} of the register; {signed}")


def _near(path: Path, config: pytest.Config) -> str:
    """A path as seen from where pytest was started, where it lies below it."""
    start = Path(config.invocation_params.dir)
    path = start / path
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)

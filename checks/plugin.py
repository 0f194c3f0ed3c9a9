"""The pytest plugin of this room: one test for each conformance check and each fault, on one deployment for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from checks.conformance.registry import every_check, every_fault
from checks.conformance.subject import Subject, behind_proxies
from fixtures.ground import Ground, RunRecord
from fixtures.plugin import PROFILE, make_deployment


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check, and for each fault."""
    for name, registered in (("conformance", every_check), ("fault", every_fault)):
        if name in metafunc.fixturenames:
            found = registered()
            metafunc.parametrize(name, [pytest.param(each, id=each_id) for each_id, each in found.items()])


@pytest.fixture(scope="module")
def subject(run: RunRecord, ground: Ground, pytestconfig: pytest.Config) -> Iterator[Subject]:
    """A deployment of the suite's own, up and filled, its services behind proxies; gone after the last check."""
    deployment = make_deployment(pytestconfig, run.redactor, "conformance")
    directory = ground.workspace.directory / "checks"
    directory.mkdir()
    run.journal.write(
        "conformance.opened",
        deployment=deployment.name,
        architecture=deployment.architecture,
        provider=deployment.provider,
        stand_in=deployment.stand_in,
        tools=dict(deployment.versions()),
    )
    deployment.spin_up({})
    deployment.seed(lambda what, done, of: None)
    try:
        with behind_proxies(deployment) as proxies:
            yield Subject(
                deployment=deployment,
                profile=pytestconfig.stash[PROFILE],
                directory=directory,
                clock=run.clock,
                redactor=run.redactor,
                proxies=proxies,
            )
    finally:
        deployment.put_away(directory / "deployment")

"""What every way to keep a configuration must do: one suite over all of them."""

import dataclasses
import secrets
from pathlib import Path

import pyrage
import pytest

from drills import registry
from drills.contract import Job, Means, NeedsMeans
from fixtures.postgres_tools import find_postgres
from fixtures.processes import Processes
from fixtures.profile import load_profile
from reports.records import Clock, HarnessError, Redactor

EXAMPLE = Path(__file__).parents[2] / "examples" / "commands.toml"
VALUES = {
    "DATABASE_URL": "postgresql://app:geheimes-wort@127.0.0.1/enprivacy",
    "EMPTY": "",
    "LINES": "first\nsecond\r\n\tthird\n",
    "LANGUAGES": "grün 文档 🔒 \u202eright to left",
    "QUOTES": """it's "quoted" $HOME `id` \\n #no comment""",
    "LONG": "0123456789abcdef" * 4096,
}


def new_identity():
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def finished():
    return []


@pytest.fixture
def job(tmp_path, finished):
    processes = Processes(run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path / "logs", clock=Clock.start(),
                          redactor=Redactor(), record=finished.append)  # fmt: skip
    identity, commands = new_identity(), load_profile(EXAMPLE, {}).commands
    return Job(processes=processes, jobs=2, seconds=60, recipient=str(identity.to_public()), archive=tmp_path,
               identity=str(identity), passphrase="a passphrase", commands=commands)  # fmt: skip


@pytest.fixture(params=sorted(registry.configuration_methods()))
def method(request, job):
    method = registry.configuration_methods()[request.param]
    tools = find_postgres(job.processes, None)
    means = Means(tools=tools, processes=job.processes, commands=job.commands, versioned_bucket=False)
    if isinstance(method, NeedsMeans) and (reason := method.unavailable(means)):
        pytest.skip(reason)
    return method


@pytest.fixture
def backup(method, job, tmp_path):
    place = tmp_path / "configuration"
    place.mkdir()
    method.back_up(VALUES, place, dataclasses.replace(job, identity=""))
    return place


def test_every_variable_comes_back_as_it_was(method, job, backup):
    assert method.restore(backup, job) == VALUES


def test_nothing_of_it_can_be_read_in_the_backup(backup):
    files = [path for path in backup.rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)
    assert kept
    assert [word for word in ("geheimes-wort", "DATABASE_URL", "second") if word.encode() in kept] == []


def test_a_wrong_key_is_refused_loudly_and_shows_nothing(method, job, backup):
    with pytest.raises(HarnessError) as caught:
        method.restore(backup, dataclasses.replace(job, identity=str(new_identity())))
    assert "Remedy: " in str(caught.value)
    assert "geheimes-wort" not in str(caught.value)


def test_a_backup_cut_short_is_refused(method, job, backup):
    victim = max((path for path in backup.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(HarnessError):
        method.restore(backup, job)


def test_a_backup_that_is_not_there_is_refused(method, job, tmp_path):
    with pytest.raises(HarnessError):
        method.restore(tmp_path / "nowhere", job)


def test_no_secret_stands_in_an_argument_list_or_stays_behind_in_a_file(method, job, backup, finished):
    method.restore(backup, job)
    words = " ".join(word for command in finished for word in command.argv)
    logs = [path for path in job.processes.logs.rglob("*") if path.is_file()]
    left = words.encode() + b"".join(path.read_bytes() for path in logs)
    assert [secret for secret in ("geheimes-wort", job.identity, job.passphrase) if secret.encode() in left] == []

"""A runs directory as it is after some runs: sealed, signed and signed off, one killed, in one register."""

import shutil
from types import SimpleNamespace

import pytest

from reports import evidence, register, sealing, sign_offs, signing
from reports.__main__ import main
from reports.assessment import assess_run

KILLED = "20261122T220000Z-dead"


@pytest.fixture
def key(tmp_path):
    """The operator's key, ``.file``, ``.public`` and ``.signer``; another for reviewers."""

    def made(name):
        file = tmp_path / name
        signing.make_key(file)
        public = file.with_name(f"{name}.pub")
        return SimpleNamespace(file=file, public=public, signer=signing.read_signer(file))

    return SimpleNamespace(**vars(made("operator")), reviewer=made("reviewer"))


@pytest.fixture
def add_run(made, builder, tmp_path):
    """Add a run to ``tmp_path / "runs"``: as ``build`` of the conftest above, sealed unless ``seal`` is false."""
    runs = tmp_path / "runs"
    runs.mkdir()

    def add(run_id, signer=None, *, seal=True, **given):
        run = made(**given)
        events = run.journal.events
        events[0]["run_id"] = run_id
        if seal:
            lines = register.read(runs)
            previous = {key: lines[-1][key] for key in ("n", "run_id", "state", "sha256", "hash")} if lines else None
            key_id = signer.public_key.keyid if signer else ""
            head = {"kind": "register.head", "t": events[-1]["t"], "previous": previous, "key_id": key_id}
            events.insert(len(events) - 1, head)
        builder.rechain(run)
        directory = shutil.move(run.directory, runs / run_id)
        if seal:
            assessed = assess_run(directory)
            evidence.write(assessed, directory / "evidence.json")
            for name in ("report.html", "junit.xml"):
                (directory / name).write_text(f"<p>the {name} of {run_id}</p>\n")
            sealing.seal(directory, assessed, signer)
        return directory

    return add


@pytest.fixture
def population(add_run, key, tmp_path):
    """``runs`` with three sealed and signed runs and a killed one; the last, ``newest``, is signed off twice."""
    first = add_run("20261122T210000Z-0001", key.signer)
    second = add_run("20261122T213000Z-0002", key.signer, rto=1_000)
    killed = add_run(KILLED, seal=False, run_closed=None, drill_closed=None)
    with register.locked(tmp_path / "runs") as book:
        book.catch_up()
    newest = add_run("20261122T230000Z-0003", key.signer)
    for directory in (first, newest, newest):
        sign_offs.add(directory, reviewer="Ada", note="looked at", signer=key.reviewer.signer)
    return SimpleNamespace(runs=tmp_path / "runs", first=first, second=second, killed=killed, newest=newest)


@pytest.fixture
def verify(key, capsys):
    """Verify with both public keys, and hand back the exit status and all that was told."""

    def verified(directory, *more):
        given = ["--key", str(key.public), "--reviewer-key", str(key.reviewer.public), *more]
        status = main(["verify", str(directory), *given])
        told = capsys.readouterr()
        return SimpleNamespace(status=status, told=told.out + told.err)

    return verified

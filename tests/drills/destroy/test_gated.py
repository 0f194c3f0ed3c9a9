"""The gate of a deployment that is not the suite's, by its profile alone: backups fetched, upgrade rehearsed."""

import json
import sys
from pathlib import Path

import pytest

from drills.keys import key_pair
from drills.set_beside import make_set_beside
from fixtures.profile import DEFAULT_PROFILE, load_profile

ROOT = Path(__file__).parents[3]
BOOTED = ("ocr", "llm", "job", "web")
STORES = {
    "DATABASE_URL": "{dsn}", "OBJECT_STORAGE_ENDPOINT": "{endpoint}", "OBJECT_STORAGE_BUCKET": "{bucket}",
    "OBJECT_STORAGE_ACCESS_KEY": "{access_key}", "OBJECT_STORAGE_SECRET_KEY": "{secret_key}",
    "LLM_URL": "{url_llm}", "OCR_URL": "{url_ocr}",
}  # fmt: skip


@pytest.fixture
def kept(somebody):
    """Its operator's backups: one set, and the identity that opens it."""
    profile, made = load_profile(DEFAULT_PROFILE), somebody.made
    keys = key_pair(profile)
    with made.database.connect() as connection:
        # Rows under row security are hidden from who may only read: docs/shadow.md.
        connection.execute("ALTER ROLE observer BYPASSRLS")
    usual, made.name = made.name, "acme-staging"
    try:
        places = make_set_beside(
            made, somebody.place / "kept", name="set-1", profile=profile, keys=keys, clock=made.processes.clock
        )
    finally:
        made.name = usual
    return places, keys


def services(somebody, release):
    home = {"HF_HOME": str(somebody.home / "llm" / ".cache" / "huggingface")}
    return {
        name: {
            "command": [sys.executable, "-m", "fixtures.refapp", name, "--release", release],
            "environment": {
                **STORES, **home, f"{name.upper()}_LISTEN": "127.0.0.1:{port}", "PYTHONPATH": str(ROOT)
            },
        }
        for name in BOOTED
    }  # fmt: skip


@pytest.mark.slow
def test_an_attached_deployment_is_gated_by_what_its_profile_says(somebody, kept):
    places, keys = kept
    tables = {
        "backup": {"sets": str(places.sets), "sets_apart": str(places.apart), "age_identity": keys.identity},
        "objectives": {"tier": "baseline", "retention": {"sets": 1}},
        "shadow": {
            "database": {"source": "directory", "path": str(places.sets)},
            "objects": {"source": "directory", "path": str(places.sets)},
            "services": services(somebody, "3.0"),
        },
        "upgrade": {
            "from": "3.0",
            "to": "3.1",
            "commands": [[sys.executable, "-m", "fixtures.refapp", "upgrade", "--to", "3.1"]],
            "environment": {"DATABASE_URL": "{admin_dsn}", "PYTHONPATH": str(ROOT)},
            "renamed": {'"app.document_repositories.username"': "login_name"},
            "may_change": ["app.schema_version"],
            "version_path": "/version",
            "services": services(somebody, "3.1"),
        },
    }
    somebody.described |= tables
    somebody.describe()
    where = [f"--work-directory={somebody.place / 'work'}", f"--runs-directory={somebody.place / 'runs'}"]
    before = somebody.state()
    code, output = somebody.run("pytest", "--gate", f"--profile={somebody.profile}", *where, "-p", "no:cacheprovider")
    assert code != 4, output
    (file,) = (somebody.place / "runs").glob("*/gate.json")
    gate = json.loads(file.read_text("utf-8"))
    verdicts = {(reason["what"], reason["verdict"]) for reason in gate["reasons"] if reason["required"]}
    assert code == gate["exit"] == 1, output
    assert {what for what, verdict in verdicts if verdict != "passed"} == {"evidence of past drills"}, gate["reasons"]
    assert somebody.state() == before

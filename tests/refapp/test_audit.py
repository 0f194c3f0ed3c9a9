"""The audit stream: required fields, a whole chain, no gaps."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from fixtures.refapp.audit import GENESIS, AuditLog, Event

FIELDS = "schema_version event_id seq time event_type outcome actor source target service request_id"
ROOT = Path(__file__).parents[2]
REQUIRED = set(FIELDS.split())


def event(number):
    return Event(
        event_type="document.uploaded", actor=("user", "Zoë"), target=("document", str(number)), source_ip="127.0.0.1",
        request_id=uuid.uuid4(), details={"size_bytes": number},
    )  # fmt: skip


def test_lines_hold_every_required_field_and_chain(capfdbinary):
    log = AuditLog("web", "3.0.0")
    for number in range(5):
        log.emit(event(number))
    lines = capfdbinary.readouterr().out.splitlines()
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        told = json.loads(line)
        assert told.keys() >= REQUIRED
        assert (told["seq"], told["prev_hash"], told["actor"]["id"]) == (number, previous, "Zoë")
        assert told["time"].endswith("+00:00")
        previous = hashlib.sha256(line).hexdigest()
    assert len(lines) == 5


def test_a_row_has_as_many_parameters_as_the_statement():
    from fixtures.refapp.audit import INSERT_EVENT

    assert INSERT_EVENT.count("%s") == len(AuditLog("job", "3.0.0").row(event(1)))


def sample(fault, secret=""):
    """What the writer of samples writes with a fault switched on, as lines."""
    environment = {**os.environ, "REFAPP_FAULTS": fault, "DATABASE_URL": secret}
    command = [sys.executable, "-m", "fixtures.refapp.audit_sample"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, cwd=ROOT, timeout=20, check=True)
    return done.stdout.split(b"\n")


def test_a_writer_without_a_fault_writes_another_line_and_chained_events():
    other, *events, rest = sample("")
    assert json.loads(other).keys() == {"time", "level", "message"}
    assert [json.loads(event)["seq"] for event in events] == [1, 2, 3, 4]
    assert json.loads(events[1])["prev_hash"] == hashlib.sha256(events[0]).hexdigest()
    assert rest == b""


def test_a_fault_spoils_events_and_leaves_other_lines():
    other, *events, _ = sample("log-tells-password", "postgresql://a:opensesame@b/c")
    assert b"opensesame" not in other
    assert all(b"opensesame" in event for event in events)

"""A builder of directories of past runs: real evidence, of which each run says what is different."""

import copy
import datetime
import json

import pytest

from reports import evidence
from reports.assessment import assess_run
from reports.population import read

S = 1_000_000_000
NOW = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
HOSTILE = "<script>x</script>\x1b[31m\u202e" + "y" * 1_000_000


class Past:
    """``add`` writes a run that was opened so many days before ``NOW`` and hands back its directory."""

    def __init__(self, directory, built):
        self.directory, self.built, self.number = directory, built, 0
        self.kept = assess_run(built)
        directory.mkdir()

    def add(self, days=0, *, seconds=4, verdict="passed", aborted=False, drill=None, **run):
        self.number += 1
        opened = NOW - datetime.timedelta(days=days)
        run_id = f"{opened:%Y%m%dT%H%M%SZ}-{self.number:04x}"
        place = self.directory / run_id
        place.mkdir()
        journal = (self.built / "journal.jsonl").read_text("utf-8").replace(self.kept["run_id"], run_id)
        journal = journal.replace("2026-11-22T21:04", f"{opened:%Y-%m-%dT%H:%M}")
        lines = journal.splitlines(keepends=True)
        (place / "journal.jsonl").write_text("".join(lines[:-1] if aborted else lines), "utf-8")
        if not aborted:
            kept = copy.deepcopy(self.kept) | {"run_id": run_id, "verdict": verdict}
            kept |= {"opened_utc": f"{opened:%Y-%m-%dT%H:%M:%SZ}"} | run
            kept["drills"][0] |= {"verdict": verdict} | (drill or {})
            took = None if seconds is None else round(seconds * S)
            kept["drills"][0]["recovery_time"] |= {"achieved_ns": took, "uncertainty_ns": 0}
            (place / "evidence.json").write_text(json.dumps(kept), "utf-8")
        return place

    def runs(self):
        return read(self.directory)


@pytest.fixture
def past(made, tmp_path):
    """Past runs of one drill of the reference application; the evidence they are made from is sound."""
    found = Past(tmp_path / "runs", made(rto=10 * S, rpo=60 * S).directory)
    assert not evidence.problems(found.kept)
    return found


@pytest.fixture
def now():
    """The instant at which the past is looked at."""
    return NOW


@pytest.fixture
def hostile():
    """Text that attacks a page and a terminal, and is a megabyte long."""
    return HOSTILE

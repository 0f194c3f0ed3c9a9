"""Drills of an application that the suite does not know: the reference application, and nothing told of it but this."""

import json

import pytest

REFERENCE_CHECKS, REFERENCE_CONTROLS = 23, 76
KEYS = ("queries.references", "queries.jobs", "queries.audit_events")


@pytest.fixture
def described(suite):
    """Drill the reference application as described, and hand back the one drill of the evidence."""

    def run(how):
        suite.environment["DESCRIBED"] = how
        exit_code, output = suite.run("-p", "tests.drills.described")
        assert exit_code == 0, output
        (drill,) = suite.evidence()["drills"]
        (ledger,) = suite.runs.glob("*/*/ledger.jsonl")
        return drill, [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]

    return run


def channels(drill):
    return {row["channel"]: row for row in drill["recovery_point"]["channels"]}


def remarks(drill):
    return " ".join(f"{each['what']}: {each['reason']}" for each in drill["not_tested"])


@pytest.mark.slow
def test_by_steps_the_same_figures_come_out(described):
    drill, ledger = described("steps")
    assert (len(drill["checks"]), drill["controls"]["planted"]) == (REFERENCE_CHECKS, REFERENCE_CONTROLS)
    assert list(channels(drill)) == ["api", "row", "object"]
    api = channels(drill)["api"]
    assert api["recovered"] > 0 < api["lost"] == api["acknowledged"] - api["recovered"]
    assert drill["recovery_time"]["basis"] == "the first business transaction that went through whole"
    assert drill["recovery_time"]["felt"]["outage_ns"] > 0
    assert "phantoms and duplicates in the ledger's channel api" in remarks(drill)
    kept = [
        json.loads(line["document"]) for line in ledger if line["event"] == "acknowledged" and line["channel"] == "api"
    ]
    assert all(each.keys() == {"name", "document"} for each in kept)


@pytest.mark.slow
def test_without_its_schema_and_its_logs_what_needs_them_says_what_is_missing(described):
    drill, _ = described("unknown")
    told = remarks(drill)
    assert [key for key in KEYS if key not in told] == []
    assert {"references", "jobs", "audit trail"}.isdisjoint(row["check"] for row in drill["checks"])
    assert "control reference dangling: references from the database to the objects" in told
    assert "objects that nobody wrote" in told
    assert drill["controls"]["planted"] > 50


@pytest.mark.slow
def test_without_a_transaction_recovery_is_that_of_services_and_stores(described):
    drill, ledger = described("mute")
    assert {line["channel"] for line in ledger} == {"row", "object"} == set(channels(drill))
    assert drill["recovery_time"]["basis"].startswith("all services ready, a row and an object written and read back")
    assert (drill["recovery_time"]["felt"]["outage_ns"], drill["verdict"]) == (None, "passed")
    assert drill["recovery_time"]["achieved_ns"] > drill["recovery_point"]["achieved_ns"] > 0
    assert "transaction.steps" in remarks(drill)

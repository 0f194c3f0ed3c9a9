"""A run as OSCAL assessment results: by NIST's schema, by our own look at its references, by another program."""

import copy
import functools
import hashlib
import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from reports import controls, evidence, oscal

DATA = Path(__file__).with_name("data")
SCHEMA = DATA / "oscal_assessment-results_schema.json"
TRESTLE = Path(__file__).parents[2] / ".cache/trestle/bin/python"
DRILL = "single-node-pg_dump-total_loss"
LEDGERS = ("ledger", "observed")
HOSTILE = "<script>alert(1)</script> [a](http://b) `x` | \x1b[31m \u202e" + "m" * 100_000


@functools.cache
def validator():
    """NIST's schema, with the two Unicode classes that Python's regular expressions do not know put otherwise."""
    text = SCHEMA.read_text("utf-8").replace(r"\\p{L}", r"[^\\W\\d_]").replace(r"\\p{N}", r"\\d")
    return jsonschema.Draft7Validator(json.loads(text), format_checker=jsonschema.FormatChecker())


def problems(document):
    return [error.message for error in validator().iter_errors(document)] + oscal.problems(document)


@pytest.fixture
def run(made):
    """The evidence and the directory of a run that is built as asked."""
    from reports.assessment import assess_run

    def build(**given):
        directory = made(**given).directory
        assessed = assess_run(directory)
        evidence.write(assessed, directory / "evidence.json")
        return assessed, directory

    return build


def results(document):
    return document["assessment-results"]["results"][0]


def test_the_schema_is_nists_own_unchanged():
    digest = hashlib.sha256(SCHEMA.read_bytes()).hexdigest()
    assert digest == "4f9e277a177adbcca9527612ce450a33dc6096773fa229d413d801d196c61985"


@pytest.mark.parametrize("given", [{}, {"rto": 1, "findings": [{"code": "ROWS-LOST", "seen": "x"}]},
                                   {"run_closed": None, "drill_closed": None}, {"drill_opened": False},
                                   {"checks": False, "controls": False}, {"probes": False}])  # fmt: skip
def test_every_run_is_valid_however_it_ended(run, given):
    assert problems(oscal.document(*run(**given))) == []


def test_the_document_of_hostile_text_is_valid_bounded_and_says_no_markup(run):
    document = oscal.document(*run(text=HOSTILE))
    text = json.dumps(document, ensure_ascii=False)
    assert problems(document) == []
    assert len(text) < 100_000
    assert "\\\\<script\\\\>" in text
    assert not any(mark in text for mark in ("\x1b", "\u202e", "[a](http"))


def test_there_is_an_observation_for_each_drill_and_each_check_by_test(run, builder):
    assessed, directory = run(more=builder.many(3))
    observations = results(oscal.document(assessed, directory))["observations"]
    assert len(observations) == sum(1 + len(drill["checks"]) for drill in assessed["drills"])
    assert {tuple(each["methods"]) for each in observations} == {("TEST",)}


def test_no_objective_is_said_to_be_satisfied(run):
    document = oscal.document(*run())
    assert "findings" not in results(document)
    assert "satisfied" not in json.dumps(document)


def test_a_drill_supports_the_controls_that_the_table_says(run):
    assessed, directory = run()
    drill = results(oscal.document(assessed, directory))["observations"][0]
    said = {each["value"] for each in drill["props"] if each["name"] == "supports"}
    assert said == {each.control.name for each in controls.supported_by(assessed) if each.supporting}


def test_a_time_that_is_not_stock_is_said_to_be_so_beside_it(run):
    assessed, directory = run()
    assessed["drills"][0]["rebuilt"] = {"timing": {"stock": False, "label": "NOT STOCK: ttl 5 s"}}
    text = results(oscal.document(assessed, directory))["observations"][0]["description"]
    assert "Recovery time achieved: 4.21 s; timing NOT STOCK; objective" in text
    assert text.count("NOT STOCK") == 1


def test_a_drill_that_failed_supports_nothing(run):
    observations = results(oscal.document(*run(uncaught=["row lost"])))["observations"]
    assert not [each for row in observations for each in row["props"] if each["name"] == "supports"]


def test_the_evidence_is_named_by_its_digest(run):
    assessed, directory = run()
    resources = oscal.document(assessed, directory)["assessment-results"]["back-matter"]["resources"]
    links = {row["rlinks"][0]["href"]: row["rlinks"][0].get("hashes", [{}])[0].get("value") for row in resources[1:]}
    assert sorted(links) == sorted(["journal.jsonl", "evidence.json", *(f"{DRILL}/{name}.jsonl" for name in LEDGERS)])
    assert links["evidence.json"] == hashlib.sha256((directory / "evidence.json").read_bytes()).hexdigest()


def test_the_same_run_gives_the_same_document(run):
    assessed, directory = run()
    assert oscal.document(assessed, directory) == oscal.document(copy.deepcopy(assessed), directory)


def test_evidence_is_collected_when_the_drill_ended_and_expires_as_the_profile_says(run):
    assessed, directory = run()
    observation = results(oscal.document(assessed | {"context": {"stale_days": 30}}, directory))["observations"][0]
    assert (observation["collected"][:10], observation["expires"][:10]) == ("2026-11-22", "2026-12-22")
    assert observation["collected"] > assessed["opened_utc"]


def test_an_identifier_used_twice_is_found(run):
    document = oscal.document(*run())
    first, second = results(document)["observations"][:2]
    second["uuid"] = first["uuid"]
    assert list(validator().iter_errors(document)) == []
    assert problems(document) == [f"uuid {first['uuid']} is defined more than once"]


@pytest.mark.parametrize("break_it", [
    lambda row, wrong: row["subjects"][0].update({"subject-uuid": wrong}),
    lambda row, wrong: row["origins"][0]["actors"][0].update({"actor-uuid": wrong}),
    lambda row, wrong: row["relevant-evidence"][0].update({"href": f"#{wrong}"}),
], ids=["subject", "actor", "evidence"])  # fmt: skip
def test_a_reference_to_nothing_is_found(run, break_it):
    document, wrong = oscal.document(*run()), "11111111-1111-4111-8111-111111111111"
    break_it(results(document)["observations"][0], wrong)
    assert [each for each in problems(document) if wrong in each]


def test_the_schema_is_looked_at_and_not_passed_by(run):
    document = oscal.document(*run())
    document["assessment-results"]["results"][0]["observations"][0]["props"][0]["name"] = "no token: 1"
    assert problems(document)


@pytest.mark.skipif(not TRESTLE.exists(), reason="compliance-trestle is not in .cache/trestle")
@pytest.mark.parametrize("wrong", [False, True], ids=["as it is", "with one identifier twice"])
def test_another_program_reads_it_and_finds_fault_where_there_is_one(run, tmp_path, wrong):
    document, file = oscal.document(*run()), tmp_path / "oscal.json"
    observations = results(document)["observations"]
    if wrong:
        observations[1]["uuid"] = observations[0]["uuid"]
    file.write_text(json.dumps(document), "utf-8")
    read = subprocess.run([TRESTLE, DATA / "second_opinion.py", file], capture_output=True, text=True, timeout=60)
    assert (read.returncode, f"{len(observations)} observations" in read.stdout) == (int(wrong), True), read.stderr

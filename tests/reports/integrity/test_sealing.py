"""Seal, attestation and sign-offs, as they are made and as somebody without this suite checks them."""

import base64
import hashlib
import json
import shutil
import stat
import subprocess

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from reports import artefacts, evidence, sealing, sign_offs, signing
from reports.__main__ import main
from reports.records import HarnessError, UsageProblem, canonical


def verified_elsewhere(path, public):
    """The payload of a DSSE envelope by its specification alone, without the library that wrote it."""
    envelope = json.loads(path.read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    (signature,) = envelope["signatures"]
    encoded = b" ".join([b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload])
    load_pem_public_key(public.read_bytes()).verify(base64.b64decode(signature["sig"]), encoded)
    return kind, json.loads(payload)


def test_the_attestation_is_an_in_toto_test_result_to_a_second_implementation(population, key):
    kind, said = verified_elsewhere(population.second / "attestation.dsse.json", key.public)
    assert kind == b"application/vnd.in-toto+json"
    assert set(said) == {"_type", "subject", "predicateType", "predicate"}
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert said["predicate"]["result"] == "FAILED"
    assert said["predicate"]["failedTests"] == ["drill single-node-pg_dump-total_loss"]
    assert set(said["predicate"]) == {"result", "configuration", "passedTests", "warnedTests", "failedTests"}
    assert all(row["digest"] for row in said["predicate"]["configuration"])
    files = {row["name"]: row["digest"]["sha256"] for row in said["subject"]}
    assert len(files) == 7
    for name, digest in files.items():
        assert hashlib.sha256((population.second / name).read_bytes()).hexdigest() == digest


def test_the_second_implementation_refuses_the_key_of_somebody_else(population, key):
    with pytest.raises(InvalidSignature):
        verified_elsewhere(population.first / "attestation.dsse.json", key.reviewer.public)


def test_sha256sum_itself_reads_the_sums(population):
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=population.first, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.count(b": OK") == 6


@pytest.mark.parametrize(
    ("given", "result"),
    [({"rto": 10**12, "rpo": 10**12}, "PASSED"), ({"rto": 10**12}, "WARNED"), ({"rto": 1}, "FAILED"),
     ({"drill_closed": None}, "FAILED"), ({"drill_opened": False}, "FAILED")],
)  # fmt: skip
def test_only_what_passed_against_targets_is_passed(add_run, key, given, result):
    directory = add_run("20261122T210000Z-0001", key.signer, **given)
    _, said = verified_elsewhere(directory / "attestation.dsse.json", key.public)
    assert said["predicate"]["result"] == result


def test_a_run_without_a_key_is_sealed_and_says_that_it_is_not_signed(add_run, capsys):
    directory = add_run("20261122T210000Z-0001")
    assert main(["verify", str(directory)]) == 0
    assert "signature  not signed" in capsys.readouterr().out


def test_a_run_that_is_not_signed_differs_where_a_key_is_given(add_run, verify):
    result = verify(add_run("20261122T210000Z-0001"))
    assert result.status == 1
    assert "attestation.dsse.json is not there" in result.told


def test_without_the_public_key_a_signature_is_named_and_said_to_be_unchecked(population, capsys):
    assert main(["verify", str(population.newest)]) == 0
    told = capsys.readouterr().out
    assert "not checked: give --key" in told
    assert "not checked: give --reviewer-key" in told


def test_whoever_seals_a_changed_run_anew_without_the_key_is_seen(population, key, verify, tmp_path):
    run = population.newest
    (run / "report.html").write_text("all is well\n")
    sums = sealing.sums_of(run)
    (run / "SHA256SUMS").write_bytes(sealing.sums_text(sums))
    said = sealing.statement(sums, evidence.read(run / "evidence.json"))
    (run / "attestation.dsse.json").write_bytes(signing.envelope(said, key.reviewer.signer))
    elsewhere = tmp_path / "elsewhere" / run.name
    shutil.copytree(run, elsewhere)
    result = verify(elsewhere)
    assert result.status == 1
    assert "bears no signature of a key that was given" in result.told


def test_a_signed_run_from_which_signature_and_seal_are_taken_is_missed_by_its_journal(population, tmp_path, capsys):
    lone = tmp_path / "lone"
    shutil.copytree(population.first, lone)
    for name in ("SHA256SUMS", "attestation.dsse.json", "sign-off-1.dsse.json"):
        (lone / name).unlink()
    assert main(["verify", str(lone)]) == 1
    assert "the run was to be sealed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new"),
    [(b":", b": "), (b"}\n", b"}"), (b"}\n", b"}\n\n"), (b'"sig"', b'"note":"x","sig"'), (b"signatures", b"Signatures"),
     (b'=="', b'"'), (b'=="', b'==="'), (b"AAAA", b"AA\\n AA"), (b'"payload"', b'"payload":"","payload"')],
)  # fmt: skip
def test_an_envelope_is_accepted_in_one_form_only(population, verify, old, new):
    path = population.first / "attestation.dsse.json"
    content = path.read_bytes().replace(old, new, 1)
    path.write_bytes(content if content != path.read_bytes() else content + b" ")
    result = verify(population.first)
    assert result.status == 1
    assert "attestation.dsse.json" in result.told


def test_a_blank_in_a_statement_is_seen_without_any_key(population, capsys):
    path = population.first / "attestation.dsse.json"
    envelope = json.loads(path.read_bytes())
    envelope["payload"] = base64.b64encode(base64.b64decode(envelope["payload"]) + b" ").decode()
    path.write_bytes(canonical(envelope) + b"\n")
    assert main(["verify", str(population.first)]) == 1
    assert "attestation.dsse.json was altered" in capsys.readouterr().out


def test_a_sealed_run_is_not_sealed_again(population):
    kept = evidence.read(population.first / "evidence.json")
    with pytest.raises(HarnessError, match="sealed once"):
        sealing.seal(population.first, kept)


def test_a_rendering_that_breaks_is_told_of_and_costs_no_seal(add_run, made, monkeypatch, tmp_path):
    run = add_run("20261122T210000Z-0001")
    (run / "SHA256SUMS").unlink()
    monkeypatch.setattr(artefacts, "RENDERERS", {"page.html": lambda *given: 1 / 0})
    seal, problems = artefacts.write_all(run, evidence.read(run / "evidence.json"), tmp_path / "runs")
    assert seal.n == 1
    assert problems == ["page.html was not written: ZeroDivisionError: division by zero"]


def test_a_private_key_is_its_owners_alone_and_is_never_written_over(tmp_path, capsys):
    file = tmp_path / "key"
    assert main(["keygen", str(file)]) == 0
    key_id = capsys.readouterr().out.split()[-1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert signing.read_public(tmp_path / "key.pub").keyid == signing.read_signer(file).public_key.keyid == key_id
    before = file.read_bytes()
    assert main(["keygen", str(file)]) == 4
    assert file.read_bytes() == before


def test_an_encrypted_key_needs_its_passphrase(tmp_path, monkeypatch):
    monkeypatch.setenv(signing.PASSPHRASE, "a long passphrase")
    main(["keygen", str(tmp_path / "key")])
    assert signing.read_signer(tmp_path / "key", passphrase="a long passphrase")
    for wrong in ("", "another one"):
        with pytest.raises(UsageProblem, match=signing.PASSPHRASE):
            signing.read_signer(tmp_path / "key", passphrase=wrong)


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none_ends_in_one_line(population, tmp_path, capsys, content):
    (tmp_path / "bad").write_bytes(content)
    assert main(["verify", str(population.first), "--key", str(tmp_path / "bad")]) == 4
    words = ["--reviewer", "Ada", "--note", "x", "--key", str(tmp_path / "bad")]
    assert main(["sign-off", str(population.first), *words]) == 4
    assert capsys.readouterr().err.count("\n") == 2


def test_a_private_key_is_not_taken_for_a_public_one(population, key, capsys):
    assert main(["verify", str(population.first), "--key", str(key.file)]) == 4
    assert "a private key" in capsys.readouterr().err


def test_a_sign_off_names_reviewer_note_and_the_files_it_is_of(population, key, verify):
    _, said = verified_elsewhere(population.newest / "sign-off-1.dsse.json", key.reviewer.public)
    sums = (population.newest / "SHA256SUMS").read_bytes()
    assert said["subject"] == [{"name": "SHA256SUMS", "digest": {"sha256": hashlib.sha256(sums).hexdigest()}}]
    assert (said["predicate"]["reviewer"], said["predicate"]["note"]) == ("Ada", "looked at")
    assert "Ada: looked at" in verify(population.newest).told


def test_a_run_that_does_not_verify_is_not_signed_off(population, key, capsys):
    (population.first / "report.html").write_text("better\n")
    words = ["--reviewer", "Bo", "--note", "fine", "--key", str(key.reviewer.file)]
    assert main(["sign-off", str(population.first), *words]) == 1
    assert "not signed off" in capsys.readouterr().out
    assert list(sign_offs.there(population.first)) == [1]


def test_the_key_of_the_run_itself_signs_nothing_off(population, key, capsys):
    words = ["--reviewer", "Bo", "--note", "fine", "--key", str(key.file)]
    assert main(["sign-off", str(population.first), *words]) == 4
    assert "the reviewer's own key" in capsys.readouterr().err
    assert list(sign_offs.there(population.first)) == [1]


def test_the_operator_who_reviews_is_warned(population, key, capsys, monkeypatch):
    kept = {"context": {"operator": "Ada"}, "run_id": "x", "verdict": "passed"}
    monkeypatch.setattr("reports.evidence.read", lambda path: kept)
    monkeypatch.setattr("reports.commands.sign_off.run_steps", lambda *given: [])
    words = ["--reviewer", "ada", "--note", "fine", "--key", str(key.reviewer.file)]
    assert main(["sign-off", str(population.first), *words]) == 0
    assert "warning: Ada is the operator" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "text"), [("--reviewer", " "), ("--note", ""), ("--note", "x" * 5000),
                                              ("--reviewer", "\udcff")])  # fmt: skip
def test_a_sign_off_without_words_is_refused(population, key, option, text):
    words = {"--reviewer": "Ada", "--note": "fine", "--key": str(key.reviewer.file), option: text}
    assert main(["sign-off", str(population.first), *(part for pair in words.items() for part in pair)]) == 4


def test_hostile_words_of_a_reviewer_stay_on_one_line(population, key, verify):
    note = "fine\nDIFFERS \x1b[31m\u202e" + "x" * 3000
    sign_offs.add(population.second, reviewer="Ada\nBo", note=note, signer=key.reviewer.signer)
    result = verify(population.second)
    (line,) = [line for line in result.told.splitlines() if line.startswith("sign-off")]
    assert result.status == 0
    assert "\x1b" not in line
    assert len(line) < 800

import base64
import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile

import pyrage
import pytest

from checks.backup_secrets import PIECE, find_secrets, judge_configuration, secret_values
from checks.looking_inside import Looked, Means, form_of, names_of
from fixtures.backup_set import COMPONENTS, BackupSet
from reports.records import HarnessError

SECRET = "correct horse/battery+staple"
CONFIGURATION = {"DATABASE_URL": "postgresql://app:pass%2Fword-in-url@db/x", "SESSION_SIGNING_KEY": SECRET}


@pytest.fixture
def backup(tmp_path):
    backup = BackupSet(directory=tmp_path / "sets" / "a", apart=tmp_path / "apart" / "a")
    for component in COMPONENTS:
        backup.place(component).mkdir(parents=True)
    return backup


@pytest.fixture
def means(processes, server, tmp_path):
    return Means(processes=processes, tools=server.tools, scratch=tmp_path, seconds=30)


def encrypted(content):
    return pyrage.encrypt(content, [pyrage.x25519.Identity.generate().to_public()])


def program(name):
    def pack(content, processes, folder):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not here")
        (folder / "plain").write_bytes(content)
        return processes.run([name, "-c", folder / "plain"], timeout=10).output.read_bytes()

    return pack


FORMS = {
    "as it is": lambda content, *_: content,
    "gzip": lambda content, *_: gzip.compress(content),
    "bzip2": lambda content, *_: bz2.compress(content),
    "xz": lambda content, *_: lzma.compress(content),
    "zstd": program("zstd"),
    "lz4": program("lz4"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_through_compression(backup, means, processes, tmp_path, form):
    content = b"x" * 100_000 + SECRET.encode() + b"x" * 100_000
    (backup.place("objects") / "file").write_bytes(FORMS[form](content, processes, tmp_path))
    (finding,), _ = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert finding.code == "BACKUP-SECRET-READABLE"
    assert "THE_KEY in objects/file" in finding.seen
    assert SECRET not in finding.seen


@pytest.mark.parametrize(
    "written",
    [SECRET, base64.b64encode(SECRET.encode()).decode(), SECRET.encode().hex(), "correct%20horse%2Fbattery%2Bstaple"],
)
def test_a_secret_is_found_in_other_words(backup, means, written):
    (backup.place("database") / "file").write_text(f"value: {written}\n")
    assert find_secrets(backup, {"THE_KEY": SECRET}, means)[0]


def test_a_secret_across_the_pieces_in_which_a_file_is_read_is_found(backup, means):
    for shift in (0, 1, len(SECRET) - 1, len(SECRET)):
        (backup.place("objects") / f"{shift}").write_bytes(b"x" * (PIECE - shift) + SECRET.encode())
    (finding,), _ = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert finding.count == 4


def test_an_age_identity_is_found_whosever_it_is(backup, means):
    (backup.apart / "key.txt").write_text(str(pyrage.x25519.Identity.generate()))
    (finding,), _ = find_secrets(backup, {}, means)
    assert "an age identity in key.txt" in finding.seen


def test_what_is_encrypted_or_closed_is_counted_and_not_passed_over(backup, means):
    (backup.place("configuration") / "a.age").write_bytes(encrypted(SECRET.encode()))
    with zipfile.ZipFile(backup.place("objects") / "b.docx", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("word/document.xml", SECRET)
    findings, looked = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert findings == []
    assert (looked.encrypted, looked.closed) == ({"age": 1}, {"zip": 1})


def test_a_compressed_file_that_is_cut_short_is_an_error_and_no_pass(backup, means):
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not here")
    (backup.place("objects") / "file.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"\x00")
    with pytest.raises(HarnessError, match="zstd"):
        find_secrets(backup, {"THE_KEY": SECRET}, means)


def test_a_gzip_file_that_is_cut_short_is_an_error_and_no_pass(backup, means):
    (backup.place("objects") / "file.gz").write_bytes(gzip.compress(b"x" * 100_000)[:-20])
    with pytest.raises(HarnessError, match=r"objects/file\.gz"):
        find_secrets(backup, {"THE_KEY": SECRET}, means)


def test_secrets_are_known_by_their_variables_names_and_by_their_place_in_a_url():
    found = secret_values(
        {**CONFIGURATION, "LLM_URL": "http://llm:8000", "API_KEY": "short"}, {"the client's": "0123456789"}
    )
    assert found == {
        "SESSION_SIGNING_KEY": SECRET, "DATABASE_URL, its password": "pass/word-in-url", "the client's": "0123456789"
    }  # fmt: skip


def test_an_encrypted_configuration_that_lies_apart_is_silent(backup, means):
    (backup.place("configuration") / "a.age").write_bytes(encrypted(b"SESSION_SIGNING_KEY=1"))
    assert judge_configuration(backup, CONFIGURATION, means) == ([], [])


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress])
def test_a_configuration_in_clear_is_found_by_its_variables(backup, means, pack):
    (backup.place("configuration") / "env").write_bytes(pack(b"SESSION_SIGNING_KEY=another\n"))
    (finding,), unknown = judge_configuration(backup, CONFIGURATION, means)
    assert (finding.code, finding.where, unknown) == ("BACKUP-CONFIGURATION-CLEAR", "configuration/env", [])


def test_a_configuration_of_no_known_form_is_named(backup, means):
    (backup.place("configuration") / "blob").write_bytes(bytes(range(256)))
    assert judge_configuration(backup, CONFIGURATION, means) == ([], ["blob"])


def test_a_configuration_below_the_data_is_found(tmp_path, means):
    together = BackupSet(directory=tmp_path / "sets" / "a", apart=tmp_path / "sets" / "a")
    together.place("configuration").mkdir(parents=True)
    (together.place("configuration") / "a.age").write_bytes(encrypted(b"1"))
    (finding,), _ = judge_configuration(together, CONFIGURATION, means)
    assert finding.code == "BACKUP-CONFIGURATION-TOGETHER"


@pytest.mark.parametrize(("suffix", "pack"), [(".tar", bytes), (".tar.gz", gzip.compress), (".tar.zst", None)])
def test_names_within_archives_are_told(backup, means, processes, tmp_path, suffix, pack):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("home/.cache/huggingface/hub/version.txt"))
    packed = pack(held.getvalue()) if pack else program("zstd")(held.getvalue(), processes, tmp_path)
    (backup.place("database") / f"base{suffix}").write_bytes(packed)
    found = list(names_of(backup, means, Looked()))
    assert f"database/base{suffix}/home/.cache/huggingface/hub/version.txt" in found


def test_an_archive_that_is_encrypted_is_counted(backup, means):
    (backup.place("database") / "base.tar").write_bytes(encrypted(b"1"))
    looked = Looked()
    assert list(names_of(backup, means, looked)) == ["database/base.tar"]
    assert looked.encrypted == {"age": 1}


def test_an_empty_file_is_plain(tmp_path):
    (tmp_path / "empty").touch()
    assert form_of(tmp_path / "empty") == ("plain", "")

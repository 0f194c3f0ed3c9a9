import base64
import bz2
import gzip
import html
import io
import json
import lzma
import random
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
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(b">>>>>>" + SECRET.encode()).decode(),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        "correct%20horse%2Fbattery%2Bstaple",
        "correct+horse%2Fbattery%2Bstaple",
        "correct horse\\/battery+staple",
    ],
)
def test_a_secret_is_found_in_other_words(backup, means, written):
    (backup.place("database") / "file").write_text(f"value: {written}\n")
    assert find_secrets(backup, {"THE_KEY": SECRET}, means)[0]


HARD = "a\"b\\c\u00e9 & <d>'/e"


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(HARD),
        json.dumps(HARD, ensure_ascii=False),
        json.dumps(HARD)
        .replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("'", "\\u0027"),
        html.escape(HARD),
    ],
)
def test_a_secret_that_was_escaped_is_found(backup, means, written):
    (backup.place("database") / "file").write_text(f"value: {written}\n")
    assert find_secrets(backup, {"THE_KEY": HARD}, means)[0]


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n        ", "\\n"])
def test_a_secret_is_found_in_base64_wherever_it_stands_and_however_it_is_broken(backup, means, before, end):
    coded = base64.b64encode(b"x" * before + SECRET.encode() + b"=more" * 20).decode()
    (backup.place("objects") / "file").write_text(end.join(coded[at : at + 11] for at in range(0, len(coded), 11)))
    (finding,), _ = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert "THE_KEY in base64 in objects/file" in finding.seen


def test_base64_that_is_broken_across_the_pieces_in_which_a_file_is_read_is_found(backup, means):
    coded = base64.encodebytes(b"x" * 40 + SECRET.encode() * 3)
    for shift in range(0, len(coded), 7):
        (backup.place("objects") / f"{shift}").write_bytes(b"-" * (PIECE - shift) + coded)
    (finding,), _ = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert finding.count == len(range(0, len(coded), 7))


def test_another_text_in_base64_is_silent(backup, means):
    coded = base64.encodebytes(SECRET.replace("battery", "bettery").encode() * 50)
    (backup.place("objects") / "file").write_bytes(coded)
    assert find_secrets(backup, {"THE_KEY": SECRET}, means)[0] == []


def archive(name, content):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as packed:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
        packed.addfile(tarfile.TarInfo("empty"))
    return held.getvalue()


NESTED = {
    "gzip in tar": lambda content: archive("a.gz", gzip.compress(content)),
    "gzip in tar.gz": lambda content: gzip.compress(archive("a.gz", gzip.compress(content))),
    "gzip in tar.xz": lambda content: lzma.compress(archive("a.gz", gzip.compress(content))),
    "gzip in gzip": lambda content: gzip.compress(gzip.compress(content)),
    "bzip2 in tar in tar.gz": lambda content: gzip.compress(archive("b.tar", archive("a.bz2", bz2.compress(content)))),
}


@pytest.mark.parametrize("form", NESTED)
def test_a_secret_is_found_through_archives_within_one_another(backup, means, form):
    (backup.place("objects") / "file").write_bytes(NESTED[form](b"x" * 100_000 + SECRET.encode()))
    (finding,), _ = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert "THE_KEY in objects/file, " in finding.seen
    assert list(means.scratch.glob("looking-inside-*")) == []


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_a_secret_is_found_through_other_programs_within_one_another(backup, means, processes, tmp_path, name):
    # Its halves stand there before: the whole is written as two references to them.
    content = "".join((SECRET[:14], "-" * 50, SECRET[14:], "-" * 50, SECRET)).encode()
    inner = archive("a", program(name)(content, processes, tmp_path))
    assert SECRET.encode() not in inner
    (backup.place("objects") / "file").write_bytes(program(name)(inner, processes, tmp_path))
    assert find_secrets(backup, {"THE_KEY": SECRET}, means)[0]


def test_what_is_too_deep_is_counted_and_not_passed_over(backup, means):
    content = SECRET.encode()
    for _ in range(5):
        content = gzip.compress(content)
    (backup.place("objects") / "file").write_bytes(content)
    findings, looked = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert findings == []
    assert looked.closed == {"more than 3 archives or compressions within one another": 1}


def test_what_is_too_large_within_another_file_is_counted_and_not_passed_over(backup, means, monkeypatch):
    monkeypatch.setattr("checks.looking_inside.LARGEST", 1000)
    (backup.place("objects") / "file").write_bytes(archive("a.gz", gzip.compress(random.randbytes(3000))))
    findings, looked = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert findings == []
    assert sum(looked.closed.values()) == 1


def test_what_is_encrypted_or_closed_in_an_archive_is_counted(backup, means):
    (backup.place("objects") / "a.tar").write_bytes(archive("a.age", encrypted(SECRET.encode())))
    (backup.place("objects") / "b.tgz").write_bytes(gzip.compress(archive("b.7z", b"7z\xbc\xaf" + bytes(99))))
    findings, looked = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert findings == []
    assert (looked.encrypted, looked.closed) == ({"age": 1}, {"7z": 1})


def test_a_dump_in_an_archive_is_read_as_pg_restore_reads_it(backup, means, server, processes):
    handle, tools = server, server.tools
    with handle.connect("postgres") as connection:
        connection.execute("DROP TABLE IF EXISTS leak")
        connection.execute("CREATE TABLE leak AS SELECT repeat('x', 9000) || %s AS value", (SECRET,))
        argv = [tools.path("pg_dump"), *handle.connection_arguments(), "--format=custom", "--table=leak", "postgres"]
        dump = processes.run(argv, timeout=30, env=handle.environment()).output.read_bytes()
        connection.execute("DROP TABLE leak")
    (backup.place("objects") / "a.tar.gz").write_bytes(gzip.compress(archive("home/dump", dump)))
    (finding,), _ = find_secrets(backup, {"THE_KEY": SECRET}, means)
    assert "objects/a.tar.gz, home/dump, as pg_restore reads it" in finding.seen


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


@pytest.mark.parametrize(
    "line",
    [f"session-signing-key: {SECRET}", f"database-url: {CONFIGURATION['DATABASE_URL']}", "password: pass/word-in-url"],
)
def test_a_configuration_in_clear_is_found_by_its_values_under_other_names(backup, means, line):
    (backup.place("configuration") / "values.yaml").write_text(f"{line}\n")
    (finding,), unknown = judge_configuration(backup, CONFIGURATION, means)
    assert (finding.code, finding.count, unknown) == ("BACKUP-CONFIGURATION-CLEAR", 1, [])
    assert SECRET not in finding.seen


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

"""Backups that lie in a directory: which is taken, of when it is, and that all of it comes back."""

import bz2
import gzip
import lzma
import os
import shutil
from datetime import datetime, timedelta

import psycopg
import pytest

from fixtures.shadow_settings import Kept
from reports.records import HarnessError, utc_now

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
FORMATS = {
    "custom": ["--format=custom"],
    "directory": ["--format=directory", "--jobs=2"],
    "tar": ["--format=tar"],
    "plain": [],
    "plain that makes its database": ["--create"],
}


def kept(place):
    return Kept(source="directory", path=place)


def age_of(fetched):
    return utc_now() - datetime.fromisoformat(fetched.instant.replace("Z", "+00:00"))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


@pytest.mark.parametrize("name", FORMATS)
def test_with_the_roles_beside_it_all_of_a_dump_comes_back(place, dump, fetch, restore, server, sources, name):
    dump(place / "model.dump", *FORMATS[name])
    dump(place / "globals.sql", "--globals-only", program="pg_dumpall")
    before = sources["files_of"](place)
    fetched = fetch(kept(place))
    sandbox, findings = restore(fetched)
    assert findings == []
    # A plain dump without --create knows nothing of the database itself.
    own = name != "plain"
    assert sources["state"](sandbox.database, of_database=own) == sources["state"](server.handle, of_database=own)
    assert timedelta(0) <= age_of(fetched) < timedelta(minutes=2)
    assert sources["files_of"](place) == before


@pytest.mark.parametrize("name", ["custom", "plain"])
def test_without_roles_they_are_made_up_for_and_told(place, dump, fetch, restore, server, sources, name):
    """Owners, grantees of tables, of default privileges and of policies: none of them may end the restore."""
    dump(place / "model.dump", *FORMATS[name])
    sandbox, (finding,) = restore(fetch(kept(place)))
    assert (finding.code, finding.count) == ("ROLE-ABSENT", 3)
    assert all(role in finding.seen for role in ("app", "reader", "odd one"))
    lost = ("roles", "members")
    same = {"of_database": False, "but": lost}
    assert sources["state"](sandbox.database, **same) == sources["state"](server.handle, **same)


@pytest.mark.parametrize("ending", PACKERS)
def test_a_packed_script_comes_back(place, dump, fetch, restore, server, sources, ending):
    plain = dump(place / "model.sql")
    (place / f"model.sql{ending}").write_bytes(PACKERS[ending](plain.read_bytes()))
    plain.unlink()
    sandbox, _ = restore(fetch(kept(place)))
    assert sources["state"](sandbox.database, of_database=False)["rows"] == sources["state"](server.handle)["rows"]


def test_of_a_whole_clusters_dump_the_database_comes_back_with_the_roles(
    place, dump, fetch, restore, server, sources
):  # fmt: skip
    script = dump(place / "all.sql", program="pg_dumpall")
    (place / "all.sql.gz").write_bytes(gzip.compress(script.read_bytes()))
    script.unlink()
    sandbox, findings = restore(fetch(kept(place)))
    assert findings == []
    assert sources["state"](sandbox.database) == sources["state"](server.handle)


def test_the_superusers_password_of_the_deployment_does_not_lock_the_sandbox(place, dump, fetch, restore):
    dump(place / "model.dump", "--format=custom")
    dump(place / "globals.sql", "--globals-only", program="pg_dumpall")
    sandbox, _ = restore(fetch(kept(place)))
    with sandbox.database.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)


def test_tablespaces_of_the_deployment_lie_within_the_sandbox(place, dump, fetch, restore):
    script = dump(place / "model.sql").read_text()
    (place / "model.sql").write_text(script.replace("SET default_tablespace = '';", "SET default_tablespace = fast;"))
    sandbox, _ = restore(fetch(kept(place)))
    query = "SELECT pg_tablespace_location(t.oid) FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace"
    with sandbox.database.connect() as connection:
        (location,) = connection.execute(f"{query} WHERE relname = 't'").fetchone()
    assert location.startswith("pg_tblspc/")


@pytest.mark.parametrize("cut", ["script", "cluster", "gzip", "custom"])
def test_a_dump_that_was_cut_short_is_no_success(place, dump, fetch, restore, cut):
    program = "pg_dumpall" if cut == "cluster" else "pg_dump"
    file = dump(place / "model.sql", *(["--format=custom"] if cut == "custom" else []), program=program)
    whole = gzip.compress(file.read_bytes()) if cut == "gzip" else file.read_bytes()
    file.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(HarnessError, match=r"cut short|pg_restore"):
        restore(fetch(kept(place)))


def test_a_dump_that_makes_another_database_is_refused(place, dump, fetch, restore):
    script = dump(place / "model.sql", "--create").read_text()
    (place / "model.sql").write_text(script.replace("CREATE DATABASE model", "CREATE DATABASE other"))
    with pytest.raises(HarnessError, match="it makes a database other, and the deployment's is model"):
        restore(fetch(kept(place)))


def test_the_newest_of_this_database_is_taken_not_a_newer_one_of_another(place, dump, fetch, processes, server, age):
    (place / "old").mkdir()
    age(dump(place / "old" / "model.dump", "--format=custom"), 7200)
    age(dump(place / "model.dump", "--format=custom"), 3600)
    handle = server.handle
    processes.run([handle.tools.path("pg_dump"), *handle.connection_arguments(), "--dbname=postgres", "--format=custom",
                   f"--file={place / 'postgres.dump'}"], timeout=60, env=handle.environment())  # fmt: skip
    assert fetch(kept(place)).label == "model.dump"
    shutil.move(place / "old" / "model.dump", place / "kept")
    (place / "kept").unlink()
    (place / "model.dump").unlink()
    fetched = fetch(kept(place))
    assert fetched.label == "postgres.dump"
    assert "the dump is of postgres, and is restored into model" in fetched.not_tested[0][1]


def test_a_link_to_the_newest_is_not_a_second_one_and_two_of_one_time_are_refused(place, dump, fetch):
    dump(place / "a.dump", "--format=custom")
    (place / "latest.dump").symlink_to(place / "a.dump")
    assert fetch(kept(place)).label == "a.dump"
    (place / "weekly").mkdir()
    shutil.copy2(place / "a.dump", place / "weekly" / "a.dump")
    assert fetch(kept(place)).instant
    shutil.copy2(place / "a.dump", place / "b.dump")
    with (place / "b.dump").open("ab") as file:
        file.write(b"more")
    shutil.copystat(place / "a.dump", place / "b.dump")
    with pytest.raises(HarnessError, match=r"b\.dump and .*a\.dump are of the very same time"):
        fetch(kept(place))


def unfinished(place, dump, how):
    if how == "a directory without its contents' table":
        dump(place / "new.dir", "--format=directory")
        (place / "new.dir" / "toc.dat").unlink()
    elif how == "a part":
        dump(place / "new.dump.part", "--format=custom")
    elif how == "empty":
        (place / "new.dump").touch()
    elif how == "packed by zstd":
        (place / "new.sql.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(64))
    else:
        whole = gzip.compress(dump(place / "new.sql").read_bytes())
        (place / "new.sql").unlink()
        (place / "new.dump.gz").write_bytes(whole[:5])


@pytest.mark.parametrize(
    "how", ["a directory without its contents' table", "a part", "empty", "packed by zstd", "packed and cut"]
)
def test_a_newer_backup_that_is_none_is_found_and_the_one_before_it_restored(place, dump, fetch, restore, age, how):
    age(dump(place / "good.dump", "--format=custom"), 3600)
    unfinished(place, dump, how)
    fetched = fetch(kept(place))
    assert fetched.label == "good.dump"
    _, findings = restore(fetched)
    assert "BACKUP-UNUSABLE" in [finding.code for finding in findings]
    (place / "good.dump").unlink()
    with pytest.raises(HarnessError, match=r"without toc.dat|not finished|empty|packed"):
        fetch(kept(place))


def test_an_archives_own_time_is_read_in_a_zone_in_which_it_is_not_after_its_end(place, dump, fetch):
    dump(place / "model.dump", "--format=custom", zone="Asia/Tokyo")
    fetched = fetch(kept(place))
    assert timedelta(0) <= age_of(fetched) < timedelta(minutes=2)
    assert "last change" in fetched.known_by
    dump(place / "model.dump", "--format=custom", zone="UTC")
    assert "the archive's own time, at the dump's start" in fetch(kept(place)).known_by


def test_a_directory_without_any_backup_says_so(place, fetch):
    (place / "notes.txt").write_text("nothing")
    with pytest.raises(HarnessError, match="no backup of a database in it"):
        fetch(kept(place))
    with pytest.raises(HarnessError, match="No such file or directory"):
        fetch(kept(place / "absent"))


# Files: a base backup as it lies.


@pytest.fixture
def base(place, server, processes):
    handle = server.handle
    # With -R it would become a standby of the deployment.
    processes.run([handle.tools.path("pg_basebackup"), *handle.connection_arguments(), f"--pgdata={place / 'base'}",
                   "--checkpoint=fast", "--write-recovery-conf"], timeout=60, env=handle.environment())  # fmt: skip
    return place / "base"


def test_a_base_backup_comes_back_as_a_server_of_the_sandboxs_own(base, fetch, restore, server, sources):
    if os.geteuid() == 0:
        # As a tool that root runs leaves them.
        for path in (base, *base.rglob("*")):
            os.chown(path, 65534, 65534)
    before = sources["files_of"](base)
    fetched = fetch(kept(base.parent))
    sandbox, findings = restore(fetched)
    assert (fetched.form, findings) == ("files", [])
    assert sources["state"](sandbox.database) == sources["state"](server.handle)
    settings = ("port", "archive_mode", "primary_conninfo", "unix_socket_directories", "dynamic_shared_memory_type")
    with sandbox.database.connect() as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in settings}
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    assert shown == {"port": str(sandbox.database.port), "archive_mode": "off", "primary_conninfo": "",
                     "unix_socket_directories": "", "dynamic_shared_memory_type": "mmap"}  # fmt: skip
    assert sources["files_of"](base) == before


def test_the_roles_of_restored_files_are_not_let_in_before_the_sandbox_does(base, fetch, restore):
    sandbox, _ = restore(fetch(kept(base.parent)))
    where = f"host=127.0.0.1 port={sandbox.database.port} dbname=model"
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry"):
        psycopg.connect(f"{where} user=app password=only-for-tests-app")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(f"{where} user=postgres password=only-for-tests")
    assert sandbox.let_in("app") == "app"


def test_a_byte_that_is_another_than_the_manifest_says_is_found(base, fetch, restore):
    file = max((base / "base").rglob("*_fsm"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[-1] ^= 0xFF
    file.write_bytes(content)
    _, findings = restore(fetch(kept(base.parent)))
    assert [finding.code for finding in findings] == ["BACKUP-ARTEFACT-ALTERED"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("another major", "files of PostgreSQL 14, and the programs at .*postgresql.bin_directory"),
        ("a running server's", "postmaster.pid is in it"),
        ("a link out of it", "pg_tblspc/16999 is a link to /"),
        ("no log", "recovering the restored files"),
        ("another deployment's", "BACKUP-FOREIGN"),
    ],
)
def test_files_that_must_not_be_started_are_refused(base, fetch, restore, tmp_path, make_server, tools, what, told):
    if what == "another major":
        (base / "PG_VERSION").write_text("14\n")
    elif what == "a running server's":
        (base / "postmaster.pid").touch()
    elif what == "a link out of it":
        (base / "pg_tblspc" / "16999").symlink_to(tmp_path)
    elif what == "no log":
        for path in (base / "pg_wal").glob("0*"):
            path.unlink()
    else:
        other = make_server(tools)
        fetched = fetch(kept(base.parent), database=other.handle)
        other.kill()
        assert [finding.code for finding in fetched.findings] == ["BACKUP-FOREIGN"]
        return
    with pytest.raises(HarnessError, match=told):
        restore(fetch(kept(base.parent)))

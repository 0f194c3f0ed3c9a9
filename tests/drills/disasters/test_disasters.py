"""Each disaster on a PostgreSQL and an S3 server of the test's own: what it strikes, what it spares, what it proves."""

import concurrent.futures
import contextlib
import secrets
import threading

import psycopg
import pytest

from drills.contract import KillsRestore, RotatesCredential, SpoilsBackup, TriesWrongKey
from drills.registry import all_disasters
from fixtures.backup_set import BackupSet
from fixtures.damage import Keys, user_tables
from reports.records import HarnessError, wait_until


@contextlib.contextmanager
def clients_at_work(*writes):
    """Clients that go on writing, each in a thread; one that fails tries again, as a client does."""
    stop, counts = threading.Event(), []

    def work(write):
        for n in range(1_000_000):
            with contextlib.suppress(Exception):
                write(n)
                counts.append(n)
            if stop.wait(0.002):
                return

    with concurrent.futures.ThreadPoolExecutor(len(writes)) as pool:
        try:
            for write in writes:
                pool.submit(work, write)
            wait_until(lambda: len(counts) > 5, seconds=20, interval=0.01, what="clients at work")
            yield counts
        finally:
            stop.set()


def orders(server):
    """A client that makes an order and changes another, in a transaction of its own."""

    def write(n):
        with psycopg.connect(server.client_access().dsn) as connection:
            connection.execute("INSERT INTO shop.orders (customer, state, remark) VALUES (1, 'new', 'now')")
            connection.execute("UPDATE shop.orders SET state = 'paid' WHERE id IN (%s, %s)", (n % 4000, 4000 - n))

    return write


def proven(disaster, server):
    places = disaster.places(server)
    return bool(places) and not any(places.values())


def a(name):
    """The disaster of that name as it is before it strikes."""
    return type(all_disasters()[name])()


def test_every_disaster_is_offered_with_what_it_does():
    found = {name: (each.database, each.objects, each.configuration, each.health)
             for name, each in all_disasters().items()}  # fmt: skip
    assert found == {
        "total_loss": ("gone", "gone", True, True),
        "credential_rotated": ("gone", "gone", True, True),
        "restore_killed": ("gone", "gone", True, True),
        "newest_backup_unusable": ("gone", "gone", True, True),
        "data_directory_wiped": ("gone", "", False, True),
        "page_damaged": ("gone", "", False, False),
        "database_dropped": ("wrong", "", False, True),
        "table_dropped": ("wrong", "", False, False),
        "wrong_update": ("wrong", "", False, False),
        "ransomware": ("wrong", "overwritten", False, False),
        "bucket_emptied": ("", "emptied", False, False),
        "prefix_deleted": ("", "some", False, False),
        "configuration_lost": ("", "", True, True),
        "wrong_key": ("", "", True, True),
    }


@pytest.mark.parametrize(("ability", "names"), [(SpoilsBackup, {"newest_backup_unusable"}),
                         (RotatesCredential, {"credential_rotated"}), (KillsRestore, {"restore_killed"}),
                         (TriesWrongKey, {"wrong_key"})])  # fmt: skip
def test_an_ability_is_offered_by_whom_it_was_given_to(ability, names):
    assert {name for name, disaster in all_disasters().items() if isinstance(disaster, ability)} == names


@pytest.mark.parametrize(
    "name", ["data_directory_wiped", "database_dropped", "table_dropped", "wrong_update", "page_damaged"]
)
def test_nothing_is_proven_where_the_database_was_not_struck(name, database):
    assert not proven(a(name), database)


@pytest.mark.parametrize("name", ["bucket_emptied", "prefix_deleted"])
def test_nothing_is_proven_where_the_bucket_was_not_struck(name, store):
    assert not proven(a(name), store)


def test_the_largest_tables_come_first_and_the_suite_s_own_is_none_of_them(database):
    with database.database.connect() as connection:
        names = [str(table) for table in user_tables(connection)]
    assert names[:2] == ["shop.trail", "shop.orders"]
    assert set(names) == {"shop.trail", "shop.orders", "shop.customers", "shop.letters", "shop.days"}


def test_a_wiped_data_directory_is_gone_with_its_server(database):
    disaster = a("data_directory_wiped")
    disaster.strike(database)
    assert proven(disaster, database)
    database.database.data_directory.mkdir()
    assert disaster.places(database)["data directory"]


def test_a_database_is_dropped_while_clients_are_connected(database):
    disaster = a("database_dropped")
    with clients_at_work(orders(database), orders(database)):
        disaster.strike(database)
        assert proven(disaster, database)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        database.database.connect()


def test_a_dropped_table_is_the_one_that_others_refer_to(database):
    disaster = a("table_dropped")
    with clients_at_work(orders(database), orders(database)):
        disaster.strike(database)
    assert disaster.places(database) == {"table shop.customers": ""}
    assert database.ask("SELECT to_regclass('shop.customers') IS NULL AND to_regclass('shop.orders') IS NOT NULL")


def test_a_wrong_update_passes_over_what_a_trigger_protects_and_over_what_a_rule_forbids(database):
    disaster = a("wrong_update")
    with clients_at_work(orders(database), orders(database)):
        disaster.strike(database)
        assert proven(disaster, database)
    assert database.ask("SELECT count(*) FROM shop.orders WHERE remark = 'OVERWRITTEN'") >= 4000
    assert database.ask("SELECT count(*) FROM shop.letters") == 150
    assert database.ask("SELECT count(*) FROM shop.trail") == 6000


def test_a_wrong_update_that_was_undone_is_no_longer_proven(database):
    disaster = a("wrong_update")
    with database.database.connect() as connection:
        connection.execute("CREATE TABLE enprivacy_drill.kept AS SELECT * FROM shop.letters")
        disaster.strike(database)
        assert proven(disaster, database)
        connection.execute("UPDATE shop.orders SET remark = 'as before'")
        connection.execute("INSERT INTO shop.letters SELECT * FROM enprivacy_drill.kept ON CONFLICT DO NOTHING")
    assert disaster.places(database) == {
        "table shop.orders, remark": "0 of 4,000 rows hold what was written over them",
        "table shop.letters, 150 rows deleted": "rows that were deleted are there",
    }


def test_where_every_table_is_protected_a_wrong_update_says_so(database):
    with database.database.connect() as connection:
        for table in ("customers", "orders", "letters", "days_all"):
            connection.execute(
                f"CREATE TRIGGER stays BEFORE UPDATE OR DELETE ON shop.{table} EXECUTE FUNCTION shop.refuse()"
            )
            connection.execute(f"CREATE TRIGGER each BEFORE UPDATE OR DELETE ON shop.{table} FOR EACH ROW"
                               " EXECUTE FUNCTION shop.refuse()")  # fmt: skip
    with pytest.raises(HarnessError, match="struck only: nothing"):
        a("wrong_update").strike(database)


def test_an_emptied_bucket_holds_none_of_the_objects_listed_while_uploads_go_on(store):
    disaster = a("bucket_emptied")
    before = store.keys()
    with clients_at_work(lambda n: store.put(f"tenants/a/new-{n}")):
        disaster.strike(store)
        assert proven(disaster, store)
    assert len(before) == 46
    assert not before & store.keys()
    store.put("loose")
    assert "1 of" in next(iter(disaster.places(store).values()))


def test_more_objects_are_removed_than_go_into_one_request(store):
    store.put("many/first")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(store.put, [f"many/{n}" for n in range(1100)]))
    disaster = a("bucket_emptied")
    disaster.strike(store)
    assert list(disaster.places(store).items()) == [("1,147 objects of bucket documents", "")]
    assert store.keys() == set()


def test_the_largest_tenant_s_objects_are_deleted_and_no_other_s(store):
    disaster = a("prefix_deleted")
    disaster.strike(store)
    assert disaster.places(store) == {"40 objects of tenant b": ""}
    assert store.keys() == {"loose", *(f"tenants/a/{n}" for n in range(5))}


def test_a_bucket_without_tenants_has_no_prefix_to_delete(store):
    store.tenant_pattern = r"^customers/(?P<tenant>[^/]+)/"
    with pytest.raises(HarnessError, match="no key matches"):
        a("prefix_deleted").strike(store)


def test_ransomware_strikes_what_the_application_s_own_credentials_reach(database, store):
    disaster = a("ransomware")
    store.put("large", secrets.token_bytes(6 * 2**20))
    with clients_at_work(orders(database), lambda n: store.put(f"tenants/a/new-{n}")):
        disaster.strike(database)
        assert proven(disaster, database)
    places = set(disaster.places(database))
    assert {"table shop.orders, remark", "table shop.customers, name, photo", "table shop.letters, body"} <= places
    assert b"owner" not in store.read("loose") and len(store.read("large")) == 6 * 2**20 + 24
    assert database.ask("SELECT count(*) FROM shop.letters WHERE body LIKE 'letter%'") == 150
    assert database.ask("SELECT count(*) FROM shop.trail WHERE what LIKE 'happened%'") == 6000


def test_ransomware_is_proven_where_an_object_is_deleted_and_not_where_one_is_as_it_was(database, store):
    disaster = a("ransomware")
    assert not proven(disaster, database)
    disaster.strike(database)
    store.objects.client().remove_object("documents", "tenants/b/8")
    assert proven(disaster, database)
    struck = store.read("tenants/b/7")
    store.put("tenants/b/7")
    assert "tenants/b/7 has another size" in next(iter(disaster.places(store).values()))
    store.put("tenants/b/7", bytes(len(struck)))
    assert "tenants/b/7 does not begin" in next(iter(disaster.places(store).values()))


def test_a_lost_configuration_takes_the_services_with_it(server):
    disaster = a("configuration_lost")
    server.launch_service()
    assert disaster.places(server) == {"configuration": "1 variables can be read", "service web": "accepts connections"}
    disaster.strike(server)
    assert disaster.places(server) == {"configuration": "", "service web": ""}


def test_a_damaged_page_is_refused_by_the_server_while_clients_go_on(database):
    disaster = a("page_damaged")
    with clients_at_work(orders(database)):
        disaster.strike(database)
        assert proven(disaster, database)
    with pytest.raises(psycopg.errors.DataCorrupted):
        database.ask("SELECT count(what) FROM shop.trail")


def test_a_damaged_page_without_checksums_is_not_proven(database):
    database.kill_database()
    (database.database.data_directory / "postmaster.pid").unlink(missing_ok=True)
    database.launch_database()
    with database.database.connect() as connection:
        connection.execute("CHECKPOINT")
    database.postgres.popen.terminate()
    database.postgres.popen.wait()
    tool = database.database.tools.path("pg_checksums")
    database.processes.run([tool, "--disable", "--no-sync", "-D", database.database.data_directory], timeout=60)
    database.launch_database()
    disaster = a("page_damaged")
    disaster.strike(database)
    assert "checksums are off" in next(iter(disaster.places(database).values()))


def test_the_newest_backup_s_largest_file_is_cut_to_half_and_an_older_set_s_is_not(tmp_path):
    older, newer = (BackupSet(directory=tmp_path / n, apart=tmp_path / f"apart-{n}") for n in ("1", "2"))
    for place in (older.place("database"), newer.place("database")):
        place.mkdir(parents=True)
    (older.place("database") / "base").write_bytes(bytes(1000))
    (newer.place("database") / "base").hardlink_to(older.place("database") / "base")
    (newer.place("database") / "small").write_bytes(bytes(10))
    a("newest_backup_unusable").spoil(newer)
    sizes = {path.relative_to(tmp_path).as_posix(): path.stat().st_size for path in tmp_path.glob("*/database/*")}
    assert sizes == {"1/database/base": 1000, "2/database/base": 500, "2/database/small": 10}


def test_a_backup_without_a_database_cannot_be_spoiled(tmp_path):
    backup = BackupSet(directory=tmp_path / "1", apart=tmp_path / "apart")
    backup.place("database").mkdir(parents=True)
    with pytest.raises(HarnessError, match="no file"):
        a("newest_backup_unusable").spoil(backup)


def test_keys_are_known_again_however_they_are_spelled():
    keys = Keys([("a/ö", 1), ("b 'quoted'", 2), ("b 'quoted'", 3), ("c\nd", 4)])
    assert list(keys) == sorted(keys.sample(9)) == ["a/ö", "b 'quoted'", "c\nd"]
    assert (keys.size("b 'quoted'"), keys.size("a/o"), len(keys)) == (3, None, 3)

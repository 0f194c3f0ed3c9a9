"""What may differ after a restore to an instant that nobody read, and after a restore of the server's files."""

import pytest

from checks.contents import LARGE_OBJECTS
from checks.database import compare, fingerprint, tables_that_changed
from checks.live import rows_lost, with_those_they_change

KEY = b"a key for tests"


def taken(database):
    return fingerprint(database, held=None, jobs=1, key=KEY)


def codes(findings):
    return sorted(finding.code for finding in findings)


@pytest.fixture
def connection(database):
    with database() as connection:
        connection.execute("CREATE TABLE busy (id serial, name text); CREATE TABLE still (i int)")
        connection.execute("INSERT INTO busy (name) VALUES ('one'); INSERT INTO still VALUES (1)")
        connection.execute("CREATE UNLOGGED TABLE scratch AS SELECT 1 AS i; CREATE UNLOGGED SEQUENCE loose")
        connection.execute("SELECT nextval('loose'), lo_from_bytea(900, 'content')")
        yield connection


def test_the_tables_that_changed_are_those_whose_rows_did(database, connection):
    first = taken(database)
    connection.execute("UPDATE busy SET name = 'two'; SELECT lo_put(900, 0, 'X')")
    assert tables_that_changed(first, taken(database)) == {"public.busy", LARGE_OBJECTS}


def test_rows_and_sequences_of_live_tables_may_be_further_on(database, connection):
    before = taken(database)
    connection.execute("INSERT INTO busy SELECT FROM generate_series(1, 100); SELECT lo_create(901)")
    connection.execute("GRANT SELECT ON LARGE OBJECT 900 TO PUBLIC")
    after = taken(database)
    live = ["public.busy", LARGE_OBJECTS]
    assert compare(before, after, sequences_until=before.sequences, live=live) == []
    assert codes(compare(before, after, sequences_until=before.sequences)) == [
        "GRANT-UNEXPECTED", "LARGE-OBJECTS-DIFFER", "LARGE-OBJECTS-DIFFER", "ROWS-UNEXPECTED", "SEQUENCE-AHEAD",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("DROP TABLE busy", "TABLE-LOST"),
        ("ALTER TABLE busy DROP COLUMN name", "COLUMN-LOST"),
        ("DELETE FROM still", "ROWS-LOST"),
        ("SELECT setval('busy_id_seq', 1, false)", "SEQUENCE-SET-BACK"),
    ],
)
def test_all_else_is_compared_as_ever(database, connection, change, code):
    before = taken(database)
    connection.execute(change)
    assert code in codes(compare(before, taken(database), live=["public.busy"]))


def test_unlogged_tables_come_back_empty_from_the_server_s_files_and_not_otherwise(database, connection):
    before = taken(database)
    connection.execute("TRUNCATE scratch; SELECT setval('loose', 1, false)")
    after = taken(database)
    assert compare(before, after, unlogged_emptied=True) == []
    assert codes(compare(before, after)) == ["ROWS-LOST", "SEQUENCE-SET-BACK"]
    connection.execute("INSERT INTO scratch VALUES (1), (2)")
    assert codes(compare(before, taken(database), unlogged_emptied=True)) == ["ROWS-UNEXPECTED"]


def test_a_collation_version_that_the_system_no_longer_gives_is_a_mismatch(database, connection):
    before = taken(database)
    connection.execute("UPDATE pg_database SET datcollversion = '0.1' WHERE datname = current_database()")
    after = taken(database)
    assert codes(compare(before, after)) == ["COLLATION-MISMATCH"]
    assert codes(compare(after, before)) == ["COLLATION-CHANGED"]
    connection.execute("UPDATE pg_database SET datcollversion = NULL WHERE datname = current_database()")


def test_tables_that_change_with_others_by_foreign_key_are_live_too(database, connection):
    connection.execute(
        "ALTER TABLE busy ADD PRIMARY KEY (id);"
        "CREATE TABLE follows (busy int REFERENCES busy ON DELETE SET NULL, id int PRIMARY KEY);"
        "CREATE TABLE follows_it (id int REFERENCES follows ON DELETE CASCADE);"
        "CREATE TABLE stays (busy int REFERENCES busy ON DELETE RESTRICT)"
    )
    found = with_those_they_change(connection, {"public.busy", LARGE_OBJECTS})
    assert found == {"public.busy", LARGE_OBJECTS, "public.follows", "public.follows_it"}
    assert with_those_they_change(connection, set()) == set()


def lost(database, connection, before, *, deletions):
    live = {"public.busy", "public.follows"}
    return codes(rows_lost(connection, before.tables, taken(database).tables, live, deletions=deletions))


def test_rows_of_live_tables_that_no_deletion_explains_are_lost(database, connection):
    connection.execute(
        "ALTER TABLE busy ADD PRIMARY KEY (id); INSERT INTO busy SELECT FROM generate_series(1, 9);"
        "CREATE TABLE follows AS SELECT b.id AS busy FROM busy b, generate_series(1, 3);"
        "ALTER TABLE follows ADD FOREIGN KEY (busy) REFERENCES busy ON DELETE CASCADE"
    )
    before = taken(database)
    assert lost(database, connection, before, deletions=0) == []
    connection.execute("DELETE FROM busy WHERE id IN (2, 3)")
    assert lost(database, connection, before, deletions=2) == []
    assert lost(database, connection, before, deletions=1) == ["ROWS-LOST"]
    connection.execute("DELETE FROM follows")
    assert lost(database, connection, before, deletions=2) == ["ROWS-LOST"]

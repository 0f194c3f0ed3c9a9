"""Each difference is made on the rich schema within a transaction, found with its code, and rolled back."""

import dataclasses

import psycopg
import pytest

from checks.contents import LARGE_OBJECTS, TableDigest, digest_tables
from checks.database import Fingerprint, compare, fingerprint, fingerprint_on, sequences_behind_columns
from checks.differences import of_sequences, of_tables
from checks.snapshot import SequencePosition, hold_snapshot, reading
from reports.records import HarnessError

KEY = b"a key for tests"

LOSSES = {
    "DROP TABLE app.scratch": "TABLE-LOST",
    "DROP TABLE app.events_old CASCADE": "TABLE-LOST",
    "ALTER TABLE app.base DROP COLUMN d": "COLUMN-LOST",
    "DROP INDEX app.documents_title": "INDEX-LOST",
    "DROP INDEX app.documents_trgm": "INDEX-LOST",
    "ALTER TABLE app.documents DROP CONSTRAINT documents_pkey": "CONSTRAINT-LOST",
    "ALTER TABLE app.documents DROP CONSTRAINT documents_tenant_fkey": "CONSTRAINT-LOST",
    "ALTER TABLE app.documents DROP CONSTRAINT documents_check": "CONSTRAINT-LOST",
    "ALTER TABLE app.documents DROP CONSTRAINT documents_spot_excl": "CONSTRAINT-LOST",
    "ALTER DOMAIN app.percent DROP CONSTRAINT percent_check": "CONSTRAINT-LOST",
    "DROP SEQUENCE app.ticket": "SEQUENCE-LOST",
    "ALTER TABLE app.tenants ALTER id DROP IDENTITY": "SEQUENCE-LOST",
    "DROP VIEW app.open_documents": "VIEW-LOST",
    "DROP MATERIALIZED VIEW app.per_tenant": "VIEW-LOST",
    "DROP FUNCTION app.double": "FUNCTION-LOST",
    "DROP PROCEDURE app.sweep": "FUNCTION-LOST",
    "DROP AGGREGATE app.total(int)": "FUNCTION-LOST",
    "DROP TRIGGER touched ON app.documents": "TRIGGER-LOST",
    "DROP EVENT TRIGGER watch": "TRIGGER-LOST",
    "DROP POLICY own ON app.documents": "POLICY-LOST",
    "ALTER TABLE app.documents DISABLE ROW LEVEL SECURITY": "POLICY-LOST",
    "ALTER TABLE app.documents NO FORCE ROW LEVEL SECURITY": "POLICY-LOST",
    "DROP EXTENSION pg_trgm CASCADE": "EXTENSION-LOST",
    "DROP RULE kept ON app.tenants": "SCHEMA-LOST",
    "DROP STATISTICS app.correlated": "SCHEMA-LOST",
    "DROP PUBLICATION feed": "SCHEMA-LOST",
    "DROP CAST (app.pair AS text)": "SCHEMA-LOST",
    "COMMENT ON TABLE app.documents IS NULL": "SCHEMA-LOST",
    "COMMENT ON COLUMN app.documents.title IS NULL": "SCHEMA-LOST",
    "COMMENT ON DATABASE model IS NULL": "SCHEMA-LOST",
    "ALTER DATABASE model RESET work_mem": "SETTING-LOST",
    "ALTER ROLE app_role RESET search_path": "SETTING-LOST",
    "ALTER ROLE app_role SET search_path = public": "SETTING-LOST",
    "REVOKE owner_role FROM app_role": "ROLE-LOST",
    "ALTER ROLE app_role RENAME TO other_role": "ROLE-LOST",
    "REVOKE SELECT ON app.documents FROM app_role CASCADE": "GRANT-LOST",
    "REVOKE GRANT OPTION FOR SELECT ON app.documents FROM app_role": "GRANT-LOST",
    "REVOKE SELECT (name) ON app.tenants FROM app_role": "GRANT-LOST",
    "REVOKE USAGE ON SCHEMA app FROM app_role": "GRANT-LOST",
    "REVOKE USAGE ON SEQUENCE app.ticket FROM app_role": "GRANT-LOST",
    "REVOKE SELECT ON LARGE OBJECT 70001 FROM app_role": "GRANT-LOST",
    "REVOKE EXECUTE ON FUNCTION pg_ls_logdir() FROM app_role": "GRANT-LOST",
    "REVOKE EXECUTE ON PROCEDURE app.sweep FROM PUBLIC": "GRANT-LOST",
    "REVOKE INSERT ON app.base FROM postgres": "GRANT-LOST",
    "ALTER DEFAULT PRIVILEGES FOR ROLE owner_role IN SCHEMA app REVOKE SELECT ON TABLES FROM app_role": "GRANT-LOST",
    "SELECT lo_unlink(70001)": "LARGE-OBJECTS-DIFFER",
    "DELETE FROM app.event_notes; DELETE FROM app.documents WHERE id = 7": "ROWS-LOST",
    "TRUNCATE app.nothing": "ROWS-LOST",
    "REFRESH MATERIALIZED VIEW app.per_tenant WITH NO DATA": "MATVIEW-UNPOPULATED",
}
GAINS = {
    "GRANT DELETE ON app.documents TO app_role": "GRANT-UNEXPECTED",
    "GRANT SELECT ON app.tenants TO PUBLIC": "GRANT-UNEXPECTED",
    "GRANT USAGE ON SEQUENCE app.ticket TO app_role WITH GRANT OPTION": "GRANT-UNEXPECTED",
    "GRANT EXECUTE ON FUNCTION app.double TO PUBLIC": "GRANT-UNEXPECTED",
    "GRANT EXECUTE ON FUNCTION public.similarity TO PUBLIC": "GRANT-UNEXPECTED",
    "GRANT CONNECT ON DATABASE model TO PUBLIC": "GRANT-UNEXPECTED",
    "GRANT pg_read_all_data TO app_role": "GRANT-UNEXPECTED",
    "ALTER DEFAULT PRIVILEGES FOR ROLE owner_role GRANT EXECUTE ON FUNCTIONS TO PUBLIC": "GRANT-UNEXPECTED",
    "ALTER DEFAULT PRIVILEGES FOR ROLE owner_role GRANT ALL ON SCHEMAS TO PUBLIC": "GRANT-UNEXPECTED",
    "CREATE TABLE app.extra ()": "SCHEMA-UNEXPECTED",
    "CREATE INDEX extra ON app.base (a)": "SCHEMA-UNEXPECTED",
    "CREATE ROLE extra": "SCHEMA-UNEXPECTED",
    "INSERT INTO app.base VALUES (3, 'three')": "ROWS-UNEXPECTED",
    "SELECT lo_create(70003)": "LARGE-OBJECTS-DIFFER",
}
ALTERATIONS = {
    "ALTER TABLE app.base ALTER a TYPE bigint": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents ALTER title DROP NOT NULL": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents ALTER state SET DEFAULT 'done'": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents ALTER length DROP EXPRESSION": "SCHEMA-ALTERED",
    "ALTER TABLE app.tenants ALTER id SET GENERATED BY DEFAULT": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents ALTER title SET STATISTICS 100": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents ALTER title SET STORAGE EXTENDED": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents RESET (fillfactor)": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents OWNER TO app_role": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents SET WITHOUT CLUSTER": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents REPLICA IDENTITY FULL": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents VALIDATE CONSTRAINT later": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents ENABLE TRIGGER asleep": "SCHEMA-ALTERED",
    "ALTER TABLE app.documents DISABLE TRIGGER touched": "SCHEMA-ALTERED",
    "ALTER TABLE app.scratch SET LOGGED": "SCHEMA-ALTERED",
    "ALTER TABLE app.events DETACH PARTITION app.events_new": "SCHEMA-ALTERED",
    "ALTER SEQUENCE app.ticket INCREMENT 1": "SCHEMA-ALTERED",
    "ALTER SEQUENCE app.documents_id_seq OWNED BY NONE": "SCHEMA-ALTERED",
    "ALTER TYPE app.state RENAME VALUE 'done' TO 'finished'": "SCHEMA-ALTERED",
    "ALTER TYPE app.state ADD VALUE 'failed' BEFORE 'done'": "SCHEMA-ALTERED",
    "ALTER TYPE app.pair ADD ATTRIBUTE three int": "SCHEMA-ALTERED",
    "ALTER DOMAIN app.percent DROP NOT NULL": "SCHEMA-ALTERED",
    "ALTER POLICY own ON app.documents USING (true)": "SCHEMA-ALTERED",
    "ALTER POLICY own ON app.documents TO PUBLIC": "SCHEMA-ALTERED",
    "ALTER VIEW app.open_documents RESET (security_barrier)": "SCHEMA-ALTERED",
    "ALTER FUNCTION app.touch SECURITY DEFINER": "SCHEMA-ALTERED",
    "ALTER ROLE app_role PASSWORD 'another-password'": "SCHEMA-ALTERED",
    "ALTER ROLE app_role SUPERUSER": "SCHEMA-ALTERED",
    "ALTER ROLE app_role VALID UNTIL '2030-01-01'": "SCHEMA-ALTERED",
    "ALTER ROLE app_role CONNECTION LIMIT 5": "SCHEMA-ALTERED",
    "GRANT owner_role TO app_role WITH ADMIN OPTION": "SCHEMA-ALTERED",
    "COMMENT ON TABLE app.documents IS 'else'": "SCHEMA-ALTERED",
    "UPDATE app.documents SET amount = 1.00 WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET spot = '(-0,0)', ratio = 'NaN' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET big = big + 4294967295 WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET title = title || ' ' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET about = '{\"n\": 1.0}' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET loose = '{\"a\":1}' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET note = 'note' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET note = NULL WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET state = 'running' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET tags = '{y}' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.documents SET duo.two = 'three' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.tenants SET name = 'TENANT 1' WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.tenants SET share = share + 0.01 WHERE id = 1": "ROWS-ALTERED",
    "UPDATE app.base SET a = 7 WHERE a = 1": "ROWS-ALTERED",
    "UPDATE app.events SET what = 'else' WHERE id = 1": "ROWS-ALTERED",
    "SELECT lo_put(70001, 3, 'X')": "LARGE-OBJECTS-DIFFER",
    "SELECT lo_truncate(lo_open(70002, 131072), 30011)": "LARGE-OBJECTS-DIFFER",
    "ALTER LARGE OBJECT 70001 OWNER TO postgres": "LARGE-OBJECTS-DIFFER",
}


@pytest.fixture(scope="session")
def held(server):
    with server.connect("model") as connection:
        connection.execute("BEGIN")
        return fingerprint_on(connection, key=KEY)


@pytest.mark.parametrize(("change", "code"), [*LOSSES.items(), *GAINS.items(), *ALTERATIONS.items()])
def test_a_difference_is_found_with_its_code(model, held, change, code):
    # Without the trigger and the policies of the schema, so that each statement changes what it says.
    model.execute("SET LOCAL session_replication_role = replica")
    model.execute(change)
    findings = compare(held, fingerprint_on(model, key=KEY))
    assert code in {finding.code for finding in findings}


@pytest.mark.parametrize(
    "change", ["VACUUM FULL app.documents", "CLUSTER app.documents", "ANALYZE", "REINDEX TABLE app.base"]
)
def test_what_only_moves_rows_is_silent(server, held, change):
    with server.connect("model") as connection:
        connection.execute(change)
    assert compare(held, fingerprint(lambda: server.connect("model"), held=None, jobs=2, key=KEY)) == []


def test_exchanging_a_cell_between_two_rows_is_found(model):
    # A sum of PostgreSQL's own record hashes does not see this: it is linear in the columns.
    model.execute(
        "CREATE TABLE public.swap AS SELECT i AS id, 'row ' || i AS name, i % 3 AS kind FROM generate_series(1, 50) i"
    )
    before = fingerprint_on(model, key=KEY, tables=["public.swap"])
    for one in range(1, 50):
        model.execute("SAVEPOINT swap")
        model.execute(
            "UPDATE public.swap SET name = 'row ' || (%s - id) WHERE id IN (%s, %s)", [2 * one + 1, one, one + 1]
        )
        after = fingerprint_on(model, key=KEY, tables=["public.swap"]) if one % 10 == 0 else None
        if after is not None:
            assert [finding.code for finding in compare(before, after)] == ["ROWS-ALTERED"]
        model.execute("ROLLBACK TO swap")


def test_one_row_twice_for_another_is_found(model):
    model.execute("CREATE TABLE public.twins AS SELECT i % 5 AS n FROM generate_series(1, 20) i")
    before = fingerprint_on(model, key=KEY, tables=["public.twins"])
    model.execute("UPDATE public.twins SET n = 1 WHERE ctid = (SELECT ctid FROM public.twins WHERE n = 2 LIMIT 1)")
    after = fingerprint_on(model, key=KEY, tables=["public.twins"])
    assert [finding.code for finding in compare(before, after)] == ["ROWS-ALTERED"]


def test_a_dump_and_its_restore_are_silent(server, processes, tmp_path, held):
    tools, arguments = server.tools, server.connection_arguments()
    dump = [tools.path("pg_dump"), *arguments, "--format=directory", f"--file={tmp_path / 'dump'}", "model"]
    processes.run(dump, timeout=60, env=server.environment())
    with server.connect("postgres") as connection:
        connection.execute("ALTER DATABASE model RENAME TO source")
    try:
        restore = [tools.path("pg_restore"), *arguments, "--create", "--dbname=postgres", tmp_path / "dump"]
        processes.run(restore, timeout=60, env=server.environment())
        restored = fingerprint(lambda: server.connect("model"), held=None, jobs=2, key=KEY)
        with server.connect("postgres") as connection:
            connection.execute("DROP DATABASE model")
    finally:
        with server.connect("postgres") as connection:
            connection.execute("ALTER DATABASE source RENAME TO model")
    assert compare(held, restored, sequences_until=held.sequences) == []


def test_digests_are_those_of_the_held_instant_while_writes_go_on(database):
    with database() as writer:
        writer.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
        with hold_snapshot(database) as instant:
            before = digest_tables(database, snapshot=instant.name, tables=None, jobs=2)
            writer.execute("DELETE FROM t WHERE i < 10; UPDATE t SET i = -i; INSERT INTO t VALUES (5)")
            assert digest_tables(database, snapshot=instant.name, tables=None, jobs=2) == before
        assert digest_tables(database, snapshot=None, tables=None, jobs=1) != before


def test_a_large_table_cut_into_pieces_has_the_digest_of_the_whole(database, monkeypatch):
    with database() as writer:
        writer.execute("CREATE TABLE t AS SELECT i, md5(i::text) AS name FROM generate_series(1, 20000) i")
    whole = digest_tables(database, snapshot=None, tables=["public.t"], jobs=1)
    monkeypatch.setattr("checks.contents._CHUNK", 7)
    monkeypatch.setattr("checks.contents._WORTH_A_CONNECTION", 10)
    assert digest_tables(database, snapshot=None, tables=["public.t"], jobs=3) == whole
    assert whole["public.t"].rows == 20000


def test_both_methods_see_a_changed_cell_and_do_not_mix(database):
    with database() as writer:
        writer.execute("CREATE TABLE t AS SELECT i, 1.0 AS n FROM generate_series(1, 10) i")
        before = [fingerprint(database, held=None, jobs=1, key=KEY, method=method) for method in ("record", "text")]
        writer.execute("UPDATE t SET n = 1.00 WHERE i = 3")
        after = [fingerprint(database, held=None, jobs=1, key=KEY, method=method) for method in ("record", "text")]
    for one, other in zip(before, after, strict=True):
        assert [finding.code for finding in compare(one, other)] == ["ROWS-ALTERED"]
    with pytest.raises(HarnessError, match="by method record, the other by text"):
        compare(before[0], after[1])


def test_another_major_version_needs_the_text_method(held):
    with pytest.raises(HarnessError, match="method text"):
        compare(held, dataclasses.replace(held, server_version=held.server_version + 10000))


def test_a_fingerprint_survives_being_stored(held):
    assert Fingerprint.from_json(held.to_json()) == held


def test_a_damaged_fingerprint_gets_one_clear_message():
    with pytest.raises(HarnessError, match="stored fingerprint: not readable"):
        Fingerprint.from_json('{"tables": 3')


def test_the_password_itself_is_nowhere_in_a_fingerprint(server, held):
    with server.connect("postgres") as connection:
        (verifier,) = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_role'").fetchone()
    assert verifier.startswith("SCRAM")
    assert verifier not in held.to_json()


def test_an_unknown_table_is_an_error_not_an_empty_digest(database):
    with pytest.raises(HarnessError, match=r"no such table: public\.absent"):
        digest_tables(database, snapshot=None, tables=["public.absent"], jobs=1)


def test_a_table_that_vanishes_meanwhile_is_named(database):
    with database() as other:
        other.execute("CREATE TABLE t (i int)")
        with hold_snapshot(database) as instant:
            other.execute("DROP TABLE t")
            with pytest.raises(HarnessError, match="t"):
                digest_tables(database, snapshot=instant.name, tables=None, jobs=1)


def test_a_role_that_row_security_filters_gets_an_error_not_fewer_rows(database):
    with database() as owner:
        owner.execute("CREATE TABLE t (i int); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
        owner.execute("GRANT SELECT ON t TO app_role")

    def as_application():
        connection = database()
        connection.execute("SET SESSION AUTHORIZATION app_role")
        return connection

    with pytest.raises(HarnessError, match="BYPASSRLS"):
        digest_tables(as_application, snapshot=None, tables=["public.t"], jobs=1)


def test_a_table_digested_on_one_side_only_is_an_error():
    with pytest.raises(HarnessError, match="one side only"):
        of_tables({"public.t": TableDigest(rows=1, digest="0")}, {}, known={"public.t"})


def test_large_objects_that_are_gone_altogether_are_found(database):
    with database() as writer:
        writer.execute("SELECT lo_from_bytea(900, 'content')")
        before = fingerprint(database, held=None, jobs=1, key=KEY)
        writer.execute("SELECT lo_unlink(900)")
    assert before.tables[LARGE_OBJECTS].bytes == 7
    after = fingerprint(database, held=None, jobs=1, key=KEY)
    assert {finding.code for finding in compare(before, after)} >= {"LARGE-OBJECTS-DIFFER"}


def position(following, increment=1, cycle=False):
    return {"s": SequencePosition(next=following, increment=increment, cycle=cycle)}


@pytest.mark.parametrize(
    ("start", "until", "now", "codes"),
    [
        (position(10), position(20), position(10), []),
        (position(10), position(20), position(20), []),
        (position(10), position(20), position(9), ["SEQUENCE-SET-BACK"]),
        (position(10), position(20), position(52), []),
        (position(10), position(20), position(53), ["SEQUENCE-AHEAD"]),
        (position(10), None, position(9999), []),
        (position(-10, -1), position(-20, -1), position(-9, -1), ["SEQUENCE-SET-BACK"]),
        (position(-10, -1), position(-20, -1), position(-15, -1), []),
        (position(10, cycle=True), position(20, cycle=True), position(1, cycle=True), []),
    ],
)
def test_a_sequence_may_stand_between_the_snapshot_and_the_end_of_the_dump(start, until, now, codes):
    assert [finding.code for finding in of_sequences(start, now, until=until)] == codes


def test_a_sequence_behind_its_column_is_found(database):
    with database() as writer:
        writer.execute("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t SELECT FROM generate_series(1, 10)")
        writer.execute('CREATE TABLE "U" (id int GENERATED ALWAYS AS IDENTITY); CREATE SEQUENCE loose')
        writer.execute("CREATE TABLE v (id bigint DEFAULT nextval('loose')); INSERT INTO v VALUES (1)")
        with reading(database, snapshot=None) as connection:
            (finding,) = sequences_behind_columns(connection)
        assert "public.loose gives 1 next, and public.v.id holds 1" in finding.seen
        writer.execute("SELECT setval('loose', 1), setval('t_id_seq', 10, false)")
        with reading(database, snapshot=None) as connection:
            (finding,) = sequences_behind_columns(connection)
    assert (finding.code, finding.count) == ("SEQUENCE-BEHIND-COLUMN", 1)
    assert "public.t_id_seq gives 10 next" in finding.seen


def test_a_server_that_does_not_answer_is_a_harness_error():
    with pytest.raises(HarnessError, match="reading the database"):
        digest_tables(
            lambda: psycopg.connect("host=127.0.0.1 port=1 connect_timeout=1"), snapshot=None, tables=None, jobs=1
        )

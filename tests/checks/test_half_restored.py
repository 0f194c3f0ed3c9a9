import psycopg
import pytest

from checks import half_restored

NAMES = "SELECT array_agg(datname ORDER BY datname) FROM pg_database WHERE datname LIKE 'model%'"


def tables(server):
    with server.connect() as connection:
        return connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'app'").fetchone()[0]


def names(server):
    with server.connect("postgres") as connection:
        return connection.execute(NAMES).fetchone()[0]


@pytest.mark.parametrize("broken", [False, True])
def test_a_database_comes_back_as_it_was_also_where_a_check_breaks(server, broken):
    before, session = tables(server), server.connect()
    with pytest.raises(ZeroDivisionError) if broken else session, half_restored.empty_in_its_place(server):
        assert (tables(server), names(server)) == (0, ["model", "model_set_aside"])
        1 / (0 if broken else 1)
    assert (tables(server), names(server)) == (before, ["model"])
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


def test_nobody_reaches_what_was_set_aside(server):
    with (
        half_restored.empty_in_its_place(server),
        pytest.raises(psycopg.OperationalError, match="not currently accept"),
    ):
        server.connect("model_set_aside")


def test_a_restore_leads_through_tables_without_rows_and_rows_without_keys(server, processes, tmp_path):
    source, whole = tmp_path / "dump", tables(server)
    half_restored.dump(server, source, processes)
    keys = "SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'f') AND connamespace = 'app'::regnamespace"
    with half_restored.empty_in_its_place(server):
        for section in half_restored.SECTIONS:
            half_restored.restore_section(server, source, section, processes)
            with server.connect() as connection:
                assert connection.execute(keys).fetchone() == (0,)
                rows = connection.execute("SELECT count(*) FROM app.documents").fetchone()[0]
            assert (tables(server), rows > 0) == (whole, section == "data")


def test_an_unknown_database_is_no_crash(server):
    assert half_restored.size_of(server) > 0

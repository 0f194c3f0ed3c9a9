import re

import pytest

from checks.inventories import ObjectEntry, write_inventory
from checks.references import check_references
from reports.records import HarnessError

QUERY = "SELECT path, sha256, size, tenant, 'document ' || id FROM documents;"
TENANT = re.compile(r"^(?P<tenant>[^/]+)/")


@pytest.fixture
def stores(database, tmp_path):
    """Three objects in two tenants' folders, and rows that refer to them."""
    keys = ["a/1", "a/2", "b/1"]
    entries = [ObjectEntry(key=key, size=10, sha256=str(n) * 64) for n, key in enumerate(keys)]
    inventory = write_inventory(tmp_path / "inventory", entries)
    with database() as connection:
        connection.execute("CREATE TABLE documents (id int, path text, sha256 text, size int, tenant text)")
        for n, key in enumerate(keys):
            row = (n, key, str(n) * 64, 10, key[0])
            connection.execute("INSERT INTO documents VALUES (%s, %s, %s, %s, %s)", row)
        yield connection, inventory.path


def check(stores, **options):
    connection, inventory = stores
    findings, counts = check_references(connection, QUERY, inventory, tenant_of_key=TENANT, **options)
    return [(finding.code, finding.count) for finding in findings], counts


def test_references_that_all_resolve_are_silent(stores):
    counts = {
        "references": 3,
        "referenced": 3,
        "objects": 3,
        "lost": 0,
        "dangling": 0,
        "altered": 0,
        "crossed": 0,
        "orphaned": 0,
    }
    assert check(stores) == ([], counts)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("INSERT INTO documents VALUES (9, 'a/0')", [("REFERENCE-DANGLING", 1)]),
        ("INSERT INTO documents VALUES (9, 'z')", [("REFERENCE-DANGLING", 1)]),
        ("UPDATE documents SET sha256 = repeat('9', 64) WHERE id = 1", [("REFERENCE-ALTERED", 1)]),
        ("UPDATE documents SET size = 11 WHERE id = 1", [("REFERENCE-ALTERED", 1)]),
        ("UPDATE documents SET sha256 = NULL, size = NULL", []),
        ("UPDATE documents SET sha256 = upper(sha256)", []),
        ("UPDATE documents SET tenant = 'b' WHERE id = 1", [("REFERENCE-CROSSED", 1)]),
        (
            "INSERT INTO documents SELECT 9, path, sha256, size, 'b' FROM documents WHERE id = 1",
            [("REFERENCE-CROSSED", 1)],
        ),
        ("INSERT INTO documents SELECT 9, path, sha256, size, tenant FROM documents WHERE id = 1", []),
        ("DELETE FROM documents WHERE id = 1", [("OBJECTS-ORPHANED", 1)]),
        ("DELETE FROM documents", [("OBJECTS-ORPHANED", 3)]),
        ("UPDATE documents SET path = NULL WHERE id = 2", [("OBJECTS-ORPHANED", 1)]),
    ],
)
def test_each_kind_of_broken_reference_is_found(stores, change, found):
    stores[0].execute(change)
    assert check(stores)[0] == found


def test_one_key_of_two_tenants_is_crossed_even_without_a_rule(stores):
    connection, inventory = stores
    connection.execute("INSERT INTO documents SELECT 9, path, sha256, size, 'b' FROM documents WHERE id = 1")
    findings, _ = check_references(connection, QUERY, inventory)
    assert [finding.code for finding in findings] == ["REFERENCE-CROSSED"]


def test_keys_that_need_no_row_are_not_orphans(stores):
    stores[0].execute("DELETE FROM documents")
    assert check(stores, ignored_prefixes=["b/"])[0] == [("OBJECTS-ORPHANED", 2)]


def test_a_query_that_fails_is_a_harness_error(stores):
    with pytest.raises(HarnessError, match="references"):
        check_references(stores[0], "SELECT nonsense", stores[1])


def test_a_rule_without_a_tenant_is_refused(stores):
    with pytest.raises(HarnessError, match="no group tenant"):
        check_references(stores[0], QUERY, stores[1], tenant_of_key=re.compile("x"))


def test_lost_work_is_counted_and_no_finding_and_is_asked_for_in_order(stores):
    asked = []
    stores[0].execute("INSERT INTO documents VALUES (9, 'z/new'), (10, 'a/new'), (11, 'a/0')")
    found, counts = check(stores, lost=lambda key: asked.append(key) or key.endswith("new"))
    assert found == [("REFERENCE-DANGLING", 1)]
    assert (counts["lost"], counts["dangling"]) == (2, 1)
    assert asked == ["a/0", "a/new", "z/new"]

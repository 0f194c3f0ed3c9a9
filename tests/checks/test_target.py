import dataclasses
import json

import pytest

from checks.database import Fingerprint
from checks.target import prerequisites

EMPTY = Fingerprint(catalogue={}, tables={}, sequences={}, server_version=170010, method="record")


def expecting(**catalogue):
    kinds = {kind.replace("_", " "): objects for kind, objects in catalogue.items()}
    texts = {kind: {name: json.dumps(value) for name, value in objects.items()} for kind, objects in kinds.items()}
    return dataclasses.replace(EMPTY, catalogue=texts)


def codes(findings):
    return [finding.code for finding in findings]


@pytest.fixture
def present(server):
    """What the server has: the version of an extension, and of a collation."""
    with server.connect("postgres") as connection:
        (extension,) = connection.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'citext'"
        ).fetchone()
        collation = connection.execute(
            "SELECT oid::regcollation::text, pg_collation_actual_version(oid) FROM pg_collation"
            " WHERE pg_collation_actual_version(oid) IS NOT NULL LIMIT 1"
        ).fetchone()
        yield connection, extension, collation


def test_an_extension_that_is_offered_in_its_version_is_silent(present):
    connection, version, _ = present
    assert prerequisites(connection, expecting(extension={"citext": {"version": version}})) == []


@pytest.mark.parametrize(("name", "seen"), [("nowhere", "of which no version is there"), ("citext", "citext 99.9")])
def test_an_extension_that_is_not_offered_is_found(present, name, seen):
    (finding,) = prerequisites(present[0], expecting(extension={name: {"version": "99.9"}}))
    assert finding.code == "EXTENSION-ABSENT"
    assert seen in finding.seen


def test_a_role_is_only_missed_where_the_backup_does_not_bring_it(present):
    expected = expecting(role={"postgres": {}, '"No One"': {}})
    assert prerequisites(present[0], expected) == []
    (finding,) = prerequisites(present[0], expected, roles_given=True)
    assert (finding.code, finding.count) == ("ROLE-ABSENT", 1)


def test_another_version_of_a_collation_breaks_files_and_is_told_of_for_dumps(present):
    connection, _, collation = present
    if collation is None:
        pytest.skip("this PostgreSQL has no collation with a version")
    same = expecting(collation_version={collation[0]: {"recorded": collation[1]}})
    other = expecting(collation_version={collation[0]: {"recorded": "0.1"}})
    assert prerequisites(connection, same, physical=True) == []
    assert codes(prerequisites(connection, other, physical=True)) == ["COLLATION-MISMATCH"]
    assert codes(prerequisites(connection, other)) == ["COLLATION-CHANGED"]

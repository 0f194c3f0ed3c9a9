import dataclasses
import json

import pytest

from checks.database import Fingerprint, fingerprint
from checks.snapshot import hold_snapshot
from checks.target import Offer, judge_offer, judge_room, judge_tools, needs_of, prerequisites, read_offer
from reports.records import UsageProblem, canonical

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


def needing(**needs):
    return {"extensions": [], "roles": [], "collations": [], "locale": {}} | needs


def offering(present, **needs):
    return judge_offer(needing(**needs), read_offer(present[0], needing(**needs)))


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_a_locale_that_every_system_has_is_silent(present, locale):
    assert offering(present, locale={"provider": "c", "collate": locale, "ctype": locale}) == []


def test_a_locale_that_the_system_does_not_know_is_found_and_nothing_is_left_of_asking(present):
    (finding,) = offering(present, locale={"provider": "c", "collate": "xx_XX.utf8", "ctype": "C"})
    assert finding.code == "LOCALE-ABSENT"
    assert "xx_XX.utf8" in finding.seen
    (left,) = present[0].execute("SELECT count(*) FROM pg_collation WHERE collname ~ 'drill_probe'").fetchone()
    assert left == 0


def test_what_a_database_needs_survives_being_written_into_a_manifest(present, server):
    connect = server.connect
    with hold_snapshot(connect) as held:
        needs = needs_of(fingerprint(connect, held=held, jobs=1, key=b"k" * 32))
    assert json.loads(canonical(needs)) == needs
    assert {"owner_role", "app_role"} <= set(needs["roles"])
    assert judge_offer(needs, read_offer(present[0], needs), roles_given=True) == []


@pytest.mark.parametrize("needs", [{}, {"extensions": 1, "roles": [], "collations": []}, {"extensions": [{}]}])
def test_needs_of_another_form_are_told_plainly(needs):
    with pytest.raises(UsageProblem, match="not readable"):
        judge_offer(needs, Offer(extensions=frozenset(), roles=frozenset(), versions={}))


@pytest.mark.parametrize(
    ("needed", "here", "found"),
    [
        ({"rclone": "1.70"}, {"rclone": "1.70", "postgresql": "17.1"}, []),
        ({"rclone": "1.70"}, {"rclone": "2.0"}, []),
        ({"rclone": "1.70"}, {}, ["TOOL-ABSENT"]),
        ({"postgresql": "17.1"}, {"postgresql": "15.9"}, ["VERSION-MISMATCH"]),
    ],
)
def test_programs_must_be_here_and_not_of_an_older_major_version(needed, here, found):
    assert codes(judge_tools(needed, here)) == found


def test_room_that_just_suffices_is_silent_and_a_byte_less_is_not():
    assert judge_room({"database": 70, "objects": 30}, free=100, where="here") == []
    (finding,) = judge_room({"database": 70, "objects": 31}, free=100, where="here")
    assert finding.code == "RESTORE-NO-SPACE"

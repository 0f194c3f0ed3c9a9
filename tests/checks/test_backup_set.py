import datetime

import pytest

from checks.backup_set import judge_set
from fixtures.backup_set import COMPONENTS, MANIFEST, BackupSet, sha256_of, write_manifest
from reports.records import UsageProblem, parse_duration

ABOUT = {
    "deployment": "acme",
    "system_identifier": "7601",
    "server_version": 170010,
    "made_utc": "2026-11-22T20:00:00.000000Z",
    "tools": {"postgresql": "17.10"},
}
WANTED = {
    "deployment": "acme",
    "system_identifier": "7601",
    "server_version": 170010,
    "now_utc": "2026-11-22T21:00:00.000000Z",
    "max_age_ns": parse_duration("4h"),
}


@pytest.fixture
def make(tmp_path):
    """Makes a backup set with a file in each component, its manifest saying what is given."""

    def made(empty=(), **about):
        backup = BackupSet(directory=tmp_path / "set", apart=tmp_path / "apart")
        for component in COMPONENTS:
            backup.place(component).mkdir(parents=True)
            if component not in empty:
                (backup.place(component) / "file").write_text(component)
        write_manifest(backup, ABOUT | about)
        return backup

    return made


def judged(backup, **wanted):
    noted = {"manifest_sha256": sha256_of(backup.directory / MANIFEST)}
    return [finding.code for finding in judge_set(backup, **(noted | WANTED | wanted))]


def test_a_fitting_set_is_silent(make):
    assert judged(make()) == []


def test_a_manifest_that_was_rewritten_is_the_only_finding(make):
    backup = make(deployment="another")
    assert judged(backup, manifest_sha256="0" * 64) == ["BACKUP-MANIFEST-ALTERED"]


@pytest.mark.parametrize(
    ("about", "wanted", "code"),
    [
        ({"deployment": "another"}, {}, "BACKUP-FOREIGN"),
        ({"system_identifier": "7602"}, {}, "BACKUP-FOREIGN"),
        ({"made_utc": "2026-11-22T16:59:59Z"}, {}, "BACKUP-STALE"),
        ({"made_utc": "2026-11-22T21:05:01Z"}, {}, "BACKUP-STALE"),
        ({"tools": {"postgresql": "16.4"}}, {}, "VERSION-MISMATCH"),
        ({}, {"server_version": 160004}, "VERSION-MISMATCH"),
        ({}, {"server_version": 180001, "physical": True}, "VERSION-MISMATCH"),
        ({"empty": ("objects",)}, {}, "BACKUP-EMPTY"),
    ],
)
def test_what_speaks_against_a_set_is_found(make, about, wanted, code):
    assert judged(make(**about), **wanted) == [code]


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({"made_utc": "2026-11-22T17:00:00Z"}, {}),
        ({"made_utc": "2026-11-22T21:04:00Z"}, {}),
        ({}, {"server_version": 180001}),
        ({"tools": {"postgresql": "18.1"}}, {}),
        ({"empty": ("objects",)}, {"components": ("database", "configuration")}),
    ],
    ids=["as old as allowed", "clocks a little apart", "a dump into a later server", "later tools", "nothing expected"],
)
def test_what_is_allowed_is_silent(make, about, wanted):
    assert judged(make(**about), **wanted) == []


def test_a_file_of_no_bytes_is_an_empty_component(make):
    backup = make(empty=("objects",))
    (backup.place("objects") / "empty").touch()
    write_manifest(backup, ABOUT)
    assert judged(backup) == ["BACKUP-EMPTY"]


@pytest.mark.parametrize("about", [{"made_utc": "yesterday"}, {"made_utc": "2026-11-22T21:00:00"}])
def test_an_age_that_cannot_be_read_is_an_error_not_a_pass(make, about):
    with pytest.raises(UsageProblem, match="age of a backup set"):
        judged(make(**about))


def test_a_manifest_without_a_needed_field_is_an_error_not_a_pass(make):
    backup = make()
    about = {name: value for name, value in ABOUT.items() if name != "system_identifier"}
    write_manifest(backup, about)
    with pytest.raises(UsageProblem, match="no system_identifier in it"):
        judged(backup)


def test_the_age_is_told_in_words(make):
    backup = make(made_utc=(datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)).isoformat())
    (finding,) = judge_set(backup, manifest_sha256=sha256_of(backup.directory / MANIFEST), **WANTED)
    assert "2 d 21 h ago; at most 4 h" in finding.seen

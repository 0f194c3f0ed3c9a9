import dataclasses
import datetime

import pytest

from checks.freshness import SetSeen, Source, demands, judge_ages, judge_demands, judge_retention, newest_first, see_set
from fixtures.backup_set import COMPONENTS, BackupSet, note_manifest, write_manifest
from fixtures.objectives import BackupObjectives, Kept, Objective
from reports.records import parse_duration

NOW = datetime.datetime(2026, 11, 22, 21, tzinfo=datetime.UTC)
NOW_UTC = "2026-11-22T21:00:00Z"
UNSET = Objective(target_ns=None, source="nobody")
NOTHING = BackupObjectives(
    rpo=UNSET, frequency=dict.fromkeys(COMPONENTS, UNSET), sets=Kept(least=None, source="nobody"), age=UNSET
)
SOURCE = Source(deployment="acme", system_identifier="7601", server_version=170000)
ABOUT = {
    "deployment": "acme",
    "system_identifier": "7601",
    "server_version": 170010,
    "made_utc": "2026-11-22T20:00:00.000000Z",
    "tools": {"postgresql": "17.10"},
    "duration_ns": 60_000_000_000,
}
DAY = parse_duration("26h")


def every(text):
    return Objective(target_ns=parse_duration(text), source="here")


def asked(**changes):
    return dataclasses.replace(NOTHING, **changes)


def aged(hours, name="a", **more):
    given = {"duration_ns": 0, "unusable": {}, "noted": True, "logged": False, "files": 3}
    return SetSeen(name=name, made=NOW - datetime.timedelta(hours=hours), **(given | more))


def codes(findings):
    return [(finding.code, finding.where) for finding in findings]


def ages(sets, objectives=NOTHING):
    return codes(judge_ages(sets, objectives, now=NOW, max_age_ns=DAY)[0])


@pytest.fixture
def make(tmp_path):
    """Makes a backup set with a file in each component."""

    def made(**about):
        backup = BackupSet(directory=tmp_path / "set", apart=tmp_path / "apart")
        for component in COMPONENTS:
            backup.place(component).mkdir(parents=True)
            (backup.place(component) / "file").write_text(component)
        write_manifest(backup, ABOUT | about)
        note_manifest(backup)
        return backup

    return made


def see(backup, contents=True):
    return see_set(backup, SOURCE, now_utc=NOW_UTC, contents=contents)


def test_a_whole_set_is_usable_and_its_age_is_known(make):
    seen = see(make())
    assert seen.unusable == {}
    assert (seen.duration_ns, seen.files, seen.noted) == (60_000_000_000, 3, True)
    assert all(seen.usable(component) for component in COMPONENTS)


def test_an_altered_file_spoils_its_own_component_only(make):
    backup = make()
    (backup.place("objects") / "file").write_text("OBJECTS")
    assert set(see(backup).unusable) == {"objects"}
    assert see(backup, contents=False).unusable == {}


@pytest.mark.parametrize("about", [{"deployment": "another"}, {"system_identifier": "1"}, {"server_version": 990000}])
def test_a_set_that_may_not_be_restored_here_is_of_no_use(make, about):
    assert set(see(make(**about)).unusable) == set(COMPONENTS)


def test_a_rewritten_manifest_makes_a_set_useless(make):
    backup = make()
    write_manifest(backup, ABOUT | {"made_utc": NOW_UTC})
    assert set(see(backup).unusable) == set(COMPONENTS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"components": {}, "files_sha256": ""}'])
def test_a_set_without_a_readable_manifest_has_no_age(make, content):
    backup = make()
    (backup.directory / "manifest.json").write_text(content)
    (backup.apart / "manifest.sha256").unlink()
    assert see(backup).made is None
    assert set(see(backup).unusable) == set(COMPONENTS)


def test_a_set_whose_digest_nobody_noted_says_so(make):
    backup = make()
    (backup.apart / "manifest.sha256").unlink()
    assert not see(backup).noted


def test_a_young_set_is_silent():
    assert ages([aged(1)]) == []
    assert judge_ages([aged(1)], NOTHING, now=NOW, max_age_ns=DAY)[1]["s of age of the database backup"] == 3600


def test_no_set_at_all_is_found_for_each_component():
    assert ages([]) == [("BACKUP-ABSENT", component) for component in COMPONENTS]


def test_without_a_frequency_the_greatest_age_allowed_is_judged():
    assert ages([aged(25)]) == []
    assert ages([aged(27)]) == [("BACKUP-STALE", component) for component in COMPONENTS]


def test_a_component_is_judged_by_its_own_frequency():
    frequency = NOTHING.frequency | {"objects": every("4h")}
    assert ages([aged(5)], asked(frequency=frequency)) == [("BACKUP-STALE", "objects")]


def test_the_time_that_a_backup_takes_is_granted():
    frequency = dict.fromkeys(COMPONENTS, every("4h"))
    assert ages([aged(4.5, duration_ns=parse_duration("1h"))], asked(frequency=frequency)) == []


def test_age_counts_from_the_newest_usable_set_of_each_component():
    sets = [aged(30, "old"), aged(1, "new", unusable={"database": "BACKUP-ARTEFACT-ALTERED"})]
    assert ages(sets) == [("BACKUP-UNUSABLE", "new"), ("BACKUP-STALE", "database")]


def test_a_set_of_unknown_age_counts_as_the_newest():
    unknown = dataclasses.replace(aged(0, "x"), made=None, unusable=dict.fromkeys(COMPONENTS, "no manifest"))
    assert [each.name for each in newest_first([aged(2, "b"), unknown, aged(1, "a")])] == ["x", "a", "b"]
    assert ages([aged(1), unknown]) == [("BACKUP-UNUSABLE", "x")]


def test_without_an_rpo_nothing_is_demanded():
    assert demands([aged(1)], NOTHING) == []


@pytest.mark.parametrize(("frequency", "found"), [("3h", []), ("210min", []), ("211min", ["database", "objects"])])
def test_interval_and_duration_together_must_keep_the_rpo(frequency, found):
    objectives = asked(rpo=every("4h"), frequency=dict.fromkeys(COMPONENTS, every(frequency)))
    seen = [aged(1, duration_ns=parse_duration("30min"))]
    assert [finding.where for finding in judge_demands(demands(seen, objectives))] == found


def test_without_a_frequency_the_interval_between_the_two_newest_is_judged():
    found = demands([aged(1), aged(9), aged(10)], asked(rpo=every("4h")))
    assert {each.interval_ns for each in found} == {parse_duration("8h")}
    assert codes(judge_demands(found)) == [("BACKUP-TOO-SELDOM", "database"), ("BACKUP-TOO-SELDOM", "objects")]


def test_a_frequency_that_is_not_kept_counts_for_nothing():
    hourly = asked(rpo=every("2h"), frequency=dict.fromkeys(COMPONENTS, every("1h")))
    found = demands([aged(0.2), aged(1), aged(30)], hourly)
    assert codes(judge_demands(found)) == []
    found = demands([aged(0.2), aged(1, unusable=dict.fromkeys(COMPONENTS, "gone")), aged(30)], hourly)
    assert codes(judge_demands(found)) == [("BACKUP-TOO-SELDOM", "database"), ("BACKUP-TOO-SELDOM", "objects")]
    assert "between the two newest" in found[0].seen


def test_a_frequency_without_a_usable_set_is_neither_kept_nor_found():
    found = demands([], asked(rpo=every("2h"), frequency=dict.fromkeys(COMPONENTS, every("1h"))))
    assert [each.interval_ns for each in found] == [0, 0]
    assert "no usable set" in found[0].seen


def test_with_a_log_the_database_does_not_hang_on_its_next_backup():
    found = demands([aged(1, logged=True), aged(25)], asked(rpo=every("4h")))
    assert [each.component for each in found] == ["objects"]


def test_an_interval_that_nobody_knows_is_no_finding():
    (first, _) = demands([aged(1)], asked(rpo=every("4h")))
    assert "unknown" in first.seen
    assert judge_demands([first]) == []


def test_retention_that_nobody_set_is_silent():
    assert judge_retention([aged(10_000)], NOTHING, now=NOW) == []


def test_unusable_sets_do_not_count_among_those_kept():
    sets = [aged(1), aged(2, unusable={"objects": "gone"})]
    (finding,) = judge_retention(sets, asked(sets=Kept(least=2, source="here")), now=NOW)
    assert finding.code == "BACKUP-TOO-FEW"


def test_sets_past_their_time_are_counted_and_the_oldest_named():
    sets = [aged(1, "young"), aged(800, "old"), aged(900, "oldest")]
    (finding,) = judge_retention(sets, asked(age=every("30d")), now=NOW)
    assert (finding.code, finding.count) == ("BACKUP-KEPT-TOO-LONG", 2)
    assert "oldest" in finding.seen

from types import SimpleNamespace

import pytest

from drills.plan import impossible, plan
from drills.registry import all_disasters, database_methods, object_methods

DISASTERS = all_disasters()
DUMP, LOG = database_methods()["pg_dump"], database_methods()["basebackup_wal"]
COPY, VERSIONS = object_methods()["rclone"], object_methods()["versions"]


@pytest.mark.parametrize("method", [DUMP, LOG])
def test_where_the_bucket_is_restored_from_a_copy_the_database_goes_to_the_same_instant(method):
    todo = plan(method, COPY, DISASTERS["total_loss"])
    assert (todo.database, todo.objects, todo.configuration) == ("backup", "rebuild", True)
    assert plan(method, COPY, DISASTERS["ransomware"]).database == "backup"


def test_a_log_brings_a_dead_server_as_far_as_it_goes_and_the_bucket_is_left_alone():
    todo = plan(LOG, COPY, DISASTERS["data_directory_wiped"])
    assert (todo.database, todo.objects, todo.configuration) == ("latest", "keep", False)


def test_where_the_log_lags_behind_objects_deleted_since_its_end_are_put_back():
    todo = plan(LOG, COPY, DISASTERS["data_directory_wiped"], streams=False)
    assert (todo.database, todo.objects) == ("latest", "refill")


def test_a_log_brings_a_wrong_database_to_the_instant_before_and_objects_deleted_since_back():
    todo = plan(LOG, COPY, DISASTERS["wrong_update"])
    assert (todo.database, todo.objects) == ("strike", "refill")


def test_a_dump_brings_any_database_to_its_snapshot_and_objects_deleted_since_back():
    for name in ("data_directory_wiped", "wrong_update", "page_damaged", "table_dropped"):
        todo = plan(DUMP, COPY, DISASTERS[name])
        assert (todo.database, todo.objects) == ("backup", "refill"), name


def test_versions_undo_an_attack_to_the_instant_that_a_log_can_reach():
    todo = plan(LOG, VERSIONS, DISASTERS["ransomware"])
    assert (todo.database, todo.objects) == ("strike", "refill")


@pytest.mark.parametrize("name", ["bucket_emptied", "prefix_deleted"])
def test_a_database_that_lives_is_left_alone(name):
    todo = plan(LOG, COPY, DISASTERS[name])
    assert (todo.database, todo.objects, todo.configuration) == ("", "refill", False)


def test_only_the_configuration_comes_back_where_only_it_was_lost():
    todo = plan(DUMP, COPY, DISASTERS["configuration_lost"])
    assert (todo.database, todo.objects, todo.configuration) == ("", "keep", True)


def test_versions_cannot_bring_back_a_bucket_that_went_with_its_server():
    assert "total_loss takes away" in impossible(VERSIONS, DISASTERS["total_loss"])
    assert impossible(VERSIONS, DISASTERS["bucket_emptied"]) == ""
    assert impossible(COPY, DISASTERS["total_loss"]) == ""


def test_every_disaster_has_something_restored():
    for disaster in DISASTERS.values():
        todo = plan(DUMP, COPY, disaster)
        assert todo.database or todo.objects != "keep" or todo.configuration, disaster.name


def test_the_plan_reads_as_sentences():
    nothing = SimpleNamespace(name="nothing", database="", objects="", configuration=False)
    assert plan(DUMP, COPY, nothing).as_record() == {
        "database": "survived, left as it is",
        "objects": "survived, left as they are",
        "configuration": "survived, left as it is",
        "target": "none",
    }

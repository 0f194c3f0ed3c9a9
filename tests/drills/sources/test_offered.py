from drills.registry import database_sources, object_sources
from fixtures.shadow_settings import OBJECT_SOURCES, SOURCES


def test_every_source_that_a_profile_may_name_is_offered():
    assert sorted(database_sources()) == sorted(SOURCES)
    assert sorted(object_sources()) == sorted(OBJECT_SOURCES)

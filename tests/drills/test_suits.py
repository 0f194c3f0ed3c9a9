"""What is drilled on somebody else's deployment: nothing that takes his server away, and everything else."""

import pytest

from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import every_scenario
from drills.suits import told_by_health, unsuited, unsuited_parts
from fixtures.profile import DEFAULT_PROFILE, load_profile

PROFILE = """
[deployment]
name = "acme"
provider = "attached"
[postgresql]
dsn = "postgresql://observer@db/tracking"
[objects]
endpoint = "http://objects:9000"
access_key = "reader-key"
secret_key = "reader-secret"
[services.web]
url = "http://web:8080"
needs = {needs}
"""


@pytest.fixture
def described(tmp_path):
    def load(more="", needs="[]"):
        (tmp_path / "acme.toml").write_text(PROFILE.replace("{needs}", needs) + more)
        return load_profile(tmp_path / "acme.toml")

    return load


@pytest.fixture(scope="module")
def scenarios():
    return every_scenario("single-node", database_methods(), object_methods(), configuration_methods(), all_disasters())


def test_the_suite_s_own_deployment_suits_every_scenario(scenarios):
    assert unsuited_parts(load_profile(DEFAULT_PROFILE), scenarios) == {}


def test_what_takes_files_or_settings_of_the_server_or_a_second_store_does_not_suit_somebody_else_s(
    scenarios, described
):
    reasons = unsuited_parts(described(), scenarios)
    left = {(kind, name) for each in scenarios for kind, name in each.parts.items()} - reasons.keys()
    assert {name for kind, name in left if kind == "database"} == {"pg_dump", "command"}
    assert {name for kind, name in left if kind == "objects"} == {"rclone", "rclone_crypt", "command"}
    assert {"total_loss", "database_dropped", "bucket_emptied", "ransomware"} <= {name for _, name in left}
    assert {"page_damaged", "data_directory_wiped", "credential_rotated", "prefix_deleted", "configuration_lost"} <= {
        name for _, name in reasons
    }
    assert all(len(reason) > 30 for reason in reasons.values())


def test_what_the_profile_gives_makes_more_of_them_suit(scenarios, described):
    given = described('[configuration]\nfile = "a.env"\n[queries]\ntenant_pattern = "^(?P<tenant>a)/"\n')
    names = {"prefix_deleted", "configuration_lost"}
    assert [each for each in scenarios if each.disaster.name in names and "rclone-" in each.id and "pg_dump" in each.id
            and each.objects.name == "rclone" and unsuited(given, each)] == []  # fmt: skip


def test_health_endpoints_must_tell_of_what_their_services_need(described):
    disasters, blind, seeing = all_disasters(), described(), described(needs='["database"]')
    assert [told_by_health(each, disasters["database_dropped"]) for each in (blind, seeing)] == [False, True]
    assert told_by_health(blind, disasters["total_loss"])
    assert told_by_health(load_profile(DEFAULT_PROFILE), disasters["database_dropped"])
    assert not told_by_health(seeing, disasters["table_dropped"])

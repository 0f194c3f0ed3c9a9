"""A compose file is taken only where nothing of it is another's, and only for what the profile describes."""

import copy
import re
from pathlib import Path

import pytest

from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import every_scenario
from drills.suits import unsuited_parts
from fixtures.profile import load_profile
from fixtures.providers.compose.addresses import require_own
from fixtures.providers.compose.model import labelled, published, reaches_beyond, secrets_in, volumes_of, with_file
from reports.records import UsageProblem

# As `docker compose config --format json` writes it.
MODEL = {
    "name": "enprivacy-drill-x",
    "services": {
        "db": {
            "image": "postgres:17",
            "environment": {"POSTGRES_PASSWORD": "a$$dollar", "PGDATA": "/var/lib/postgresql"},
            "ports": [{"mode": "ingress", "host_ip": "127.0.0.1", "target": 5432, "published": "15432"}],
            "volumes": [
                {"type": "volume", "source": "data", "target": "/var/lib/postgresql"},
                {"type": "volume", "target": "/scratch"},
                {"type": "bind", "source": "/etc/acme.conf", "target": "/etc/acme.conf", "read_only": True},
            ],
        },
        "store": {"image": "s3:1", "ports": [{"target": 9000, "published": "19000", "protocol": "tcp"}]},
        "web": {
            "image": "web:1",
            "env_file": [{"path": "/acme/web.env", "required": True}],
            "ports": [{"target": 80, "published": "18080"}, {"target": 81}, {"target": 82, "published": "18082-18090"},
                      {"target": 83, "published": "18083", "host_ip": "192.0.2.1"}],
        },
    },
    "volumes": {"data": {"name": "enprivacy-drill-x_data"}},
    "networks": {"default": {"name": "enprivacy-drill-x_default", "ipam": {}}},
}  # fmt: skip
PROFILE = """
[deployment]
name = "acme"
provider = "compose"
[compose]
file = "docker-compose.yml"
database = "{db}"
objects = "store"
[postgresql]
dsn = "{dsn}"
admin_dsn = "{admin}"
[objects]
endpoint = "{endpoint}"
access_key = "access-key"
secret_key = "secret-key"
[services.web]
url = "{url}"
"""
FITS = {
    "db": "db",
    "dsn": "postgresql://reader@127.0.0.1:15432/acme",
    "admin": "postgresql://postgres@127.0.0.1:15432/acme",
    "endpoint": "http://127.0.0.1:19000",
    "url": "http://127.0.0.1:18080",
}


def bent(path, value):
    model = copy.deepcopy(MODEL)
    *way, last = path.split(".")
    place = model
    for key in way:
        place = place.setdefault(key, {})
    place[last] = value
    return model


def test_a_file_whose_parts_are_all_the_projects_own_is_taken():
    assert reaches_beyond(MODEL) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("services.db.container_name", "acme-db", "services.db.container_name: acme-db"),
        ("services.db.network_mode", "host", "services.db.network_mode: host"),
        ("services.db.pid", "container:acme-db", "services.db.pid: container:acme-db"),
        ("services.db.volumes_from", ["container:acme-db"], "volumes_from: container:acme-db"),
        ("services.db.external_links", ["acme-db"], "external_links"),
        (
            "services.db.volumes",
            [{"type": "bind", "source": "/srv/pg", "target": "/d"}],
            "/srv/pg, a directory or file of this machine",
        ),
        (
            "services.db.volumes",
            [{"type": "bind", "source": "/run/docker.sock", "target": "/s", "read_only": True}],
            "handles every container",
        ),
        ("volumes.data", {"name": "acme_data", "external": True}, "volumes.data: external, acme_data"),
        ("volumes.data.name", "acme_data", "volumes.data: name: acme_data"),
        ("volumes.data.driver_opts", {"type": "none", "o": "bind", "device": "/srv"}, "volumes.data: driver_opts"),
        ("volumes.data.driver", "rexray", "volumes.data: driver: rexray"),
        ("networks.default", {"name": "acme", "external": True}, "networks.default: external, acme"),
        ("secrets.key", {"name": "key", "external": True}, "secrets.key: external"),
    ],
)
def test_what_would_be_shared_with_another_project_is_named(path, value, told):
    (found,) = reaches_beyond(bent(path, value))
    assert told in found


@pytest.fixture
def required(tmp_path):
    def require(model=MODEL, **changed):
        (tmp_path / "profile.toml").write_text(PROFILE.format(**FITS | changed))
        profile = load_profile(tmp_path / "profile.toml", {})
        require_own(profile, profile.compose, model)

    return require


def test_a_profile_that_describes_the_file_is_taken(required):
    required()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"db": "dbs"}, r"compose\.database: .* has no dbs.*did you mean 'db'"),
        ({"dsn": "postgresql://reader@db.internal:15432/acme"}, r"postgresql\.dsn: db\.internal:15432"),
        ({"dsn": "postgresql://reader@localhost:15432/acme"}, r"postgresql\.dsn: localhost"),
        ({"dsn": "postgresql://reader@127.0.0.1:15432/acme?hostaddr=192.0.2.1"}, "hostaddr, which leads elsewhere"),
        ({"admin": "postgresql://postgres@127.0.0.1/acme"}, r"admin_dsn: 127\.0\.0\.1:5432"),
        ({"admin": "postgresql://postgres@127.0.0.1:19000/acme"}, "admin_dsn.*19000, which is no port.*15432 of db"),
        ({"endpoint": "https://127.0.0.1"}, r"objects\.endpoint: 127\.0\.0\.1:443"),
        ({"endpoint": "http://s3.internal:19000"}, "objects.endpoint"),
        ({"url": "http://[::1]:18080"}, r"services\.web\.url: ::1:18080"),
        ({"url": "http://127.0.0.1:18083"}, r"services\.web\.url"),
    ],
)
def test_an_address_that_is_no_port_of_the_file_is_refused(required, changed, told):
    with pytest.raises(UsageProblem) as refused:
        required(**changed)
    assert re.search(told, str(refused.value)), refused.value


def test_of_ports_only_those_count_that_are_fixed_to_this_machines_own_address():
    assert [(each.service, each.port) for each in published(MODEL)] == [("db", 15432), ("store", 19000), ("web", 18080)]


def test_what_the_engine_makes_bears_the_runs_label_and_services_read_the_runs_copy_of_their_file():
    made = with_file(labelled(bent("volumes.data", None), "run", "r1"), Path("/acme/web.env"), Path("/work/copy.env"))
    kinds = ("services", "volumes", "networks")
    assert {each["labels"]["run"] for kind in kinds for each in made[kind].values()} == {"r1"}
    assert made["services"]["web"]["env_file"] == [{"path": "/work/copy.env", "required": True}]
    assert "env_file" not in made["services"]["db"]


def test_volumes_and_secrets_are_found_by_the_services_that_have_them():
    assert volumes_of(MODEL, "db") == ["enprivacy-drill-x_data"]
    assert list(secrets_in(MODEL)) == ["a$dollar"]


def test_what_wants_files_or_settings_of_the_server_does_not_suit_a_compose_project_and_all_else_does(tmp_path):
    more = '[configuration]\nfile = "a.env"\n[queries]\ntenant_pattern = "^(?P<tenant>a)/"\n'
    (tmp_path / "profile.toml").write_text(PROFILE.format(**FITS) + more)
    profile = load_profile(tmp_path / "profile.toml", {})
    every = every_scenario(
        "single-node", database_methods(), object_methods(), configuration_methods(), all_disasters()
    )
    reasons = unsuited_parts(profile, every)
    left = {(kind, name) for each in every for kind, name in each.parts.items()} - reasons.keys()
    assert {name for kind, name in left if kind == "database"} == {"pg_dump", "command"}
    assert {name for kind, name in left if kind == "objects"} == {"rclone", "rclone_bucket", "rclone_crypt", "command"}
    files = {"page_damaged", "data_directory_wiped", "credential_rotated"}
    assert {name for kind, name in reasons if kind == "disaster"} == files
    assert "volume of the compose project" in reasons["disaster", "page_damaged"]

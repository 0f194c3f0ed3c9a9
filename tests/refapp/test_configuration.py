"""Configuration: fresh secrets, and one line for whatever is missing or wrong."""

import pytest

from fixtures.refapp.__main__ import main
from fixtures.refapp.configuration import SERVICES, ConfigurationProblem, read_settings
from fixtures.refapp.install import new_configuration

LISTEN = {"web": "127.0.0.1:8080", "job": "127.0.0.1:8081", "llm": "127.0.0.1:8000", "ocr": "127.0.0.1:5001"}


@pytest.fixture
def configuration():
    return new_configuration(
        database_host="127.0.0.1",
        database_port=5432,
        objects_endpoint="http://127.0.0.1:9000",
        bucket="b",
        listen=LISTEN,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_new_configuration_is_complete(configuration, service):
    settings = read_settings(service, configuration)
    assert f"{settings.host}:{settings.port}" == LISTEN[service]


def test_every_installation_has_its_own_secrets(configuration):
    other = new_configuration(
        database_host="127.0.0.1",
        database_port=5432,
        objects_endpoint="http://127.0.0.1:9000",
        bucket="b",
        listen=LISTEN,
    )
    secrets = [name for name in configuration if name.endswith("KEY") or "SECRET" in name or name == "DATABASE_URL"]
    assert len(secrets) == 6
    assert all(configuration[name] != other[name] for name in secrets)


def test_settings_show_no_secret(configuration):
    shown = repr(read_settings("web", configuration))
    assert not any(configuration[name] in shown for name in configuration if "KEY" in name or "SECRET" in name)
    assert configuration["DATABASE_URL"] not in shown


@pytest.mark.parametrize("name", ["DATABASE_URL", "COLUMN_ENCRYPTION_KEY", "SESSION_SIGNING_KEY", "LLM_URL"])
def test_a_missing_variable_is_named(configuration, name):
    del configuration[name]
    with pytest.raises(ConfigurationProblem, match=f"{name} is not set: add it"):
        read_settings("web", configuration)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEB_LISTEN", "8099"),
        ("WEB_LISTEN", "127.0.0.1:99999"),
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "postgresql://u:pw@h1:5432,h2:none/d"),
        ("DATABASE_URL", "postgresql://u:pw@h1:5432,,h3/d"),
        ("DATABASE_RETRY_SECONDS", "4s"),
        ("DATABASE_RETRY_SECONDS", "nan"),
        ("DATABASE_RETRY_SECONDS", "-1"),
        ("OBJECT_STORAGE_ENDPOINT", "127.0.0.1:9000"),
        ("OCR_URL", "http://[::1"),
        ("COLUMN_ENCRYPTION_KEY", "c2hvcnQ="),
    ],
)
def test_a_malformed_variable_is_named_and_its_value_is_not_shown(configuration, name, value):
    with pytest.raises(ConfigurationProblem, match=name) as problem:
        read_settings("web", {**configuration, name: value})
    assert value not in str(problem.value)


def test_a_cluster_is_named_by_one_url(configuration):
    made = new_configuration(
        database_host="10.0.0.1",
        database_port=5432,
        further_databases=[("10.0.0.2", 5433), ("fd00::3", 5434)],
        database_parameters={"target_session_attrs": "read-write", "tcp_user_timeout": "2000"},
        objects_endpoint="http://127.0.0.1:9000",
        bucket="b",
        listen=LISTEN,
    )
    url = made["DATABASE_URL"]
    assert url.endswith(
        "@10.0.0.1:5432,10.0.0.2:5433,[fd00::3]:5434/enprivacy?target_session_attrs=read-write&tcp_user_timeout=2000"
    )
    settings = read_settings("web", {**made, "DATABASE_RETRY_SECONDS": "4"})
    assert (settings.database_url, settings.database_retry_seconds) == (url, 4)
    assert read_settings("web", configuration).database_retry_seconds == 0


@pytest.mark.parametrize("arguments", [[], ["mail"], ["web", "job"]])
def test_wrong_arguments_end_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.startswith("usage: python -m fixtures.refapp")

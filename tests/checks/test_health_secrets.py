import base64
import dataclasses
import json

import pytest

from checks.health_secrets import judge_secrets, planted
from fixtures.health import Answer
from reports.records import finding_kinds

PASSWORD = "Zug/see+42 x"
CONFIGURATION = {
    "DATABASE_URL": "postgresql://app:Zug%2Fsee%2B42%20x@db.acme.example:5432/enprivacy",
    "OBJECT_STORAGE_ENDPOINT": "http://127.0.0.1:9000",
    "OBJECT_STORAGE_SECRET_KEY": "3f9a77c0e1d24b58",
    "OCR_URL": "http://ocr:5001",
    "MODEL_URL": "http://minio:9000",
    "CACHE_URL": "redis://[fd00::7]:6379",
    "QUEUE_URL": "amqp://enprivacy_job@queue:5672",
    "MODEL_ID": "acme/small",
    "HF_HUB_OFFLINE": "1",
    "SHORT_TOKEN": "abc",
    "BROKEN_URL": "http://[::1",
}
SHOWN = [
    CONFIGURATION["DATABASE_URL"], PASSWORD, "Zug%2Fsee%2B42%20x", "3f9a77c0e1d24b58", b"3f9a77c0e1d24b58".hex(),
    base64.b64encode(b"3f9a77c0e1d24b58").decode(), "db.acme.example", "ocr:5001", "127.0.0.1", "jdbc:postgresql://x/y",
    "host=x user=y password=z", "https://me:pass@example.org", "10.0.12.7", "192.168.4.9:5432", "172.20.0.3",
    "db.prod.svc.cluster.local", "-----BEGIN RSA PRIVATE KEY-----", "AKIAIOSFODNN7EXAMPLE",
    'Traceback (most recent call last):\n  File "/srv/web.py", line 3, in ready',
    "\tat com.acme.Db.connect(Db.java:17)", "goroutine 17 [running]:", "panic: no route",
    "Error: x\n    at connect (/srv/db.js:10:4)",
    "HTTPConnectionPool(host='minio', port=9000): refused", "{'port': 9000, 'host': 'minio'}", "minio port 9000",
    'connection to server at "ocr" (203.0.113.9), port 5001 failed', "host=minio", "9000 on minio",
    "cannot reach [::1]:5432", "from fe80::1", "[fd12:3456::9]:80", "[fd00::7]:6379", "::1",
    'password authentication failed for user "app"', "role 'app' does not exist", "app@somewhere", "enprivacy_job",
]  # fmt: skip
FINE = [
    '{"status": "pass", "checks": {"ocr": "pass", "database": "pass"}}', "version 10.2.1", "3.0.0",
    "released 2026-11-22", "uptime 172.3 s", "ok", '{"links": {"about": "https://docs.example.org/health"}}',
    "acme/small", "abc", "1", "fail at 3",
    "at [12:30:45]", "A::B", "2001:db8::1", '{"ocr": "pass", "requests": 5001}', "minio has 19000 objects",
    "the app is up", '{"minio": "pass"}', "std::1", '{"server": "ocr"}', "ab:cd:ef:01:23:45",
]  # fmt: skip


def seen(body=b"", headers=""):
    answer = Answer(service="web", endpoint="ready", status=200, started_ns=0, ended_ns=1, body=body, headers=headers)
    return list(judge_secrets(answer, planted(CONFIGURATION)))


@pytest.mark.parametrize("shown", SHOWN)
def test_what_strangers_must_not_read_is_seen_in_plain_text_and_in_json(shown):
    for body in (shown, json.dumps({"status": "fail", "output": shown})):
        (found,) = seen(body.encode())
        assert (found.code, found.where) == ("HEALTH-LEAKS", "web ready")
        for secret in (PASSWORD, "Zug%2F", "3f9a77"):
            assert secret not in found.seen


@pytest.mark.parametrize("shown", FINE)
def test_what_an_honest_body_says_is_no_leak(shown):
    assert seen(shown.encode()) == []


@pytest.mark.parametrize("shown", [each for each in SHOWN if isinstance(each, str) and "\n" not in each])
def test_what_strangers_must_not_read_is_seen_in_a_header_too(shown):
    (found,) = seen(b"ok", f"x-reason: {shown}")
    assert found.seen.endswith(", in a header")


@pytest.mark.parametrize("shown", [each for each in SHOWN if isinstance(each, str)])
def test_escapes_hide_nothing(shown):
    escaped = "".join(f"\\u{ord(each):04x}" for each in shown)
    assert seen(f'{{"output": "{escaped}"}}'.encode())
    assert seen(json.dumps({"output": json.dumps({"why": json.dumps(shown)})}).encode())


def test_a_secret_in_a_header_is_seen_and_an_address_there_too():
    assert "OBJECT_STORAGE_SECRET_KEY, in a header" in seen(b"ok", "x-key: 3f9a77c0e1d24b58")[0].seen
    assert seen(b"ok", "content-type: text/plain") == []


def test_bytes_of_no_encoding_do_not_hide_a_secret():
    assert seen(b"\xff\xfe3f9a77c0e1d24b58\xff")


CLUSTER = (
    "postgresql://app_7:Zug%2Fsee%2B42@db1.acme.example:5432,[2001:db8::7]:6432,pg3:x,pg4/e?target_session_attrs=any"
)


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        (CLUSTER, "DATABASE_URL"), ("Zug/see+42", "DATABASE_URL"), ("Zug%2Fsee%2B42", "DATABASE_URL"),
        ("login app_7", "the user of DATABASE_URL"), ("db1.acme.example is away", "the host of DATABASE_URL"),
        ("[2001:db8::7]:6432", "the host of DATABASE_URL"), ("2001:db8::7, port 6432", "the host of DATABASE_URL"),
        ("host=pg3", "the host of DATABASE_URL"), ('server at "pg4"', "the host of DATABASE_URL"),
    ],
)  # fmt: skip
def test_of_a_cluster_every_address_and_the_password_are_looked_for(shown, name):
    answer = Answer(service="web", endpoint="ready", status=200, started_ns=0, ended_ns=1, body=shown.encode())
    (found,) = judge_secrets(answer, planted({"DATABASE_URL": CLUSTER}))
    assert name in found.seen
    assert list(judge_secrets(dataclasses.replace(answer, body=b"pg3 and pg4 are up"), planted({"D": CLUSTER}))) == []


def test_the_remedy_says_to_rotate_what_was_shown():
    assert "otate" in finding_kinds()["HEALTH-LEAKS"].remedy

import dataclasses

import pytest

from checks import health
from fixtures.health import Answer
from fixtures.profile import load_profile
from reports.records import NANOSECONDS, finding_kinds

SECOND = NANOSECONDS


@pytest.fixture
def bounds(tmp_path):
    """The health part of a profile that chooses a convention, with other keys of the table."""

    def load(convention="health+json", more=""):
        path = tmp_path / "acme.toml"
        path.write_text(f'[deployment]\nname = "acme"\n[health]\nconvention = "{convention}"\n{more}')
        return load_profile(path).health

    return load


def answer(status=200, body=b'{"status": "pass"}', *, at=0, took=SECOND // 100, where="web ready", **more):
    service, endpoint = where.split()
    return Answer(
        service=service, endpoint=endpoint, status=status, body=body, started_ns=at, ended_ns=at + took, **more
    )


def series(*statuses, where="web ready", every=SECOND // 10):
    return [answer(status, at=number * every, where=where) for number, status in enumerate(statuses)]


def codes(findings):
    return sorted({finding.code.removeprefix("HEALTH-") for finding in findings})


def loss(answers, **more):
    given = {"needing": ["web"], "lost_ns": 0, "turn_ns": SECOND, "how": "database hangs"} | more
    return codes(health.judge_loss(answers, **given))


def back(answers):
    return codes(health.judge_return(answers, back_ns=0, return_ns=SECOND, how="database is back"))


SAID = [
    ("health+json", 200, '{"status": "pass"}', []),
    ("health+json", 200, '{"status": "warn", "checks": {"ocr": "fail"}}', []),
    ("health+json", 503, '{"status": "fail"}', []),
    ("health+json", 200, '{"status": "fail"}', ["BODY-DISAGREES"]),
    ("health+json", 503, '{"status": "warn"}', ["BODY-DISAGREES"]),
    ("health+json", 200, '{"status": "pass", "checks": {"db:time": [{"status": "fail"}]}}', ["BODY-DISAGREES"]),
    ("health+json", 200, '{"status": "PASS"}', ["BODY-UNREADABLE"]),
    ("health+json", 200, '{"status": "pass", "status": "fail"}', ["BODY-UNREADABLE"]),
    ("health+json", 200, '{"status": "pass", "load": NaN}', ["BODY-UNREADABLE"]),
    ("health+json", 200, "", ["BODY-UNREADABLE"]),
    ("health+json", 200, '"pass"', ["BODY-UNREADABLE"]),
    ("health+json", 500, '{"status": "fail"}', ["CODE-UNKNOWN"]),
    ("health+json", 404, "<html>", ["CODE-UNKNOWN"]),
    ("health+json", 302, "", ["CODE-UNKNOWN"]),
    ("spring", 200, '{"status": "UP", "groups": ["liveness"]}', []),
    ("spring", 200, '{"status": "UNKNOWN"}', []),
    ("spring", 503, '{"status": "OUT_OF_SERVICE"}', []),
    ("spring", 200, '{"status": "DOWN"}', ["BODY-DISAGREES"]),
    ("spring", 200, '{"status": "UP", "components": {"db": {"status": "DOWN"}}}', ["BODY-DISAGREES"]),
    ("spring", 200, '{"status": "pass"}', ["BODY-UNREADABLE"]),
    ("microprofile", 503, '{"status": "DOWN", "checks": [{"name": "db", "status": "DOWN"}]}', []),
    ("microprofile", 200, '{"status": "UP", "checks": [{"name": "db", "status": "DOWN"}]}', ["BODY-DISAGREES"]),
    ("kubernetes", 200, "ok", []),
    ("kubernetes", 200, "", []),
    ("kubernetes", 200, "[+]ping ok\nreadyz check passed\n", []),
    ("kubernetes", 500, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n", []),
    ("kubernetes", 200, "[-]etcd failed: reason withheld", ["BODY-DISAGREES"]),
    ("kubernetes", 503, "OK", ["BODY-DISAGREES"]),
    ("kubernetes", 200, "not ok", ["BODY-DISAGREES"]),
    ("kubernetes", 503, '{"status": "ok"}', ["BODY-DISAGREES"]),
    ("kubernetes", 200, '{"uptime": 3}', []),
    ("kubernetes", 200, "<h1>hello</h1>", []),
]  # fmt: skip


@pytest.mark.parametrize(("convention", "status", "body", "found"), SAID)
def test_code_and_body_are_read_as_the_convention_writes_them(bounds, convention, status, body, found):
    assert codes(health.judge_body(answer(status, body.encode()), bounds(convention))) == found


@pytest.mark.parametrize("convention", ["health+json", "kubernetes"])
@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"status": "\xe9"}'])
def test_a_body_that_is_not_utf8_cannot_be_read(bounds, convention, body):
    assert codes(health.judge_body(answer(200, body), bounds(convention))) == ["BODY-UNREADABLE"]


@pytest.mark.parametrize(
    "body", [b"[" * 16_000, b'{"status":' * 1600, b"\0" * 99, b"1" * 9000, b'{"status": {"a": 1}}']
)
def test_no_body_breaks_the_reader(bounds, body):
    assert codes(health.judge_body(answer(200, body), bounds())) == ["BODY-UNREADABLE"]


def test_words_and_codes_of_the_profile_come_before_the_conventions(bounds):
    ours = bounds("health+json", 'up = ["gut"]\nmember = "lage"\nunready_codes = [599]')
    assert codes(health.judge_body(answer(200, b'{"lage": "gut"}'), ours)) == []
    assert codes(health.judge_body(answer(200, b'{"lage": "pass"}'), ours)) == ["BODY-UNREADABLE"]
    assert codes(health.judge_body(answer(503, b'{"lage": "fail"}'), ours)) == ["CODE-UNKNOWN"]


def test_a_body_is_as_large_as_it_may_be_and_not_a_byte_larger(bounds):
    body = b'{"status": "pass", "x": "' + b"x" * (16 * 1024 - 27) + b'"}'
    assert codes(health.judge_body(answer(200, body), bounds())) == []
    assert codes(health.judge_body(answer(200, body + b" "), bounds())) == ["BODY-TOO-LARGE"]


@pytest.mark.parametrize("problem", ["ConnectError", "ReadError", "RemoteProtocolError"])
def test_a_connection_that_is_dropped_is_no_answer_and_one_given_up_is_judged_by_its_time(bounds, problem):
    dropped = answer(0, b"", problem=problem)
    assert codes(health.judge_body(dropped, bounds())) == ["NO-ANSWER"]
    assert codes(health.judge_body(dataclasses.replace(dropped, late=True), bounds())) == []


def test_a_body_that_ends_early_cannot_be_read_and_one_given_up_is_not_judged(bounds):
    cut = answer(200, b'{"status"', problem="RemoteProtocolError")
    assert codes(health.judge_body(cut, bounds())) == ["BODY-UNREADABLE"]
    assert codes(health.judge_body(dataclasses.replace(cut, late=True), bounds())) == []


def test_an_answer_that_was_given_up_hangs_and_one_in_time_does_not():
    given_up = answer(0, b"", took=2 * SECOND, late=True, problem="no whole answer after 2 s")
    assert codes(health.judge_time([given_up, answer(took=2 * SECOND)], 2 * SECOND)) == ["HANGS"]
    assert codes(health.judge_time([answer(took=2 * SECOND)], 2 * SECOND)) == []
    assert codes(health.judge_time([answer(took=2 * SECOND + 1)], 2 * SECOND)) == ["HANGS"]


def test_one_slow_answer_of_twenty_is_allowed_and_two_are_not():
    fast, slow = [answer(at=each) for each in range(19)], answer(at=20, took=SECOND)
    assert codes(health.judge_steady([*fast, slow], SECOND // 2)) == []
    assert codes(health.judge_steady([*fast[:18], slow, slow], SECOND // 2)) == ["SLOW"]


def test_an_answer_that_changes_while_nothing_happens_flaps():
    (found,) = health.judge_steady(series(200, 503, 200, 200), SECOND)
    assert (found.code, found.count, found.where) == ("HEALTH-FLAPS", 2, "web ready")
    assert codes(health.judge_steady(series(503, 503, 503), SECOND)) == []


def test_a_service_that_turns_and_stays_turned_tells_the_truth():
    assert loss(series(200, 200, 503, 503)) == []


def test_a_service_that_never_turns_or_turns_late_lies():
    assert loss(series(200, 200, 200)) == ["READY-LIES"]
    assert loss(series(*[200] * 12, 503, 503)) == ["READY-LIES"]


def test_a_service_that_gives_no_answer_does_not_say_that_it_is_ready():
    assert loss(series(0, 0, 0)) == []


def test_a_service_that_comes_back_while_its_dependency_is_away_flaps():
    assert loss(series(503, 503, 200, 503)) == ["FLAPS"]


def test_answers_are_taken_in_the_order_asked():
    assert loss(series(200, 503, 503)[::-1]) == []


def test_a_service_without_that_need_must_stay_ready():
    assert loss(series(200, 200, where="ocr ready")) == []
    assert loss(series(200, 503, where="ocr ready")) == ["NOT-READY"]


@pytest.mark.parametrize("status", [503, 0])
def test_liveness_must_stay_while_a_dependency_is_away(status):
    assert loss([*series(503), *series(200, status, where="web live")]) == ["LIVE-DIES"]


def test_a_service_returns_in_time_and_stays():
    assert back(series(503, 503, 200, 200)) == []
    assert back(series(503, 503)) == ["NO-RETURN"]
    assert back(series(*[503] * 12, 200)) == ["NO-RETURN"]
    assert back(series(503, 200, 503, 200)) == ["FLAPS"]
    assert back([*series(200), *series(0, where="job live")]) == ["LIVE-DIES"]


def test_ready_on_a_database_that_is_not_whole_is_told_of_those_that_need_it():
    answers = [*series(503, 200), *series(200, where="ocr ready")]
    (found,) = health.judge_unrestored(answers, needing=["web", "job"], words="an empty database")
    assert (found.code, found.where, found.seen) == (
        "HEALTH-READY-UNRESTORED", "web ready", "status 200 on an empty database"
    )  # fmt: skip


def test_three_answers_in_a_row_make_a_state():
    assert not health.settled(series(503, 503), {"web": False})
    assert not health.settled(series(503, 200, 503, 503), {"web": False})
    assert health.settled(series(200, 503, 503, 503), {"web": False})
    assert not health.settled(series(503, 503, 503), {"web": False, "job": False})
    assert health.settled([], {})


def test_the_distribution_is_by_nearest_rank_in_microseconds():
    answers = [answer(at=each, took=(each + 1) * 1000) for each in range(100)]
    assert health.latencies(answers) == {
        "web ready p50 microseconds": 50, "web ready p95 microseconds": 95, "web ready longest microseconds": 100
    }  # fmt: skip


def test_the_same_of_one_place_is_one_finding_with_its_count():
    findings = [*health.judge_all_ready(series(503, 503)), *health.judge_all_ready(series(0, where="job live"))]
    merged = health.merged(findings)
    assert [(each.where, each.count) for each in merged] == [("web ready", 2), ("job live", 1)]
    assert health.merged([dataclasses.replace(merged[0], count=3)])[0].count == 3


def test_every_code_of_health_fails_a_run():
    assert {kind.severity for code, kind in finding_kinds().items() if code.startswith("HEALTH-")} == {"failure"}

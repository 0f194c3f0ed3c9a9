import asyncio

import httpx
import pytest
from starlette.applications import Starlette

from fixtures.refapp.configuration import read_settings
from fixtures.refapp.faults import KNOWN, VARIABLE, fault
from fixtures.refapp.serving import health_routes

OCR = read_settings("ocr", {})


def asked(*answers):
    """Status and body of ``/live`` and ``/ready``, asked once while the only probe says each of these in turn."""
    said = iter(answers)

    async def probe():
        return next(said)

    async def ask():
        transport = httpx.ASGITransport(app=Starlette(routes=health_routes(OCR, {"store": probe})))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            live = await client.get("/live")
            return live, [await client.get("/ready") for _ in answers]

    return asyncio.run(ask())


def test_readiness_is_what_the_probes_say_and_liveness_asks_none():
    live, ready = asked(True, False, True)
    assert (live.status_code, live.json()) == (200, {"status": "pass"})
    assert [each.status_code for each in ready] == [200, 503, 200]
    assert ready[1].json() == {"status": "fail", "checks": {"store": "fail"}}


def test_a_probe_that_breaks_says_no_and_not_why():
    async def broken():
        raise ConnectionError("host 10.0.0.7, password secret")

    async def ask():
        transport = httpx.ASGITransport(app=Starlette(routes=health_routes(OCR, {"store": broken})))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get("/ready")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()) == (503, {"status": "fail", "checks": {"store": "fail"}})


@pytest.mark.parametrize(
    ("name", "answers", "statuses"),
    [
        ("never-ready", [True, True], [503, 503]),
        ("ready-lies", [False, True], [200, 200]),
        ("never-returns", [True, False, True], [200, 503, 503]),
        ("flaps", [True] * 6, [200, 200, 200, 200, 503, 200]),
        ("wrong-code", [True], [418]),
    ],
)
def test_a_switch_bends_readiness_as_its_words_say(monkeypatch, name, answers, statuses):
    monkeypatch.setenv(VARIABLE, name)
    assert [each.status_code for each in asked(*answers)[1]] == statuses


def test_the_reason_is_told_only_by_that_switch_and_only_where_something_is_away(monkeypatch):
    monkeypatch.setenv(VARIABLE, "body-tells-why")
    _, (well, away) = asked(True, False)
    assert "Traceback" not in well.text
    assert "Traceback" in away.text


def test_a_switch_of_no_name_is_an_error_and_those_known_are_off():
    assert not any(fault(name) for name in KNOWN)
    with pytest.raises(KeyError):
        fault("no such switch")

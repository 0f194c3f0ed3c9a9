"""A service that is about to be ended has its clients leave, and loses none of their requests."""

import asyncio

from fixtures.refapp.serving import _Leaving


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


def answered(app):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http"}, None, send))
    return sent


def test_once_told_each_answer_is_the_last_on_its_connection():
    leaving = _Leaving(hello)
    assert all((b"connection", b"close") not in each.get("headers", ()) for each in answered(leaving))
    leaving.tell()
    start, body = answered(leaving)
    assert (b"connection", b"close") in start["headers"] and (b"content-type", b"text/plain") in start["headers"]
    assert body["body"] == b"hello"

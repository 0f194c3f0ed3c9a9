"""The shell script's ``curl``: waits for readiness and makes one business transaction. Runs without site-packages.

``python -I -S bare_client.py ready HOST:PORT/PATH…`` or ``… transact HOST:PORT/PATH``, the path being that of the
readiness endpoint; the API key stands in the variable ``API_KEY``.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import sys

CONTENT = b"The bare script's own. Write to bare@example.org or call +49 30 5550 0001.\n"
INTERVAL_SECONDS = 0.02
TRIES = 3000


def await_ready(place: str) -> None:
    """Ask until the answer is 200, for a minute."""
    address, _, path = place.partition("/")
    for _ in range(TRIES):
        try:
            connection = http.client.HTTPConnection(address, timeout=2)
            connection.request("GET", f"/{path}")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        select.select([], [], [], INTERVAL_SECONDS)
    sys.exit(f"{place} is not ready")


def transact(place: str) -> None:
    """Upload, wait until processed, read original and redacted output back."""
    connection = http.client.HTTPConnection(place.partition("/")[0], timeout=5)

    def ask(method: str, path: str, content: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {os.environ['API_KEY']}", "Content-Type": "text/plain; charset=utf-8"}
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 201):
            sys.exit(f"{method} {path} answered {answer.status}: {body[:200]!r}")
        return body

    document = "/api/documents/" + json.loads(ask("POST", "/api/documents?name=bare", CONTENT))["id"]
    if json.loads(ask("GET", f"{document}?wait=5"))["status"] != "redacted":
        sys.exit("the document was not processed")
    if ask("GET", f"{document}/content") != CONTENT or b"bare@example.org" in ask("GET", f"{document}/redacted"):
        sys.exit("the document reads back wrong")


if __name__ == "__main__":
    for each in sys.argv[2:]:
        await_ready(each)
    if sys.argv[1] == "transact":
        transact(sys.argv[2])

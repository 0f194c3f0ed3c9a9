"""A notice sent to a chat's incoming webhook, in the JSON that Slack reads. The only module here that uses a network.

Its limits (https://docs.slack.dev/reference/block-kit/blocks): 150 characters in a header, 3,000 in a section, 50
blocks, and, as is seen in practice, some 13,000 characters in all blocks together; a text of more than 4,000 is split.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import wording
from reports.notice import Notice
from reports.records import Redactor, UsageProblem

VARIABLE: Final = "ENPRIVACY_WEBHOOK"
FILE_VARIABLE: Final = "ENPRIVACY_WEBHOOK_FILE"
SECONDS: Final = 10.0
HEADER, SECTION, IN_ALL, TEXT = 150, 2_900, 9_000, 3_800
_REST: Final = "… the rest is in the report"
_LONGEST_URL: Final = 4096
_READ_OF_AN_ANSWER: Final = 500


def address(environment: Mapping[str, str]) -> str:
    """The webhook's URL, a secret: from ``ENPRIVACY_WEBHOOK``, or the file that ``ENPRIVACY_WEBHOOK_FILE`` names.

    Raises:
        UsageProblem: neither is set, or both are; the file cannot be read; it is no URL of https, or of http to this
            machine. The message never holds it.
    """
    given, file = environment.get(VARIABLE, "").strip(), environment.get(FILE_VARIABLE, "").strip()
    if bool(given) == bool(file):
        raise UsageProblem(
            "the webhook", seen="both variables are set" if given else "no variable is set",
            remedy=f"set {VARIABLE} to its URL, or {FILE_VARIABLE} to a file that holds it, one of the two",
        )  # fmt: skip
    url = given or _content(Path(file))
    if seen := _unusable(url):
        source = VARIABLE if given else f"the file of {FILE_VARIABLE}"
        raise UsageProblem(f"the webhook in {source}", seen=seen, remedy="give the URL as the chat's settings show it")
    return url


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_URL + 1).decode("ascii").strip()
    except OSError as problem:
        seen = problem.strerror or "unreadable"
    except UnicodeDecodeError:
        seen = "not a URL: it holds other characters than ASCII"
    raise UsageProblem(f"{path}, of {FILE_VARIABLE}", seen=seen, remedy="let it hold the webhook's URL, on one line")


def _unusable(url: str) -> str:
    """Why a text is no webhook's URL, without showing it; empty where it is one."""
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        return "not a URL: too long, or with spaces or characters that none has"
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in ("https", "http") or not host:
        return "not a URL that begins with https://"
    if parts.scheme == "http" and not _is_this_machine(host):
        return "http to another machine: everybody on the way would read the secret in it"
    return ""


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def payload(notice: Notice) -> dict[str, Any]:
    """The message: a header and sections for who shows blocks, and the same as text for who does not."""
    sections: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
        for text in _packed(_within(notice.lines, IN_ALL), SECTION)
    ]
    title = wording.one_line(notice.title, HEADER - 80)[:HEADER]
    header = {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
    return {"text": "\n".join([title, *_within(notice.lines, TEXT - HEADER)]), "blocks": [header, *sections]}


def _within(lines: Sequence[str], most: int) -> list[str]:
    """As many whole lines as ``most`` characters hold; that some are left out is said."""
    taken: list[str] = []
    room = most - len(_REST) - 1
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            return [*taken, _REST]
        taken.append(line)
    return taken


def _packed(lines: Iterable[str], longest: int) -> list[str]:
    """Lines joined to texts of at most ``longest`` characters."""
    texts: list[str] = []
    for line in lines:
        if texts and len(texts[-1]) + 1 + len(line) <= longest:
            texts[-1] += "\n" + line
        else:
            texts.append(line)
    return texts


def deliver(message: Mapping[str, Any], url: str) -> str:
    """Post a message once; why it was not taken, without the URL, or an empty text where it was.

    No redirect is followed, for the URL is a secret of one receiver. Proxies and certificates are those that the
    environment names (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE). All of it takes at most ``SECONDS``.
    """
    redactor = Redactor()
    parts = urllib.parse.urlsplit(url)
    for secret in (url, parts.path.strip("/"), parts.query, parts.username or "", parts.password or ""):
        if len(secret) >= 6:  # a shorter one is nothing that a receiver would rely on
            redactor.learn(secret)
    return redactor.clean(wording.one_line(_post(json.dumps(message).encode("ascii"), url), 400))


def _post(body: bytes, url: str) -> str:
    # Here, for the other commands of this room need no network and shall not load what speaks to one.
    import httpx

    async def once() -> str:
        async with (
            asyncio.timeout(SECONDS),
            httpx.AsyncClient(timeout=SECONDS, follow_redirects=False) as client,
            client.stream("POST", url, content=body, headers={"Content-Type": "application/json"}) as response,
        ):
            if response.is_success:
                return ""
            said = b""
            async for piece in response.aiter_raw(_READ_OF_AN_ANSWER):
                said += piece
                if len(said) >= _READ_OF_AN_ANSWER:
                    break
            moved = "; redirects are not followed" if response.is_redirect else ""
            return f"HTTP {response.status_code}{moved}: {said[:_READ_OF_AN_ANSWER].decode('utf-8', 'replace')}"

    try:
        return asyncio.run(once())
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as problem:
        return f"{type(problem).__name__}: {problem or 'nothing said'}"

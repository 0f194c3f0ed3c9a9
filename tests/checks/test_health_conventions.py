"""The checks of health endpoints against a small real service, in every convention and with a real dependency."""

import contextlib
import http.server
import json
import socket
import threading
import types

import pytest

from checks.checked import Check
from checks.conformance import health
from checks.conformance.subject import Subject
from fixtures.deployment import Service
from fixtures.health_convention import TABLE
from fixtures.network import LOOPBACK
from fixtures.profile import load_profile
from fixtures.proxy import Proxy
from reports.records import NANOSECONDS, Clock, Redactor

UP = {
    "health+json": (200, {"status": "pass", "checks": {"store:time": [{"status": "pass"}]}}),
    "spring": (200, {"status": "UP", "components": {"store": {"status": "UP"}}}),
    "microprofile": (200, {"status": "UP", "checks": [{"name": "store", "status": "UP"}]}),
    "kubernetes": (200, "ok"),
}
DOWN = {
    "health+json": (503, {"status": "fail", "checks": {"store:time": [{"status": "fail"}]}}),
    "spring": (503, {"status": "DOWN", "components": {"store": {"status": "DOWN"}}}),
    "microprofile": (503, {"status": "DOWN", "checks": [{"name": "store", "status": "DOWN"}]}),
    "kubernetes": (500, "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n"),
}


class LittleService:
    """One service with both endpoints of a convention; its readiness is what ``probe`` returns."""

    def __init__(self, paths, convention, probe=lambda: True):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answers = {paths.live: lambda: UP, paths.ready: lambda: UP if probe() else DOWN}
                status, body = answers.get(self.path, lambda: {convention: (404, "nothing here")})()[convention]
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.server.daemon_threads, self.server.block_on_close = True, False
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://{LOOPBACK}:{self.server.server_port}"


@pytest.fixture
def serve(tmp_path):
    """The subject that is one little service, under the name of OCR."""
    opened = []

    def serve(convention, *, probe=lambda: True, speaks=None, proxies=None, needs=(), more=""):
        path = tmp_path / "acme.toml"
        path.write_text(
            f'[deployment]\nname = "acme"\n[health]\nconvention = "{convention}"\n{more}\n'
            f"[services.ocr]\nneeds = {json.dumps(needs)}\n"
        )
        profile = load_profile(path)
        ours = profile.services["ocr"]
        little = LittleService(ours, speaks or convention, probe)
        opened.append(little.server)
        deployment = types.SimpleNamespace(
            services=[Service(name="ocr", url=little.url, live=ours.live, ready=ours.ready)],
            configuration=dict,
            application=lambda timeout: types.SimpleNamespace(transact=lambda *_, **__: None, close=lambda: None),
        )
        return Subject(
            deployment=deployment, profile=profile, directory=tmp_path, clock=Clock.start(), redactor=Redactor(),
            proxies=proxies or {}, owner=deployment if proxies else None,
        )  # fmt: skip

    yield serve
    for server in opened:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store():
    """A dependency that says one word to whoever connects, behind a proxy."""
    listener = socket.create_server((LOOPBACK, 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.sendall(b"here I am, with all that I hold")

    threading.Thread(target=accept, daemon=True).start()
    with Proxy(LOOPBACK, listener.getsockname()[1]) as proxy:
        yield proxy
    listener.close()


def reads_whole(proxy):
    """An honest probe: the whole word, within 0.3 s."""

    def probe():
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, proxy.port), timeout=0.3) as connection:
            return connection.makefile("rb").read() == b"here I am, with all that I hold"
        return False

    return probe


def only_connects(proxy):
    def probe():
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, proxy.port), timeout=3):
            return True
        return False

    return probe


def found(look, subject):
    check = Check()
    look(subject, check)
    return sorted({finding.code.removeprefix("HEALTH-") for finding in check.findings})


CONVENTIONS = sorted(UP)
# Wide for those that turn, who wait for none of them; narrow for those that do not, who wait until it is over.
WIDE = 'steady = "400ms"\nturn = "5s"\nreturn = "10s"\nlongest = "4s"'
NARROW = 'steady = "400ms"\nturn = "300ms"\nreturn = "10s"\nlongest = "4s"'


def test_every_convention_of_the_table_is_served_here():
    assert all(f"[convention.{name}]" in TABLE.read_text().replace('"', "") for name in CONVENTIONS)
    assert TABLE.read_text().count("[convention.") == len(CONVENTIONS)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_healthy_service_of_each_convention_is_not_accused(serve, convention):
    assert found(health.services_are_live_and_ready, serve(convention)) == []
    assert found(health.answers_come_soon_and_stay_the_same, serve(convention)) == []


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_service_of_each_convention_that_is_not_ready_is_told_in_its_own_words(serve, convention):
    assert found(health.services_are_live_and_ready, serve(convention, probe=lambda: False)) == ["NOT-READY"]


@pytest.mark.parametrize(
    ("convention", "speaks", "codes"),
    [
        ("spring", "health+json", ["BODY-UNREADABLE"]),
        ("health+json", "kubernetes", ["BODY-UNREADABLE"]),
        ("kubernetes", "spring", []),
    ],
)
def test_another_conventions_words_are_read_only_where_the_body_is_free(serve, convention, speaks, codes):
    assert found(health.services_are_live_and_ready, serve(convention, speaks=speaks)) == codes


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_losing_and_regaining_a_dependency_is_followed_in_each_convention(serve, store, convention):
    ours = serve(convention, probe=reads_whole(store), proxies={"objects": store}, needs=["objects"], more=WIDE)
    assert found(health.losing_a_dependency_is_told, ours) == []
    assert found(health.a_hanging_dependency_is_told, ours) == []


def test_a_probe_that_only_connects_is_caught_by_hanging_cutting_and_resetting(serve, store):
    ours = serve("spring", probe=only_connects(store), proxies={"objects": store}, needs=["objects"], more=NARROW)
    # A reset may come while it still connects: then it says no, now and then.
    assert {"READY-LIES", "FLAPS"} & set(found(health.losing_a_dependency_is_told, ours))
    assert found(health.a_hanging_dependency_is_told, ours) == ["READY-LIES"]


def test_a_need_that_the_profile_does_not_name_is_told(serve, store):
    ours = serve("spring", probe=reads_whole(store), proxies={"objects": store}, more=NARROW)
    assert found(health.losing_a_dependency_is_told, ours) == ["NOT-READY"]


class Inconstant:
    """An honest probe for a while: ``seconds`` after it turned to one of its answers, it says the other for a while."""

    def __init__(self, honest, answer, seconds=0.6):
        self.honest, self.answer, self.seconds = honest, answer, seconds
        self.clock, self.since, self.before = Clock.start(), None, not answer

    def __call__(self):
        said, now = self.honest(), self.clock.now()
        if said != self.before:
            self.since, self.before = now, said
        due = self.since is not None and now - self.since > self.seconds * NANOSECONDS
        return said != (due and said == self.answer)


@pytest.mark.parametrize("answer", [False, True])
def test_readiness_that_does_not_stay_what_it_turned_to_flaps(serve, store, answer):
    probe = Inconstant(reads_whole(store), answer)
    more = WIDE.replace("400ms", "1500ms")
    ours = serve("spring", probe=probe, proxies={"objects": store}, needs=["objects"], more=more)
    assert found(health.losing_a_dependency_is_told, ours) == ["FLAPS"]


def test_a_dependency_that_breaks_the_check_is_passed_on_again(serve, store):
    ours = serve("spring", proxies={"objects": store}, needs=["objects"])
    with pytest.raises(AttributeError):
        health.losing_a_dependency_is_told(ours, None)
    assert store.mode == "pass"


@pytest.mark.parametrize(
    "look",
    [
        health.ready_services_do_business, health.losing_a_dependency_is_told, health.a_hanging_dependency_is_told,
        health.a_database_that_is_not_whole_is_told,
    ],
)  # fmt: skip
def test_a_deployment_that_is_only_observed_is_not_disturbed_and_that_is_said(serve, look):
    check = Check()
    look(serve("spring"), check)
    assert (check.findings, check.looked_at) == ([], {})
    assert [each.keys() for each in check.not_tested] == [{"what", "reason"}]

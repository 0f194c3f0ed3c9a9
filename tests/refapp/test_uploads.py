"""Uploads through Web, on a real database and a real object store: one document for each key."""

import asyncio
import contextlib
import dataclasses
import time

import httpx
import pytest

from fixtures.network import free_ports
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from fixtures.refapp.client import Application
from fixtures.refapp.configuration import read_settings
from fixtures.refapp.database import DatabaseAway
from fixtures.refapp.faults import VARIABLE
from fixtures.refapp.job import process_one
from fixtures.refapp.model import model_document, parse_model
from fixtures.refapp.web import make_app

SLACK_SECONDS = 0.5
CONTENT = b"Reply to office@example.com."


@pytest.fixture(scope="module")
def store(processes, one, tmp_path_factory):
    server = EmbeddedObjectServer(
        directory=tmp_path_factory.mktemp("objects") / "store",
        port=free_ports(1)[0],
        bucket="documents",
        access_key="operator",
        secret_key="tests-secret",
        processes=processes,
        start_seconds=30,
    )
    server.initialise()
    server.launch(clients={})
    server.await_ready()
    yield server.handle
    server.running.kill_tree()


class Web:
    """Web on a way to the database that can lose answers, and a client of it."""

    def __init__(self, one, store, way, **more):
        self.server, values, self._key = one
        self.store, self.way = store, way
        values = values | {
            "DATABASE_URL": values["DATABASE_URL"].replace(str(self.server.handle.port), str(way.port)),
            "OBJECT_STORAGE_ENDPOINT": store.endpoint,
            "OBJECT_STORAGE_ACCESS_KEY": store.access_key,
            "OBJECT_STORAGE_SECRET_KEY": store.secret_key,
        }
        self.app, self.dependencies = make_app(read_settings("web", values | more))
        self.app.state.stopping = lambda: False

    async def __aenter__(self):
        transport = httpx.ASGITransport(app=self.app)
        headers = {"Authorization": f"Bearer {self._key}"}
        self.client = httpx.AsyncClient(transport=transport, base_url="http://web", headers=headers, timeout=30)
        return self

    async def __aexit__(self, *_):
        await self.client.aclose()
        self.dependencies.database.close()

    async def upload(self, name, key=None, content=CONTENT):
        headers = {"Content-Type": "text/plain"} | ({"Idempotency-Key": key} if key else {})
        return await self.client.post("/api/documents", params={"name": name}, content=content, headers=headers)

    async def losing(self, commits, awaitable):
        # The first commit of a request is that of its authentication.
        self.way.to_skip, self.way.to_lose = 1, commits
        answer = await awaitable
        self.way.to_skip = self.way.to_lose = 0
        return answer

    def rows(self, name):
        with self.server.handle.connect() as connection:
            query = "SELECT id::text, object_key FROM app.documents WHERE name = %s ORDER BY 1"
            return connection.execute(query, (name,)).fetchall()

    def objects(self, prefix=""):
        listed = self.store.client().list_objects(self.store.bucket, prefix=prefix, recursive=True)
        return {each.object_name for each in listed}


@pytest.fixture
def with_web(one, store, loses_answers):
    def run(scenario, **more):
        async def with_a_way():
            async with loses_answers(one[0].handle.port) as way, Web(one, store, way, **more) as web:
                await scenario(web)

        asyncio.run(with_a_way())

    return run


def test_an_upload_whose_answer_was_lost_is_one_document_when_it_comes_again_with_its_key(with_web):
    async def scenario(web):
        before = web.objects()
        first = await web.losing(1, web.upload("with a key", "key-1"))
        assert first.status_code == 503 and first.headers["Retry-After"] == "1"
        again = await web.upload("with a key", "key-1")
        ((document, key),) = web.rows("with a key")
        assert (again.status_code, again.json()["id"]) == (201, document)
        assert web.objects() - before == {key}

    with_web(scenario)


def test_without_a_key_it_is_two(with_web):
    async def scenario(web):
        assert (await web.losing(1, web.upload("without a key"))).status_code == 503
        assert (await web.upload("without a key")).status_code == 201
        assert len(web.rows("without a key")) == 2

    with_web(scenario)


def test_with_a_budget_web_repeats_it_by_itself_and_its_client_feels_nothing(with_web):
    async def scenario(web):
        before = web.objects()
        answer = await web.losing(1, web.upload("felt by nobody"))
        ((document, key),) = web.rows("felt by nobody")
        assert (answer.status_code, answer.json()["id"]) == (201, document)
        assert web.objects() - before == {key}
        with web.server.handle.connect() as connection:
            events = "SELECT count(*) FROM app.audit_events WHERE target_id = %s"
            jobs = "SELECT count(*) FROM app.jobs WHERE document_id = %s"
            assert [connection.execute(query, (document,)).fetchone() for query in (events, jobs)] == [(1,), (1,)]

    with_web(scenario, DATABASE_RETRY_SECONDS="2")


def test_one_that_ignores_the_key_is_seen_to_store_two(with_web, monkeypatch):
    monkeypatch.setenv(VARIABLE, "key-ignored")

    async def scenario(web):
        answer = await web.losing(1, web.upload("key ignored", "key-2"))
        assert answer.status_code == 201
        rows = web.rows("key ignored")
        assert len(rows) == 2 and answer.json()["id"] in {document for document, _ in rows}
        # Each is whole: that there are two is all that is wrong.
        assert {key for _, key in rows} <= web.objects()

    with_web(scenario, DATABASE_RETRY_SECONDS="2")


def test_a_key_is_of_one_upload_and_of_one_workspace(with_web):
    async def scenario(web):
        first = await web.upload("one", "key-3")
        for name, content in (("one", b"another content"), ("another name", CONTENT)):
            other = await web.upload(name, "key-3", content)
            assert other.status_code == 422 and "Idempotency-Key" in other.json()["error"]
        assert (await web.upload("one", "key-3")).json() == first.json()
        assert [(await web.upload("one", key)).status_code for key in ("x" * 201, "x" * 200)] == [422, 201]
        with web.server.handle.connect() as connection:
            connection.execute("INSERT INTO app.workspaces (slug, name) VALUES ('elsewhere', 'Elsewhere')")
        answer = await web.client.post("/api/documents", params={"name": "one", "workspace": "elsewhere"},
                                       content=CONTENT, headers={"Idempotency-Key": "key-3"})  # fmt: skip
        assert answer.status_code == 201 and answer.json()["id"] != first.json()["id"]

    with_web(scenario)


def test_two_at_once_with_one_key_are_one_document(with_web):
    async def scenario(web):
        before = web.objects()
        answers = await asyncio.gather(*(web.upload("at once", "key-4") for _ in range(4)))
        ((document, key),) = web.rows("at once")
        assert {(each.status_code, each.json()["id"]) for each in answers} == {(201, document)}
        assert web.objects() - before == {key}

    with_web(scenario)


def test_a_deletion_whose_answer_was_lost_was_done_and_a_repeat_is_told_so(with_web):
    async def scenario(web):
        identity = (await web.upload("deleted")).json()["id"]
        path = f"/api/documents/{identity}"
        assert (await web.losing(1, web.client.delete(path))).status_code == 503
        assert (await web.client.delete(path)).status_code == 404

    with_web(scenario)

    async def patient(web):
        identity = (await web.upload("deleted by a patient one")).json()["id"]
        answer = await web.losing(1, web.client.delete(f"/api/documents/{identity}"))
        assert answer.status_code == 204
        assert not [key for key in web.objects() if identity in key]

    with_web(patient, DATABASE_RETRY_SECONDS="2")


@pytest.mark.parametrize("budget", [0.0, 1.5])
def test_a_frozen_database_costs_a_request_its_budget_and_the_answer_says_when_to_come_again(with_web, frozen, budget):
    async def scenario(web):
        assert (await web.client.get("/api/documents")).status_code == 200
        with frozen(web.server):
            began = time.monotonic()
            answers = await asyncio.gather(web.upload("frozen", "key-5"), web.client.get("/api/documents"))
            assert time.monotonic() - began <= max(budget, 0.9) + SLACK_SECONDS
        for answer in answers:
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert (await web.upload("frozen", "key-5")).status_code == 201
        assert len(web.rows("frozen")) == 1

    with_web(scenario, DATABASE_RETRY_SECONDS=str(budget))


def test_the_suites_own_client_gives_each_upload_a_key_of_its_own():
    sent = []

    def answer(request):
        sent.append(request.headers["Idempotency-Key"])
        return httpx.Response(503, json={"error": "away"})

    application = Application("http://web", "key", timeout=1)
    application._http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://web")
    for key in ("", "", "mine"):
        with pytest.raises(Exception, match="answered 503"):
            application.upload("name", CONTENT, key=key)
    application.close()
    assert len(set(sent)) == 3 and sent[2] == "mine"


class Neighbours:
    """LLM and OCR, who find nothing in any text."""

    def extract(self, content, size, content_type):
        return content.read().decode()

    def detect(self, text):
        return []


def test_two_jobs_and_a_lost_answer_redact_each_document_once(with_web):
    async def scenario(web):
        names = [f"redacted/{number}" for number in range(6)]
        for name in names:
            assert (await web.upload(name)).status_code == 201
        model = parse_model(model_document(), revision="tests")
        jobs = [dataclasses.replace(web.dependencies, neighbours=Neighbours()) for _ in range(2)]

        async def work(job):
            with contextlib.suppress(DatabaseAway):
                while await process_one(job, model):
                    pass

        # The first commit is acknowledged, the second is not: that one is not done again for all that.
        web.way.to_skip, web.way.to_lose = 1, 1
        await asyncio.gather(*(work(job) for job in jobs))
        await work(jobs[0])
        assert web.way.to_lose == 0
        with web.server.handle.connect() as connection:
            effects = """
                SELECT d.status::text, j.status::text,
                    (SELECT count(*) FROM app.redactions r WHERE r.document_id = d.id),
                    (SELECT count(*) FROM app.audit_events e
                        WHERE e.target_id = d.id::text AND e.event_type = 'document.redacted')
                FROM app.documents d JOIN app.jobs j ON j.document_id = d.id WHERE d.name LIKE 'redacted/%'"""
            assert connection.execute(effects).fetchall() == [("redacted", "done", 1, 1)] * len(names)

    with_web(scenario)

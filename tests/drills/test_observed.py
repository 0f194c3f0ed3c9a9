"""The search for uploads by their ids, where the application cannot be asked what it holds."""

import hashlib
from types import SimpleNamespace

import pytest

from drills import observed
from drills.stores import Stores, open_business
from fixtures.application import ApplicationError
from fixtures.deployment import NotGiven, Service
from reports.accounting import account
from reports.records import HarnessError, monotonic_ns


class Client:
    """Gives what it is told for each id: bytes, a status, or several in turn."""

    def __init__(self, **answers):
        self.answers = answers

    def download(self, document_id):
        told = self.answers[document_id]
        if isinstance(told, list):
            told = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(told, int):
            raise ApplicationError(f"fetch: answered {told}", status=told)
        return told


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(observed, "READ_SECONDS", 1.0)


def looked_for(client):
    return list(observed._observe_uploads(client, {f"id-{name}": name for name in client.answers}))


def test_lost_unreadable_altered_and_recovered_are_told_apart():
    lines = [
        line
        for n, name in enumerate(("whole", "gone", "broken", "bent"))
        for line in (
            {"event": "attempt", "channel": "api", "n": n, "id": f"id-{name}", "t": n,
             "sha256": hashlib.sha256(b"text").hexdigest()},
            {"event": "acknowledged", "channel": "api", "n": n, "t": n, "document": name},
        )
    ]  # fmt: skip
    found = looked_for(Client(whole=b"text", gone=404, broken=500, bent=b"other"))
    (channel,) = account(lines, found, 10).channels
    assert (channel.recovered, channel.lost, channel.unreadable, channel.altered) == (1, 2, 1, 1)


def test_a_dependency_that_is_away_for_a_moment_loses_nothing():
    found = looked_for(Client(a=b"text", b=[503, 503, b"text"], c=[0, b"text"]))
    assert {line["id"]: bool(line["sha256"]) for line in found} == {"id-a": True, "id-b": True, "id-c": True}


@pytest.mark.parametrize("answers", [{"a": 500, "b": 502}, {"a": b"text", "b": 0}], ids=["nothing read", "no answer"])
def test_what_could_not_be_asked_is_no_loss_but_an_error(answers):
    with pytest.raises(ApplicationError):
        looked_for(Client(**answers))


def mute(**parts):
    def application(**given):
        raise NotGiven("a business transaction", remedy="describe it")

    return SimpleNamespace(application=application, **parts)


def test_where_no_transaction_is_described_the_step_that_fails_is_named(target):
    target.off()
    services = [Service(name="web", url=target.url.rstrip("/"), live="/live", ready="/ready")]
    business = open_business(mute(services=services), "run-1", timeout=1)
    assert isinstance(business, Stores)
    with pytest.raises(ApplicationError, match=r"^ready: web answers nothing"):
        business.transact("probe/1", b"text", deadline_ns=monotonic_ns() + 10**9)
    business.close()


def test_without_its_configuration_nobody_can_write(target):
    def client_access():
        raise HarnessError("environment file", seen="No such file or directory", remedy="restore it")

    business = open_business(mute(services=[], client_access=client_access), "run-1", timeout=1)
    with pytest.raises(ApplicationError, match=r"^configuration: environment file"):
        business.transact("probe/1", b"text", deadline_ns=monotonic_ns() + 10**9)
    business.close()

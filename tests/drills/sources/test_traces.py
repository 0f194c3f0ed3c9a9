"""What a business transaction leaves in the restored stores, told from what was there just before."""

import dataclasses
import io
import types

import pytest

from drills.shadow_traces import traces_of


@pytest.fixture
def site(server, store, make_bucket):
    bucket, _ = make_bucket()
    sandbox = types.SimpleNamespace(database=server.handle, objects=dataclasses.replace(store, bucket=bucket))
    return types.SimpleNamespace(sandbox=sandbox)


def put(site, content=b"of a transaction"):
    store = site.sandbox.objects
    store.client().put_object(store.bucket, "document", io.BytesIO(content), len(content))


def insert(site):
    with site.sandbox.database.connect() as connection:
        connection.execute("CREATE TABLE traced (a int)")
        connection.execute("INSERT INTO traced VALUES (1)")


def test_a_transaction_that_does_nothing_is_seen_however_short_a_while_ago_another_put_an_object(site):
    seen = []
    for _ in range(20):
        put(site)
        seen += [finding.code for finding in traces_of(site, lambda: None, seconds=0)]
    assert seen == ["TRANSACTION-ELSEWHERE"] * 20


@pytest.mark.parametrize("act", [put, lambda site: put(site, b"in place of it"), insert],
                         ids=["the same object again", "another in its place", "a row"])  # fmt: skip
def test_what_it_writes_is_a_trace(site, act):
    put(site)
    try:
        assert traces_of(site, lambda: act(site), seconds=15) == []
    finally:
        with site.sandbox.database.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS traced")

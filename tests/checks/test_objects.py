import hashlib
import io
import json
import random
import socketserver
import threading

import minio
import pytest

from checks import inventories
from checks.inventories import ObjectEntry, read_inventory, sorted_keys, write_inventory
from checks.objects import (
    DESCRIPTIONS,
    compare_inventories,
    inventory_of_directory,
    list_objects,
    take_inventory,
)
from reports.records import HarnessError

NAMES = ["a-b", "a/bb", "a b.txt", "é/ü.pdf", "zz", "10", "9", "a/b/c", "日本.txt", "plus+percent%20"]


def put(client, name, content):
    client.put_object("documents", name, io.BytesIO(content), len(content))


def fill(client):
    for name in NAMES:
        put(client, name, name.encode() * 1000)


def codes(*arguments, **options):
    return [(finding.code, finding.count) for finding in compare_inventories(*arguments, **options)]


def test_a_bucket_and_its_copy_in_a_directory_have_one_root(bucket, tmp_path):
    client, directory = bucket
    fill(client)
    here = take_inventory(client, "documents", tmp_path / "b", describe=frozenset(), workers=4)
    there = inventory_of_directory(directory, tmp_path / "d", workers=2)
    assert (here.count, here.bytes, here.merkle_root) == (there.count, there.bytes, there.merkle_root)
    assert here.count == len(NAMES)
    assert codes(here.path, there.path) == []
    keys = [entry.key.encode() for entry in read_inventory(here.path)]
    assert keys == sorted(keys)


def test_digests_are_those_of_the_bytes(bucket, tmp_path):
    client, _ = bucket
    content = random.Random(1).randbytes(3_000_000)
    put(client, "large.bin", content)
    put(client, "empty", b"")
    inventory = take_inventory(client, "documents", tmp_path / "i", describe=DESCRIPTIONS, workers=2)
    empty, large = read_inventory(inventory.path)
    assert (large.size, large.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (empty.size, empty.sha256) == (0, hashlib.sha256(b"").hexdigest())
    assert large.content_type == "application/octet-stream"
    assert large.tags == {}


def test_one_byte_one_loss_and_one_stranger_are_each_found(bucket, tmp_path):
    client, directory = bucket
    fill(client)
    before = take_inventory(client, "documents", tmp_path / "before", describe=frozenset(), workers=3)
    changed = bytearray((directory / "zz").read_bytes())
    changed[7] ^= 1
    put(client, "zz", bytes(changed))
    client.remove_object("documents", "10")
    put(client, "stranger", b"x")
    after = inventory_of_directory(directory, tmp_path / "after", workers=3)
    found = [("OBJECT-LOST", 1), ("OBJECT-ALTERED", 1), ("OBJECT-UNEXPECTED", 1)]
    assert codes(before.path, after.path) == found
    assert codes(before.path, after.path, explained=lambda key: key == "stranger") == found[:2]


def test_only_the_named_keys_are_read_and_those_gone_are_left_out(bucket, tmp_path):
    client, _ = bucket
    fill(client)
    keys = ["zz", "absent", "a-b", "zz"]
    inventory = take_inventory(client, "documents", tmp_path / "i", describe=frozenset(), workers=2, keys=keys)
    assert [entry.key for entry in read_inventory(inventory.path)] == ["a-b", "zz"]


def test_metadata_that_changed_is_a_difference_in_description(tmp_path):
    def entry(**described):
        return ObjectEntry(key="k", size=1, sha256="0" * 64, **described)

    one = write_inventory(tmp_path / "1", [entry(content_type="text/plain", metadata={"a": "1"}, tags={})])
    two = write_inventory(tmp_path / "2", [entry(content_type="text/html", metadata={"a": "1"}, tags={"x": "y"})])
    assert one.merkle_root == two.merkle_root
    assert codes(one.path, two.path) == []
    assert codes(one.path, two.path, describe=DESCRIPTIONS) == [("OBJECT-DESCRIPTION-ALTERED", 2)]


def test_thousands_of_losses_are_one_finding_with_the_first_and_the_worst(tmp_path):
    sizes = {f"key-{i:05d}": i for i in range(5000)}
    sizes["key-03000"] = 10**9
    entries = [ObjectEntry(key=key, size=size, sha256="0" * 64) for key, size in sizes.items()]
    write_inventory(tmp_path / "all", entries)
    write_inventory(tmp_path / "none", [])
    (finding,) = compare_inventories(tmp_path / "all", tmp_path / "none")
    assert finding.count == 5000
    assert "key-00000" in finding.seen
    assert "the worst: key-03000" in finding.seen
    assert len(finding.seen) < 300


def test_a_key_listing_larger_than_memory_allows_is_sorted_through_files(tmp_path, monkeypatch):
    monkeypatch.setattr(inventories, "_RUN", 7)
    keys = [f"{i}é\n" for i in range(100)]
    random.Random(2).shuffle(keys)
    assert list(sorted_keys([*keys, keys[0]], scratch=tmp_path)) == sorted(keys, key=str.encode)


@pytest.mark.parametrize("lines", ['{"key": 1', '{"key":"a","size":1}', '["a"]'])
def test_a_damaged_inventory_gets_one_clear_message(tmp_path, lines):
    (tmp_path / "i").write_text(lines + "\n")
    with pytest.raises(HarnessError, match="take the inventory again"):
        list(read_inventory(tmp_path / "i"))


def test_an_inventory_out_of_order_is_refused(tmp_path):
    entry = {"size": 0, "sha256": ""}
    (tmp_path / "i").write_text("".join(json.dumps({"key": key} | entry) + "\n" for key in "ba"))
    with pytest.raises(HarnessError, match="not in order"):
        list(read_inventory(tmp_path / "i"))


def test_an_absent_bucket_is_an_error_not_an_empty_inventory(bucket, tmp_path):
    with pytest.raises(HarnessError, match="reading bucket absent"):
        take_inventory(bucket[0], "absent", tmp_path / "i", describe=frozenset(), workers=1)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "broke off after 4 bytes"),
        (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy", "status 503: busy"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"", "broke off after 0 bytes"),
    ],
)
def test_a_store_that_breaks_off_or_refuses_is_an_error_not_an_object(tmp_path, answer, seen):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            client = minio.Minio(
                f"127.0.0.1:{server.server_address[1]}", "access", "secret-key", secure=False, region="us-east-1"
            )
            with pytest.raises(HarnessError, match=seen):
                take_inventory(client, "bucket", tmp_path / "i", describe=frozenset(), workers=1, keys=["a"])
        finally:
            server.shutdown()
            thread.join()


def test_an_object_that_a_client_removed_is_not_lost(tmp_path):
    entries = [ObjectEntry(key=key, size=1, sha256="0" * 64) for key in ("kept", "lost", "removed")]
    before = write_inventory(tmp_path / "before", entries).path
    after = write_inventory(tmp_path / "after", entries[:1]).path
    assert codes(before, after) == [("OBJECT-LOST", 2)]
    assert codes(before, after, removed=lambda key: key == "removed") == [("OBJECT-LOST", 1)]


def test_a_listing_tells_what_was_written_over_removed_or_added(bucket, tmp_path):
    client, _ = bucket
    fill(client)
    before = list_objects(client, "documents", tmp_path / "before")
    assert (before.count, codes(before.path, before.path)) == (len(NAMES), [])
    put(client, NAMES[0], NAMES[0].encode()[::-1] * 1000)
    client.remove_object("documents", NAMES[1])
    put(client, "new", b"new")
    after = list_objects(client, "documents", tmp_path / "after")
    assert codes(before.path, after.path) == [("OBJECT-LOST", 1), ("OBJECT-ALTERED", 1), ("OBJECT-UNEXPECTED", 1)]

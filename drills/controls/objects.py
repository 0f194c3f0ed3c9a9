"""Breakages of objects: a few are copied into a bucket of their own, broken there, and put into the inventory."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import minio
import minio.commonconfig

from checks.inventories import ObjectEntry, read_inventory, write_inventory
from checks.objects import compare_inventories, merged, take_inventory
from drills.controls.bench import Bench, Control, Seen
from drills.verification import references

SCRATCH_BUCKET: Final = "enprivacy-drill-copy"
SAMPLE: Final = 4
Mutation = Callable[[minio.Minio, list[str]], str]


def controls(bench: Bench) -> Iterator[Control]:
    """The untouched copies, and each way to break one."""
    yield Control(
        name="healthy twin of the objects",
        breaks="nothing",
        look=lambda: _with_objects(bench, lambda client, keys: "the copies as they are"),
    )
    for name, breaks, code, mutate, refer in (
        ("object lost", "an object removed", "OBJECT-LOST", _remove, False),
        ("object altered", "one byte of an object changed", "OBJECT-ALTERED", _alter, False),
        ("object added", "an object that nobody wrote", "OBJECT-UNEXPECTED", _add, False),
        ("reference dangling", "an object removed that a row refers to", "REFERENCE-DANGLING", _remove, True),
        ("reference altered", "one byte changed of such an object", "REFERENCE-ALTERED", _alter, True),
    ):
        look = functools.partial(_with_objects, bench, mutate, refer=refer)
        yield Control(name=name, breaks=breaks, expects=(code,), look=look)


def _remove(client: minio.Minio, keys: list[str]) -> str:
    client.remove_object(SCRATCH_BUCKET, keys[0])
    return keys[0]


def _alter(client: minio.Minio, keys: list[str]) -> str:
    response = client.get_object(SCRATCH_BUCKET, keys[0])
    try:
        content = bytearray(response.read())
    finally:
        response.close()
        response.release_conn()
    content[len(content) // 2] ^= 1
    client.put_object(SCRATCH_BUCKET, keys[0], io.BytesIO(bytes(content)), len(content))
    return keys[0]


def _add(client: minio.Minio, keys: list[str]) -> str:
    key = keys[0] + "-added"
    client.put_object(SCRATCH_BUCKET, key, io.BytesIO(b"nobody wrote this"), 17)
    return key


def _with_objects(bench: Bench, mutate: Mutation, *, refer: bool = False) -> Seen:
    """Copy a sample of the restored objects, break one, and judge the bucket's inventory with it in its place."""
    store = bench.deployment.objects
    client = store.client(connections=4)
    sample = _referenced(bench) if refer else [entry.key for entry in _sample(bench)]
    if not sample:
        return Seen()
    client.make_bucket(SCRATCH_BUCKET)
    try:
        for key in sample:
            client.copy_object(SCRATCH_BUCKET, key, minio.commonconfig.CopySource(store.bucket, key))
        victim = mutate(client, sample)
        scratch = take_inventory(
            client, SCRATCH_BUCKET, bench.directory / "control-sample.jsonl", describe=frozenset(), workers=4
        )
    finally:
        for item in list(client.list_objects(SCRATCH_BUCKET, recursive=True)):
            client.remove_object(SCRATCH_BUCKET, str(item.object_name))
        client.remove_bucket(SCRATCH_BUCKET)
    observed = bench.directory / "control-observed.jsonl"
    write_inventory(observed, _with_sample(bench.compared.observed_objects, scratch.path, set(sample)))
    if refer:
        findings, _ = references(bench.deployment, observed, bench.own)
    else:
        findings = compare_inventories(
            bench.compared.expected_objects, observed, explained=bench.compared.known_since.__contains__
        )
    return Seen(victim=victim, findings=findings)


def _with_sample(observed: Path, sample: Path, taken: set[str]) -> Iterator[ObjectEntry]:
    """The bucket's inventory with the sampled objects as they are now in the scratch bucket."""
    for kept, replaced in merged(read_inventory(observed), read_inventory(sample)):
        if replaced is not None:
            yield replaced
        elif kept is not None and kept.key not in taken:
            yield kept


def _sample(bench: Bench) -> list[ObjectEntry]:
    """The first few restored objects that hold something and that are not the ledger's own."""
    entries = read_inventory(bench.compared.expected_objects)
    wanted = (entry for entry in entries if entry.size and not entry.key.startswith(bench.own.prefix))
    return list(itertools.islice(wanted, SAMPLE))


def _referenced(bench: Bench) -> list[str]:
    """Keys that rows of the restored database refer to, with the digest that the object must have."""
    query = (
        f"SELECT key FROM ({bench.deployment.references_query}) AS r (key, sha256, size, d, e)"
        f" WHERE sha256 IS NOT NULL AND coalesce(size, 1) > 0 ORDER BY 1 LIMIT {SAMPLE}"
    )
    with bench.deployment.database.connect() as connection:
        return [str(key) for (key,) in connection.execute(query.encode())]

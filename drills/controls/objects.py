"""Breakages of objects: a few are copied into a bucket of their own, broken there, and put into the inventory."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import minio
import minio.commonconfig
from psycopg import sql

from checks.inventories import ObjectEntry, read_inventory, write_inventory
from checks.objects import compare_inventories, merged, take_inventory
from checks.references import check_references
from drills.across_stores import references
from drills.controls.bench import Bench, Control, Seen
from drills.schema_queries import references_query, tenant_pattern
from reports.records import Finding

SAMPLE: Final = 4
# How many objects that were uploaded between the two copies are looked at: a control needs one.
MOST: Final = 1000
Mutation = Callable[[minio.Minio, str, list[str]], str]


def scratch_bucket(run_id: str) -> str:
    """The bucket in which a run breaks copies of objects; the run's id is in it, so that it is nobody else's."""
    return f"enprivacy-drill-copy-{run_id.lower()}"


def controls(bench: Bench) -> Iterator[Control]:
    """The untouched copies, and each way to break one."""
    referenced = functools.cache(functools.partial(_referenced, bench))
    yield Control(
        name="healthy twin of the objects",
        breaks="nothing",
        look=lambda: _with_objects(bench, lambda client, bucket, keys: "the copies as they are"),
    )
    for name, breaks, code, mutate, refer in (
        ("object lost", "an object removed", "OBJECT-LOST", _remove, None),
        ("object altered", "one byte of an object changed", "OBJECT-ALTERED", _alter, None),
        ("object added", "an object that nobody wrote", "OBJECT-UNEXPECTED", _add, None),
        ("reference dangling", "an object removed that a row refers to", "REFERENCE-DANGLING", _remove, referenced),
        ("reference altered", "one byte changed of such an object", "REFERENCE-ALTERED", _alter, referenced),
    ):
        look = functools.partial(_with_objects, bench, mutate, refer=refer)
        yield Control(name=name, breaks=breaks, expects=(code,), look=look)
    yield Control(
        name="object without a row",
        breaks="an object that no row refers to",
        expects=("OBJECTS-ORPHANED",),
        look=lambda: _orphaned(bench, referenced()),
    )
    yield Control(
        name="reference crossed",
        breaks="a row of another tenant than its object",
        expects=("REFERENCE-CROSSED",),
        look=lambda: _crossed(bench, referenced()),
    )
    yield Control(
        name="object described otherwise",
        breaks="another content type",
        expects=("OBJECT-DESCRIPTION-ALTERED",),
        look=lambda: _described(bench),
    )
    yield Control(
        name="objects copied before the database only",
        breaks="what only the second copy of the objects held taken away",
        expects=("REFERENCE-DANGLING",),
        always=False,  # where nobody uploaded between the two copies, the order made no difference
        every_drill=True,
        look=lambda: _wrong_order(bench),
    )


def _remove(client: minio.Minio, bucket: str, keys: list[str]) -> str:
    client.remove_object(bucket, keys[0])
    return keys[0]


def _alter(client: minio.Minio, bucket: str, keys: list[str]) -> str:
    response = client.get_object(bucket, keys[0])
    try:
        content = bytearray(response.read())
    finally:
        response.close()
        response.release_conn()
    content[len(content) // 2] ^= 1
    client.put_object(bucket, keys[0], io.BytesIO(bytes(content)), len(content))
    return keys[0]


def _add(client: minio.Minio, bucket: str, keys: list[str]) -> str:
    key = keys[0] + "-added"
    client.put_object(bucket, key, io.BytesIO(b"nobody wrote this"), 17)
    return key


def _with_objects(bench: Bench, mutate: Mutation, *, refer: Callable[[], list[str]] | None = None) -> Seen:
    """Copy a sample of the restored objects, break one, and judge the bucket's inventory with it in its place."""
    store = bench.deployment.objects
    client, scratch = store.client(connections=4), scratch_bucket(bench.site.record.run_id)
    sample = refer() if refer else [entry.key for entry in _sample(bench)]
    if not sample:
        return Seen()
    client.make_bucket(scratch)
    try:
        for key in sample:
            client.copy_object(scratch, key, minio.commonconfig.CopySource(store.bucket, key))
        victim = mutate(client, scratch, sample)
        taken = take_inventory(
            client, scratch, bench.directory / "control-sample.jsonl", describe=frozenset(), workers=4
        )
    finally:
        for item in list(client.list_objects(scratch, recursive=True)):
            client.remove_object(scratch, str(item.object_name))
        client.remove_bucket(scratch)
    observed = bench.directory / "control-observed.jsonl"
    write_inventory(observed, _with_sample(bench.bucket, taken.path, set(sample)))
    if refer:
        findings, _ = _references(bench, observed)
    else:
        findings = compare_inventories(bench.bucket, observed)
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
    entries = read_inventory(bench.bucket)
    wanted = (entry for entry in entries if entry.size and not entry.key.startswith(bench.own.prefix))
    return list(itertools.islice(wanted, SAMPLE))


def _referenced(bench: Bench) -> list[str]:
    """Keys of the bucket that rows of the restored database refer to, with the digest that the object must have."""
    query = (
        f"SELECT key FROM ({_text(bench)}\n) AS r (key, sha256, size, d, e)"
        f" WHERE sha256 IS NOT NULL AND coalesce(size, 1) > 0 ORDER BY 1 LIMIT {50 * SAMPLE}"
    )
    with bench.deployment.database.connect() as connection:
        keys = {str(key) for (key,) in connection.execute(query.encode())}
    # A reference to work that was lost has no object to break.
    present = (entry.key for entry in read_inventory(bench.bucket) if entry.key in keys)
    return list(itertools.islice(present, SAMPLE))


def _references(bench: Bench, inventory: Path) -> tuple[list[Finding], dict[str, int]]:
    with bench.deployment.database.connect() as connection:
        return references(bench.site, connection, inventory, bench.own)


def _orphaned(bench: Bench, sample: list[str]) -> Seen:
    """One object more than the bucket has: there may be some without a row, so that one more must be seen."""
    if not sample:
        return Seen()
    _, before = _references(bench, bench.bucket)
    added = ObjectEntry(key=sample[0] + "-added", size=1, sha256="0" * 64)
    inventory = bench.directory / "control-observed.jsonl"
    entries = (new or old for old, new in _merged(bench.bucket, [added]))
    write_inventory(inventory, (entry for entry in entries if entry is not None))
    findings, after = _references(bench, inventory)
    seen = after["orphaned"] > before["orphaned"]
    return Seen(victim=added.key, findings=findings if seen else [])


def _merged(observed: Path, entries: list[ObjectEntry]) -> Iterator[tuple[ObjectEntry | None, ObjectEntry | None]]:
    return merged(read_inventory(observed), iter(entries))


def _crossed(bench: Bench, sample: list[str]) -> Seen:
    """The references as the query gives them, the first of them by a row of a tenant that does not exist."""
    pattern = tenant_pattern(bench.deployment)
    if not sample:
        return Seen()
    key = sql.Literal(sample[0]).as_string()
    query = (
        f"SELECT key, sha256, size, CASE WHEN key = {key} THEN 'no-such-tenant' ELSE tenant END, source"
        f" FROM ({_text(bench)}\n) AS r (key, sha256, size, tenant, source)"
    )
    with bench.deployment.database.connect() as connection:
        findings, _ = check_references(
            connection,
            query,
            bench.bucket,
            tenant_of_key=pattern,
        )
    return Seen(victim=sample[0], findings=findings)


def _described(bench: Bench) -> Seen:
    """Of one object only, since not every server keeps descriptions."""
    sample = _sample(bench)
    if not sample:
        return Seen()
    paths = [bench.directory / f"control-described-{number}.jsonl" for number in range(2)]
    for path, content_type in zip(paths, ("text/plain", "text/html"), strict=True):
        write_inventory(path, [dataclasses.replace(sample[0], content_type=content_type)])
    findings = compare_inventories(*paths, describe=frozenset({"content_type"}))
    return Seen(victim=sample[0].key, findings=findings)


def _wrong_order(bench: Bench) -> Seen:
    """The bucket as it would be if the objects had been copied once, before the database."""
    made = bench.outcome.made
    if not bench.site.scenario.objects.plain:
        return Seen()
    late = (
        entry.key
        for entry, before in merged(read_inventory(made.objects), read_inventory(made.first_pass))
        if entry is not None and before is None
    )
    with bench.deployment.database.connect() as connection:
        text = _text(bench).replace("%", "%%")
        query = f"SELECT DISTINCT key FROM ({text}\n) AS r (key, b, c, d, e) WHERE key = ANY (%s) ORDER BY 1"
        referred = [str(key) for (key,) in connection.execute(query.encode(), (list(itertools.islice(late, MOST)),))]
    if not referred:
        return Seen()
    inventory = bench.directory / "control-observed.jsonl"
    left_out = set(referred)
    entries = read_inventory(bench.bucket)
    write_inventory(inventory, (entry for entry in entries if entry.key not in left_out))
    findings, _ = _references(bench, inventory)
    return Seen(victim=f"{len(referred)} objects, {referred[0]}", findings=findings)


def _text(bench: Bench) -> str:
    return references_query(bench.deployment)

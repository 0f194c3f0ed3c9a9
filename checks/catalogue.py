"""Everything the catalogue says of one database and of the cluster's roles, as text that a faithful restore keeps."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final

import psycopg

from checks import catalogue_cluster_queries, catalogue_queries
from checks.expressions import normalise
from checks.snapshot import telling

Catalogue = dict[str, dict[str, str]]
"""Kind → identity → definition: canonical JSON of the attributes that are set."""

UNREADABLE: Final = "unreadable"
_EXPRESSIONS: Final = {"definition", "default", "using", "check", "bound"}


def read_catalogue(connection: psycopg.Connection[Any], *, key: bytes) -> Catalogue:
    """The user's objects of the connected database, with roles, memberships, settings and privileges.

    Args:
        connection: in a transaction of ``checks.snapshot.reading``, whose settings fix how definitions are printed.
        key: keys the digests that stand for password verifiers; the same key is needed to compare.

    Raises:
        HarnessError: something vanished while it was read, or may not be read.
    """
    catalogue: Catalogue = {}
    with telling("reading the catalogue"):
        allowed = connection.execute("SELECT has_table_privilege('pg_authid', 'select')").fetchone()
        roles = (
            catalogue_cluster_queries.ROLES
            if allowed and allowed[0]
            else catalogue_cluster_queries.ROLES_WITHOUT_PASSWORDS
        )
        for query in (*catalogue_queries.STRUCTURE, roles, *catalogue_cluster_queries.SURROUNDINGS):
            cursor = connection.execute(query)
            names = [column.name for column in cursor.description or ()]
            for kind, identity, *values in cursor:
                attributes = dict(zip(names[2:], values, strict=True))
                catalogue.setdefault(kind, {})[identity] = _definition(attributes, key)
    return catalogue


def _definition(attributes: dict[str, Any], key: bytes) -> str:
    settled: dict[str, Any] = {}
    for name, value in attributes.items():
        if value is None:
            continue
        if name in _EXPRESSIONS:
            value = normalise(value)
        elif name == "password" and value != UNREADABLE:
            value = hmac.new(key, value.encode(), hashlib.sha256).hexdigest()
        settled[name] = value
    return json.dumps(settled, ensure_ascii=False, sort_keys=True)

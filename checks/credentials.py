"""Database credentials: which are accepted, what their user may do, and whether a password stands where it can be read.

No finding holds a password or a verifier.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from checks.audit_secrets import SHORTEST, forms
from checks.differences import summed_up
from checks.snapshot import telling
from fixtures.deployment import NotGiven
from fixtures.rotation import Credential, accepted
from reports.records import Finding

PIECE: Final = 1 << 20
RETURNED: Final = "CREDENTIAL-RETURNED"
SEEN: Final = "the password that was revoked opens it again, as after a restore of a backup older than that"
# RFC 5803, as PostgreSQL writes it: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
_SCRAM: Final = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)")
_LOGINS: Final = "SELECT rolname, rolpassword, rolcanlogin FROM pg_authid WHERE rolpassword IS NOT NULL ORDER BY 1"

_PRIVILEGES: Final = """
WITH asked AS (SELECT * FROM pg_roles WHERE rolname = %(user)s),
own AS (SELECT oid, nspname = 'pg_catalog' AS catalog FROM pg_namespace
    WHERE nspname !~ '^pg_(toast|temp)' AND nspname <> 'information_schema'),
option AS (SELECT unnest(ARRAY['', ' WITH GRANT OPTION']) g)
SELECT p || g || ' on schema ' || n.oid::regnamespace FROM own n, asked r, option,
    unnest(ARRAY['USAGE', 'CREATE']) p WHERE has_schema_privilege(r.oid, n.oid, p || g)
UNION ALL
SELECT p || g || ' on ' || c.oid::regclass FROM pg_class c JOIN own n ON n.oid = c.relnamespace, asked r, option,
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(r.oid, c.oid, p || g)
UNION ALL
SELECT p || g || ' on ' || c.oid::regclass || '.' || quote_ident(a.attname) FROM pg_class c JOIN own n
    ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid, asked r, option,
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND has_column_privilege(r.oid, c.oid, a.attnum, p || g)
UNION ALL
SELECT p || g || ' on sequence ' || c.oid::regclass FROM pg_class c JOIN own n ON n.oid = c.relnamespace, asked r,
    option, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p
    WHERE c.relkind = 'S' AND has_sequence_privilege(r.oid, c.oid, p || g)
UNION ALL
SELECT 'EXECUTE' || g || ' on ' || f.oid::regprocedure FROM pg_proc f JOIN own n ON n.oid = f.pronamespace, asked r,
    option WHERE (f.proacl IS NOT NULL OR NOT n.catalog) AND has_function_privilege(r.oid, f.oid, 'EXECUTE' || g)
UNION ALL
SELECT 'USAGE' || g || ' on type ' || t.oid::regtype FROM pg_type t JOIN own n ON n.oid = t.typnamespace, asked r,
    option WHERE t.typtype IN ('d', 'e', 'r') AND has_type_privilege(r.oid, t.oid, 'USAGE' || g)
UNION ALL
SELECT p || g || ' on the database' FROM asked r, option, unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) p
    WHERE has_database_privilege(r.oid, current_database(), p || g)
UNION ALL
SELECT 'USAGE' || g || ' on language ' || quote_ident(l.lanname) FROM pg_language l, asked r, option
    WHERE has_language_privilege(r.oid, l.oid, 'USAGE' || g)
UNION ALL
SELECT 'USAGE' || g || ' on foreign server ' || quote_ident(s.srvname) FROM pg_foreign_server s, asked r, option
    WHERE has_server_privilege(r.oid, s.oid, 'USAGE' || g)
UNION ALL
SELECT 'CREATE' || g || ' on tablespace ' || quote_ident(t.spcname) FROM pg_tablespace t, asked r, option
    WHERE has_tablespace_privilege(r.oid, t.oid, 'CREATE' || g)
UNION ALL
SELECT 'ownership of ' || what FROM asked r, LATERAL (
    SELECT c.oid::regclass::text, c.relowner FROM pg_class c JOIN own n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL SELECT 'schema ' || n.oid::regnamespace, n.nspowner FROM pg_namespace n JOIN own o ON o.oid = n.oid
    UNION ALL SELECT f.oid::regprocedure::text, f.proowner FROM pg_proc f JOIN own n ON n.oid = f.pronamespace
        WHERE NOT n.catalog
    UNION ALL SELECT 'type ' || t.oid::regtype, t.typowner FROM pg_type t JOIN own n ON n.oid = t.typnamespace
        WHERE t.typtype IN ('d', 'e', 'r')
    UNION ALL SELECT 'the database', datdba FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'language ' || quote_ident(lanname), lanowner FROM pg_language
    UNION ALL SELECT 'foreign server ' || quote_ident(srvname), srvowner FROM pg_foreign_server
    UNION ALL SELECT 'tablespace ' || quote_ident(spcname), spcowner FROM pg_tablespace
) o (what, owner) WHERE pg_has_role(r.oid, o.owner, 'USAGE')
UNION ALL
SELECT said || quote_ident(o.rolname) FROM pg_roles o, asked r, (VALUES ('MEMBER', 'membership in '),
    ('USAGE', 'the rights of '), ('MEMBER WITH ADMIN OPTION', 'the right to grant ')) m (kind, said)
    WHERE o.oid <> r.oid AND pg_has_role(r.oid, o.oid, kind)
    AND (o.rolname <> %(like)s OR kind = 'MEMBER WITH ADMIN OPTION')
UNION ALL
SELECT 'policy ' || quote_ident(p.polname) || ' of ' || p.polrelid::regclass FROM pg_policy p, asked r,
    unnest(p.polroles) named WHERE named = 0 OR pg_has_role(r.oid, named, 'USAGE')
UNION ALL
SELECT attribute FROM asked r, LATERAL (VALUES ('superuser', rolsuper), ('creates roles', rolcreaterole),
    ('creates databases', rolcreatedb), ('replication', rolreplication), ('bypasses row security', rolbypassrls),
    ('inherits', rolinherit), ('at most ' || rolconnlimit || ' connections', true),
    ('a login until ' || rolvaliduntil, rolvaliduntil < 'infinity')) a (attribute, held) WHERE held
UNION ALL
SELECT 'setting ' || c FROM pg_db_role_setting s JOIN asked r ON r.oid = s.setrole, unnest(s.setconfig) c
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
# Where people write what they should not; of each its place and its text.
_CATALOG: Final = {
    "settings": "SELECT setrole::regrole::text, array_to_string(setconfig, ' ') FROM pg_db_role_setting"
    " UNION ALL SELECT name, setting FROM pg_settings",
    "comments": "SELECT classoid::regclass::text, description FROM pg_description"
    " UNION ALL SELECT classoid::regclass::text, description FROM pg_shdescription",
    "functions": "SELECT oid::regproc::text, concat_ws(' ', prosrc, array_to_string(proconfig, ' '),"
    " pg_get_function_sqlbody(oid)) FROM pg_proc"
    " WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
    "views": "SELECT oid::regclass::text, pg_get_viewdef(oid) FROM pg_class WHERE relkind IN ('v', 'm')"
    " AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
    "defaults": "SELECT adrelid::regclass::text, pg_get_expr(adbin, adrelid) FROM pg_attrdef",
    "triggers": "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "user mappings": "SELECT umuser::regrole::text, array_to_string(umoptions, ' ') FROM pg_user_mapping",
    "foreign servers": "SELECT srvname::text, array_to_string(srvoptions, ' ') FROM pg_foreign_server"
    " UNION ALL SELECT ftrelid::regclass::text, array_to_string(ftoptions, ' ') FROM pg_foreign_table"
    " UNION ALL SELECT fdwname::text, array_to_string(fdwoptions, ' ') FROM pg_foreign_data_wrapper",
    "subscriptions": "SELECT subname::text, subconninfo FROM pg_subscription",
}


def read_privileges(connection: psycopg.Connection[Any], user: str, *, like: str = "") -> frozenset[str]:
    """What a user may do in the connected database, itself and through its memberships, with its settings.

    Each as the server's own functions say, such as ``SELECT on app.documents``; nothing at all of an unknown user.

    Args:
        like: the user that it stands in for by being its member, which is then no right of its own.

    Raises:
        HarnessError: the server refused or vanished.
    """
    with telling(f"reading the privileges of {user}"):
        return frozenset(text for (text,) in connection.execute(_PRIVILEGES, {"user": user, "like": like}))


def compare_privileges(before: Collection[str], after: Collection[str], user: str) -> list[Finding]:
    """What a rotation took away and what it added."""
    lost, gained = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    return [
        *summed_up("CREDENTIAL-PRIVILEGES", f"{user} lost", [(0, each) for each in lost]),
        *summed_up("CREDENTIAL-PRIVILEGES", f"{user} gained", [(0, each) for each in gained]),
    ]


def judge_logins(dsn: str, *, old: Credential | None, new: Credential | None) -> list[Finding]:
    """Whether the old credential is refused and the new one accepted, by logging in with each that is given.

    Raises:
        HarnessError: as ``accepted``.
    """
    findings = []
    if old is not None and accepted(dsn, old):
        seen = "the server lets it in with the password that was rotated away"
        findings.append(Finding(code="CREDENTIAL-OLD-ACCEPTED", seen=seen, where=old.user))
    if new is not None and not accepted(dsn, new):
        seen = "the server refuses the new password"
        findings.append(Finding(code="CREDENTIAL-NEW-REFUSED", seen=seen, where=new.user))
    return findings


def judge_revoked(dsn: str, revoked: Sequence[Credential]) -> list[Finding]:
    """Which credentials that were revoked a server accepts, by logging in with each.

    Raises:
        HarnessError: as ``accepted``.
    """
    return [Finding(code=RETURNED, seen=SEEN, where=each.user) for each in revoked if accepted(dsn, each)]


def opens(verifier: str, credential: Credential) -> bool:
    """Whether a password fits what the server stores of it: a SCRAM verifier (RFC 5802), or md5 of the older kind."""
    scram = _SCRAM.fullmatch(verifier)
    if scram is None:
        old = hashlib.md5((credential.password + credential.user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(verifier.encode(), f"md5{old}".encode())
    # SASLprep (RFC 4013) as far as it changes what people type.
    password = unicodedata.normalize("NFKC", credential.password).encode()
    try:
        salt, stored = base64.b64decode(scram[2], validate=True), base64.b64decode(scram[3], validate=True)
    except binascii.Error:
        return False
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, int(scram[1]))
    key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return hmac.compare_digest(key, stored)


def returned(revoked: Sequence[Credential], logins: Mapping[str, str]) -> list[Finding]:
    """Which credentials that were revoked a server would accept again.

    Args:
        logins: the verifier of each user that may log in.
    """
    back = [each.user for each in revoked if each.user in logins and opens(logins[each.user], each)]
    return [Finding(code=RETURNED, seen=SEEN, where=user) for user in back]


def credentials_returned(connection: psycopg.Connection[Any], revoked: Sequence[Credential]) -> list[Finding]:
    """The same of a server whose superuser this is. No login is tried: clients need not be let in yet.

    Raises:
        NotGiven: ``pg_authid`` may not be read.
    """
    rows = _stored(connection)
    return returned(revoked, {user: verifier for user, verifier, enters in rows if enters})


def weak_verifiers(connection: psycopg.Connection[Any]) -> tuple[list[Finding], int]:
    """The users whose password is stored in another form than SCRAM, and how many passwords are stored.

    Raises:
        NotGiven: ``pg_authid`` may not be read.
    """
    rows = _stored(connection)
    weak = [(0, user) for user, verifier, _ in rows if not _SCRAM.fullmatch(verifier)]
    return summed_up("CREDENTIAL-WEAK-VERIFIER", "users", weak), len(rows)


def _stored(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(_LOGINS.encode()).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        remedy = "look as a superuser, or GRANT SELECT ON pg_authid to the role that looks"
        raise NotGiven("the right to read pg_authid, what is stored of passwords", remedy=remedy) from None


def in_command_lines(passwords: Iterable[str]) -> tuple[list[Finding], int]:
    """The processes of this machine that show a password to every user of it, and how many were looked at."""
    sought = [password for password in passwords if password]
    shown, count = [], 0
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or ()
        count += bool(words)
        if any(password in word for word in words for password in sought):
            shown.append((0, f"{process.info['name']}, process {process.pid}"))
    return summed_up("CREDENTIAL-IN-CLEAR", "command lines", shown), count


def in_catalog(connection: psycopg.Connection[Any], passwords: Iterable[str]) -> tuple[list[Finding], int, list[str]]:
    """The places of the connected database's catalogue that show a password, also encoded; passwords are not sent.

    Returns:
        The findings, how many texts were looked at, and the kinds of them that may not be read.

    Raises:
        HarnessError: the server refused or vanished.
    """
    # A shorter one stands in any text by chance.
    sought = {form for password in passwords if len(password) >= SHORTEST for form in forms(password)}
    findings, count, unread = [], 0, []
    for kind, query in _CATALOG.items():
        with telling(f"reading the catalogue's {kind}"):
            try:
                rows = connection.execute(query.encode()).fetchall()
            except psycopg.errors.InsufficientPrivilege:
                unread.append(kind)
                continue
        count += len(rows)
        shown = {place for place, text in rows if text and any(form in text.encode() for form in sought)}
        findings += summed_up("CREDENTIAL-IN-CLEAR", f"catalogue, {kind}", [(0, place) for place in sorted(shown)])
    return findings, count, unread


def in_files(passwords: Iterable[str], paths: Iterable[Path]) -> tuple[list[Finding], int]:
    """The files that hold a password, and how many bytes were looked at; a file that is not there is passed over."""
    sought = [password.encode() for password in passwords if password]
    overlap = max((len(password) for password in sought), default=1) - 1
    found, count = [], 0
    for path in paths:
        if not path.is_file():
            continue
        held, rest = False, b""
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                count += len(piece)
                held = held or any(password in rest + piece for password in sought)
                rest = (rest + piece)[-overlap:] if overlap else b""
        if held:
            found.append((0, path.name))
    return summed_up("CREDENTIAL-IN-CLEAR", "logs", found), count

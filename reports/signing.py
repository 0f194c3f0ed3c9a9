"""Keys and signed envelopes: Ed25519 in DSSE, in one form only, so that not even a blank can be changed unseen.

An envelope is https://github.com/secure-systems-lab/dsse, its payload an in-toto Statement v1. The form of envelope
and payload is canonical JSON (RFC 8785) and the envelope ends with a line feed: other bytes are refused although their
signature may hold.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import (  # type: ignore[attr-defined]  # public, though not marked so for mypy
    CryptoSigner,
    Key,
    Signature,
    SSlibKey,
)

from reports.records import UsageProblem, canonical

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PASSPHRASE: Final = "ENPRIVACY_EVIDENCE_PASSPHRASE"  # noqa: S105 - the name of the variable that holds it


class NotAnEnvelope(Exception):
    """Bytes that ``envelope`` would not have written."""


def make_key(path: Path, *, passphrase: str = "") -> str:
    """Write a new private key (PEM, PKCS #8, mode 0600) and beside it ``<name>.pub``, and hand back the key's id.

    Raises:
        UsageProblem: one of the two files exists, or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    locked = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    for place in (path, public):
        if place.exists() or place.is_symlink():
            raise UsageProblem(str(place), seen="there already", remedy="name another file; no key is written over")
    for place, content, mode in (
        (path, pem, 0o600),
        (public, private.public_key().public_bytes(serialization.Encoding.PEM, form), 0o644),
    ):
        try:
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as problem:
            raise UsageProblem(
                str(place), seen=problem.strerror or str(problem), remedy="name a file in a directory of your own"
            ) from None
    return SSlibKey.from_crypto(private.public_key()).keyid


def read_signer(path: Path, *, passphrase: str = "") -> CryptoSigner:
    """The signer of a private key's file.

    Raises:
        UsageProblem: it cannot be read, is no Ed25519 key, or needs another passphrase.
    """
    content, remedy = _read(path), "make a key with python -m reports keygen FILE"
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError:  # it is encrypted
        remedy = f"put its passphrase into the variable {PASSPHRASE}"
        if not passphrase:
            raise UsageProblem(str(path), seen="the key needs a passphrase", remedy=remedy) from None
        try:
            key = serialization.load_pem_private_key(content, passphrase.encode())
        except ValueError:
            raise UsageProblem(str(path), seen="the passphrase does not open it", remedy=remedy) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageProblem(str(path), seen="not a private key in PEM", remedy=remedy) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageProblem(str(path), seen="a key that is not Ed25519", remedy=remedy)
    return CryptoSigner(key)


def read_public(path: Path) -> SSlibKey:
    """The public key of a file.

    Raises:
        UsageProblem: it cannot be read, or is no public Ed25519 key.
    """
    content = _read(path)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        seen = "a private key" if b"PRIVATE KEY" in content else "not a public Ed25519 key in PEM"
        raise UsageProblem(str(path), seen=seen, remedy="name the .pub that python -m reports keygen wrote")
    return SSlibKey.from_crypto(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UsageProblem(
            str(path), seen=problem.strerror or str(problem), remedy="name the file of a key that can be read"
        ) from None


def envelope(statement: Mapping[str, Any], signer: CryptoSigner) -> bytes:
    """A statement, signed, in the one form that ``opened`` accepts."""
    whole = Envelope(payload=canonical(statement), payload_type=PAYLOAD_TYPE, signatures={})
    whole.sign(signer)
    return _bytes_of(whole)


def opened(content: bytes) -> tuple[Envelope, dict[str, Any]]:
    """The envelope and the statement in it. Whose signature it bears, and whether that holds, is not looked at.

    Raises:
        NotAnEnvelope: it is not in just the form that ``envelope`` gives it.
    """
    try:
        whole = Envelope.from_dict(json.loads(content))
        statement = json.loads(whole.payload)
        sound = (
            _bytes_of(whole) == content
            and canonical(statement) == whole.payload
            and whole.payload_type == PAYLOAD_TYPE
            and len(whole.signatures) == 1
            and statement["_type"] == STATEMENT_TYPE
        )
    except Exception:  # hostile bytes, through a library that does not promise what it raises
        raise NotAnEnvelope from None
    if not sound:
        raise NotAnEnvelope
    return whole, statement


def _bytes_of(whole: Envelope) -> bytes:
    """Only what DSSE knows, so that a field that nobody signed finds no place."""
    signatures = [
        {"keyid": each.keyid, "sig": base64.b64encode(bytes.fromhex(each.signature)).decode()}
        for each in whole.signatures.values()
    ]
    payload = base64.b64encode(whole.payload).decode()
    return canonical({"payload": payload, "payloadType": whole.payload_type, "signatures": signatures}) + b"\n"


def signature_of(whole: Envelope) -> Signature:
    """The one signature of an envelope that ``opened`` has let pass."""
    return next(iter(whole.signatures.values()))


def key_that_signed(whole: Envelope, keys: Sequence[Key]) -> Key | None:
    """The one of these keys whose signature the envelope bears and that holds; ``None`` where there is none."""
    try:
        return next(iter(whole.verify(list(keys), 1).values())) if keys else None
    except VerificationError:
        return None

"""The age key pair that a drill encrypts to and restores with."""

from __future__ import annotations

import dataclasses
import secrets

import pyrage

from fixtures.profile import Profile
from reports.records import UsageProblem


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyPair:
    """An X25519 recipient (``age1…``), the identity that opens what was encrypted to it, and a passphrase beside."""

    recipient: str
    identity: str = dataclasses.field(repr=False)
    passphrase: str = dataclasses.field(repr=False)


def key_pair(profile: Profile) -> KeyPair:
    """The profile's key pair, or one made for the run where the profile names none.

    Raises:
        UsageProblem: a key that is none, a recipient without its identity, or two that do not belong together. Told
            before anything is destroyed that only they could bring back.
    """
    passphrase = profile.passphrase or secrets.token_urlsafe(24)
    if profile.age_identity is None:
        if profile.age_recipient is not None:
            raise UsageProblem(
                f"profile {profile.path}, backup.age_identity",
                seen="not set, though backup.age_recipient is",
                remedy="give the private key too, as ${NAME}: a drill restores what it backs up",
            )
        made = pyrage.x25519.Identity.generate()
        return KeyPair(recipient=str(made.to_public()), identity=str(made), passphrase=passphrase)
    try:
        identity = pyrage.x25519.Identity.from_str(profile.age_identity)
    except pyrage.IdentityError:
        raise UsageProblem(
            f"profile {profile.path}, backup.age_identity",
            seen="not an age private key",
            remedy="give the line AGE-SECRET-KEY-1… of the key file",
        ) from None
    public = str(identity.to_public())
    if profile.age_recipient not in (None, public):
        raise UsageProblem(
            f"profile {profile.path}, backup.age_recipient",
            seen=f"{profile.age_recipient} is not the public key of backup.age_identity, which is {public}",
            remedy="give the two keys of one pair",
        )
    return KeyPair(recipient=public, identity=profile.age_identity, passphrase=passphrase)

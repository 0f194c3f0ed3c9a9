"""Keys that could not open the backup are refused before anything is destroyed."""

import dataclasses

import pyrage
import pytest

from drills.keys import key_pair
from fixtures.profile import DEFAULT_PROFILE, load_profile
from reports.records import UsageProblem


def with_keys(recipient, identity):
    return dataclasses.replace(load_profile(DEFAULT_PROFILE), age_recipient=recipient, age_identity=identity)


@pytest.fixture
def identity():
    return pyrage.x25519.Identity.generate()


def test_a_profile_without_keys_gets_a_pair_that_opens_what_it_seals():
    pair = key_pair(with_keys(None, None))
    sealed = pyrage.encrypt(b"configuration", [pyrage.x25519.Recipient.from_str(pair.recipient)])
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(pair.identity)]) == b"configuration"


def test_an_identity_alone_is_enough(identity):
    assert key_pair(with_keys(None, str(identity))).recipient == str(identity.to_public())


def test_a_recipient_alone_is_refused(identity):
    with pytest.raises(UsageProblem, match="age_identity: not set"):
        key_pair(with_keys(str(identity.to_public()), None))


def test_keys_of_two_pairs_are_refused(identity):
    other = pyrage.x25519.Identity.generate()
    with pytest.raises(UsageProblem, match="is not the public key of"):
        key_pair(with_keys(str(other.to_public()), str(identity)))


def test_a_key_that_is_none_is_refused_without_showing_it():
    with pytest.raises(UsageProblem, match="not an age private key") as refused:
        key_pair(with_keys(None, "AGE-SECRET-KEY-NONSENSE"))
    assert "NONSENSE" not in str(refused.value)

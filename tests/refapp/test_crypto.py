"""The sealed column opens with its key and with no other."""

import base64
import os

import pytest

from fixtures.refapp.crypto import SealError, key_from, open_sealed, seal

KEY = bytes(range(32))


def test_a_sealed_value_opens_with_its_key():
    assert open_sealed(KEY, seal(KEY, "Zoë's password".encode())) == "Zoë's password".encode()


def test_sealing_twice_gives_different_bytes():
    assert seal(KEY, b"same") != seal(KEY, b"same")


def test_sealing_with_a_given_nonce_is_repeatable():
    assert seal(KEY, b"same", nonce=b"n" * 12) == seal(KEY, b"same", nonce=b"n" * 12)


def test_another_key_opens_nothing_and_says_so():
    with pytest.raises(SealError, match="COLUMN_ENCRYPTION_KEY is not the one"):
        open_sealed(os.urandom(32), seal(KEY, b"value"))


@pytest.mark.parametrize("position", [0, 1, 13, -1])
def test_an_altered_byte_is_seen(position):
    sealed = bytearray(seal(KEY, b"value"))
    sealed[position] ^= 1
    with pytest.raises(SealError):
        open_sealed(KEY, bytes(sealed))


@pytest.mark.parametrize("length", [0, 1, 28])
def test_a_value_cut_short_is_seen(length):
    with pytest.raises(SealError):
        open_sealed(KEY, seal(KEY, b"value")[:length])


def test_the_key_is_read_from_the_configuration():
    assert key_from({"COLUMN_ENCRYPTION_KEY": base64.b64encode(KEY).decode()}) == KEY


@pytest.mark.parametrize("configuration", [{}, {"COLUMN_ENCRYPTION_KEY": "ä"}, {"COLUMN_ENCRYPTION_KEY": "AAAA"}])
def test_an_unusable_key_is_named_by_its_variable(configuration):
    with pytest.raises(SealError, match="COLUMN_ENCRYPTION_KEY"):
        key_from(configuration)

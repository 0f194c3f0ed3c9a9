import hashlib

import pytest

from checks.merkle import MerkleTree


def by_definition(leaves):
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


@pytest.mark.parametrize("count", [*range(18), 31, 32, 33, 100])
def test_the_root_is_that_of_the_definition(count):
    leaves = [str(n).encode() for n in range(count)]
    tree = MerkleTree()
    for leaf in leaves:
        tree.add(leaf)
    assert tree.root() == by_definition(leaves).hex()

"""The root of a Merkle tree over a stream of leaves (RFC 6962, 2.1), in memory that grows with the tree's height."""

from __future__ import annotations

import dataclasses
import hashlib


@dataclasses.dataclass(kw_only=True)
class MerkleTree:
    """Add leaves in order, then ask for the root. Leaves and nodes are hashed under different prefixes."""

    _peaks: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)
    """Complete subtrees from left to right: height and hash, heights strictly falling."""

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        height, digest = 0, hashlib.sha256(b"\x00" + leaf).digest()
        while self._peaks and self._peaks[-1][0] == height:
            _, left = self._peaks.pop()
            height, digest = height + 1, hashlib.sha256(b"\x01" + left + digest).digest()
        self._peaks.append((height, digest))

    def root(self) -> str:
        """The root in hexadecimal; of no leaves, the SHA-256 of nothing."""
        if not self._peaks:
            return hashlib.sha256(b"").hexdigest()
        digest = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            digest = hashlib.sha256(b"\x01" + left + digest).digest()
        return digest.hex()

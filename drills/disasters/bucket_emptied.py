"""Somebody empties the bucket with the operator's keys; the bucket stays, and uploads go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.damage import STORE_ERRORS, Keys, looking_first, remove, speaks_against_removal, strikable
from fixtures.deployment import Deployment


class BucketEmptied:
    """See ``drills.contract.Disaster``."""

    name = "bucket_emptied"
    database: Literal["", "gone", "wrong"] = ""
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "emptied"
    configuration = False
    health = False

    def __init__(self) -> None:
        self._removed = Keys()

    def strike(self, deployment: Deployment) -> None:
        """List the bucket, and remove every object listed."""
        store = deployment.objects
        self._removed = Keys(strikable(store))
        remove(store, self._removed, look=looking_first(deployment))

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The bucket, listed again: none of the keys listed before is there."""
        place = f"{len(self._removed):,} objects of bucket {deployment.objects.bucket}"
        try:
            return {place: speaks_against_removal(deployment.objects, self._removed)}
        except STORE_ERRORS as problem:
            return {place: f"cannot be told: {problem}"}


DISASTER: Final[Disaster] = BucketEmptied()

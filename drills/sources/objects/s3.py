"""A copy of the bucket that lies in another bucket, or below a prefix of one: restored from there, bucket to bucket."""

from __future__ import annotations

from typing import Final

from drills.sources.contract import Fetched, Fetching
from drills.sources.in_store import listed, store_of
from drills.sources.recognising import text_of
from fixtures.shadow_settings import Kept
from reports.records import HarnessError


class S3:
    """See ``drills.sources.contract.Source``. Nothing is fetched to this machine's disk."""

    name = "s3"

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """The copy where it lies; of when it is, by the newest object in it."""
        store, prefix = store_of(kept), kept.prefix.strip("/")
        own = fetching.deployment.objects
        if (store.endpoint, store.bucket, prefix) == (own.endpoint.rstrip("/"), own.bucket, ""):
            raise HarnessError(
                f"bucket {store.bucket} at {store.endpoint}",
                seen="it is the deployment's own, and no backup of it",
                remedy="name the bucket, or the prefix, that it is copied to",
            )
        count, size, changed = 0, 0, 0.0
        for item in listed(store, f"{prefix}/" if prefix else ""):
            count, size, changed = count + 1, size + item.size, max(changed, item.changed)
        if not count:
            raise HarnessError(
                f"bucket {store.bucket}, prefix {prefix!r}",
                seen="no objects",
                remedy="name the prefix that the bucket is copied to",
            )
        return Fetched(
            place=fetching.target,
            form="objects",
            label=f"{store.bucket}/{prefix}".rstrip("/"),
            instant=text_of(changed),
            known_by="the newest object of the copy, by the clock of its store",
            bytes=size,
            store=store,
            prefix=prefix,
        )


SOURCE: Final = S3()

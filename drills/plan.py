"""What has to be restored after a disaster, and to which instant: decided from the disaster and the methods alone."""

from __future__ import annotations

import dataclasses
from typing import Literal

from drills.contract import DatabaseMethod, Disaster, KeepsInBucket, ObjectMethod

# ``backup``: the instant of the backup set; ``strike``: just before the disaster; ``latest``: as far as the log goes.
Instant = Literal["", "backup", "strike", "latest"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to each component.

    ``database`` is empty where it survives, else the instant to which it is restored into a new server. ``objects``:
    ``rebuild`` into a new, empty bucket, ``refill`` what the bucket lacks, or ``keep``.
    """

    database: Instant
    objects: Literal["rebuild", "refill", "keep"]
    configuration: bool

    def as_record(self) -> dict[str, str]:
        """The plan as the evidence tells it."""
        instants = {
            "": "survived, left as it is",
            "backup": "restored to the instant of the backup set",
            "strike": "restored to the instant before the disaster",
            "latest": "restored as far as the write-ahead log goes",
        }
        objects = {
            "rebuild": "restored into an empty bucket",
            "refill": "what the bucket lacked was put back",
            "keep": "survived, left as they are",
        }
        return {
            "database": instants[self.database],
            "objects": objects[self.objects],
            "configuration": "restored" if self.configuration else "survived, left as it is",
            "target": self.database or "none",
        }


def plan(database: DatabaseMethod, objects: ObjectMethod, disaster: Disaster, *, streams: bool = True) -> Plan:
    """What to restore.

    Both stores must come back to one instant. A bucket restored from a copy is as of the copy, so the database goes to
    the same backup set's instant, whatever its log could give. Where the bucket survived, the database goes as far as
    it can; if that is a past instant, as it is where the archive does not stream, objects that users have deleted since
    are put back, for its rows refer to them.
    """
    in_bucket = isinstance(objects, KeepsInBucket)
    copied_back = disaster.objects in ("gone", "overwritten") and not in_bucket
    instant: Instant = ""
    if disaster.database:
        instant = "backup"
        if database.basis == "target" and not copied_back:
            instant = "latest" if disaster.database == "gone" else "strike"
    if copied_back:
        return Plan(database=instant, objects="rebuild", configuration=disaster.configuration)
    refill = disaster.objects or instant in ("backup", "strike") or (instant == "latest" and not streams)
    return Plan(database=instant, objects="refill" if refill else "keep", configuration=disaster.configuration)


def impossible(objects: ObjectMethod, disaster: Disaster) -> str:
    """Why these cannot be drilled together; empty text where they can."""
    if isinstance(objects, KeepsInBucket) and disaster.objects == "gone":
        return f"{objects.name} recovers from the bucket's own versions, which {disaster.name} takes away with it"
    return ""

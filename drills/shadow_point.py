"""How far back a restored copy goes: by the heartbeat that it holds, else by what the backup says of itself."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Final

from checks.heartbeat import Beats, read_beats, read_object_beats
from checks.snapshot import HeldSnapshot
from drills.shadow_site import Looked, ShadowSite
from drills.shadow_verification import silent
from drills.sources.contract import Fetched
from drills.sources.physical import recovered_until
from drills.taking import Backups
from reports.records import NANOSECONDS

HEARTBEAT: Final = "the heartbeat"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Of when one store is: ``instant`` in UTC, how that is known, and in what steps, in nanoseconds."""

    channel: str
    instant: datetime | None
    basis: str
    resolution_ns: int = 0


def recovery_point(
    site: ShadowSite, backups: Backups, looked: Looked, restored: HeldSnapshot, *, began_ns: int
) -> None:
    """Journal how much each store would have lost, had the deployment been lost when recovery began.

    Counted by the deployment's own clock: what was the time there when recovery began, less the instant restored.
    """
    assert backups.database is not None and backups.objects is not None
    began = _time(looked.database_time) + timedelta(microseconds=(began_ns - looked.at_ns) // 1000)
    interval_ns, now = site.profile.heartbeat.interval_ns, _time(looked.database_time)
    points = [
        _by_beats("row", looked.beats, read_beats(restored.connection), interval_ns, now)
        or _by_backup("row", backups.database, recovered_until(site.sandbox)),
        _by_beats("object", looked.object_beats, read_object_beats(site.sandbox.objects), interval_ns, now)
        or _by_backup("object", backups.objects),
    ]
    site.journal.write(
        "shadow.point",
        drill=site.id,
        began_utc=_text(began),
        channels=[
            {
                "channel": each.channel,
                "basis": each.basis,
                "instant_utc": _text(each.instant) if each.instant else "",
                # A clock that runs ahead of the deployment's would give less than nothing.
                "loss_ns": max(0, _nanoseconds(began - each.instant)) if each.instant else None,
                "resolution_ns": each.resolution_ns,
            }
            for each in points
        ],
    )


def _by_beats(channel: str, there: Beats | None, here: Beats | None, interval_ns: int, now: datetime) -> Point | None:
    """The last beat that came back; None where the deployment has no heartbeat that goes on, or none came back."""
    if there is None or here is None or here.last is None or silent(there, now, interval_ns):
        return None
    return Point(channel=channel, instant=here.last, basis=HEARTBEAT, resolution_ns=interval_ns)


def _by_backup(channel: str, fetched: Fetched, replayed: str = "") -> Point:
    if replayed:
        return Point(channel=channel, instant=_time(replayed), basis="the last transaction that was replayed")
    instant = _time(fetched.instant) if fetched.instant else None
    known_by = f"the backup's own position: {fetched.known_by}" if instant else "the backup does not say of when it is"
    return Point(channel=channel, instant=instant, basis=known_by)


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00"))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _nanoseconds(span: timedelta) -> int:
    return (span // timedelta(microseconds=1)) * (NANOSECONDS // 1_000_000)

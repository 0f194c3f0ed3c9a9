"""How old the newest usable backup of each component is, against the frequency in force."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from checks.freshness import SetSeen, age_of, newest_first, see_set, source_of
from drills.taking import Backups
from fixtures.backup_set import COMPONENTS, BackupPlaces
from fixtures.deployment import Observed
from fixtures.objectives import BackupObjectives
from fixtures.profile import Profile
from reports.records import HarnessError, utc_now, utc_stamp

MAKE: Final = "make a backup and see that it ends well; docs/backup-freshness.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aged:
    """The newest usable backup of a component.

    ``known``: whether anybody says where backups of it are. ``age_ns``: ``None`` where there is none that is usable.
    ``limit_ns``: how old it may be, and whose word that is. ``error``: why it could not be looked at.
    """

    component: str
    known: bool
    seen: str
    age_ns: int | None
    limit_ns: int
    limit_source: str
    remedy: str
    error: str = ""


def ages(deployment: Observed, places: BackupPlaces | None, profile: Profile, asked: BackupObjectives) -> list[Aged]:
    """Of each component, from the backup sets; each byte of the newest usable set of each is digested."""
    sets = [] if places is None else _sets(deployment, places)
    return [_aged(component, places is not None, sets, profile, asked) for component in COMPONENTS]


def unread(problem: HarnessError, profile: Profile, asked: BackupObjectives) -> list[Aged]:
    """Of each component that its sets could not be looked at, and why."""
    found = []
    for component in COMPONENTS:
        limit_ns, source = _limit(component, 0, profile, asked)
        seen = f"{problem.probed}: {problem.seen}"
        found.append(
            Aged(
                component=component, known=True, seen="", age_ns=None, limit_ns=limit_ns, limit_source=source,
                remedy=problem.remedy, error=seen,
            )
        )  # fmt: skip
    return found


def ages_with_fetched(found: list[Aged], backups: Backups, profile: Profile, asked: BackupObjectives) -> list[Aged]:
    """The same, where no set is known, by the backups that a shadow restore has fetched from where they are kept.

    One that was made for it says nothing of those that the operator keeps.
    """
    fetched = {"database": backups.database, "objects": backups.objects}
    better = []
    for each in found:
        backup = fetched.get(each.component)
        if each.known or backup is None or backup.taken or not backup.instant:
            better.append(each)
            continue
        limit_ns, source = _limit(each.component, 0, profile, asked)
        passed = utc_now() - datetime.fromisoformat(backup.instant.replace("Z", "+00:00"))
        better.append(
            dataclasses.replace(
                each,
                known=True,
                seen=f"{backup.label}, fetched and restored",
                limit_ns=limit_ns,
                limit_source=source,
                age_ns=max(0, int(passed.total_seconds()) * 1_000_000_000),
                remedy=MAKE,
            )
        )
    return better


def _sets(deployment: Observed, places: BackupPlaces) -> list[SetSeen]:
    now = utc_stamp()
    with deployment.database.connect("postgres") as connection:
        source = source_of(connection, deployment=deployment.name, major=deployment.database.tools.major)
    backups = {backup.directory.name: backup for backup in places.every()}
    seen = newest_first([see_set(backup, source, now_utc=now, contents=False) for backup in backups.values()])
    wanted = set(COMPONENTS)
    for number, each in enumerate(seen):
        if not wanted:
            break
        seen[number] = read = see_set(backups[each.name], source, now_utc=now, contents=True)
        wanted -= {component for component in wanted if read.usable(component)}
    return seen


def _aged(component: str, known: bool, sets: list[SetSeen], profile: Profile, asked: BackupObjectives) -> Aged:
    usable = next((each for each in sets if each.usable(component)), None)
    limit_ns, source = _limit(component, usable.duration_ns if usable else 0, profile, asked)
    common = {"component": component, "limit_ns": limit_ns, "limit_source": source}
    if not known:
        remedy = f"name backup.sets and backup.sets_apart{_or(component)} in the profile"
        seen = "nobody says where backups of it are kept"
        return Aged(known=False, seen=seen, age_ns=None, remedy=remedy, **common)  # type: ignore[arg-type]
    if usable is None:
        why = "; ".join(f"{each.name}: {each.unusable.get(component, 'no time')}" for each in sets[:2])
        seen = f"none of {len(sets)} sets holds a usable one. {why}".strip()
        return Aged(known=True, seen=seen, age_ns=None, remedy=MAKE, **common)  # type: ignore[arg-type]
    age_ns = max(0, age_of(usable, utc_now()))
    return Aged(known=True, seen=f"set {usable.name}, every byte digested", age_ns=age_ns, remedy=MAKE, **common)  # type: ignore[arg-type]


def _or(component: str) -> str:
    return "" if component == "configuration" else f", or a source as shadow.{component}"


def _limit(component: str, duration_ns: int, profile: Profile, asked: BackupObjectives) -> tuple[int, str]:
    """How old the newest may be: the frequency and the time that it takes, and never older than ``backup.max_age``."""
    frequency, limit_ns = asked.frequency[component], profile.backup_max_age_ns
    if frequency.target_ns is not None and frequency.target_ns + duration_ns < limit_ns:
        return frequency.target_ns + duration_ns, f"frequency by {frequency.source}"
    return limit_ns, "backup.max_age"


def as_record(aged: Aged) -> Mapping[str, object]:
    """As the journal holds it."""
    return dataclasses.asdict(aged)

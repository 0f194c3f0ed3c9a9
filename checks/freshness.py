"""Are the backups recent, frequent and many enough, by what their manifests say and by whether they can be used at all.

Pure but for the reading of the sets themselves; durations in nanoseconds.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from checks.backup_set import instant_of, judge_set
from fixtures.backup_set import COMPONENTS, MANIFEST, BackupSet, check_manifest, noted_digest, sha256_of
from fixtures.objectives import BackupObjectives, Objective
from reports.records import Finding, Severity, UsageProblem, format_duration

FOREVER: Final = 2**62
PLAIN: Final = frozenset(COMPONENTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """What a set must be of, to be of use here, and to be restored into."""

    deployment: str
    system_identifier: str
    server_version: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetSeen:
    """A set as far as it concerns its age.

    ``made`` is when it was finished, ``None`` where its manifest does not say; ``duration_ns`` is how long that took, 0
    where it does not say; ``unusable`` says for each component that cannot be restored why; ``logged``: whether a
    write-ahead log goes with it, so that the database's recovery point does not hang on the next backup.
    """

    name: str
    made: datetime.datetime | None
    duration_ns: int
    unusable: Mapping[str, str]
    noted: bool
    logged: bool
    files: int

    def usable(self, component: str) -> bool:
        """Whether this component of it can be restored, and it is known of when it is."""
        return self.made is not None and component not in self.unusable


def see_set(backup: BackupSet, source: Source, *, now_utc: str, contents: bool) -> SetSeen:
    """Read a set's manifest and see that its files are those that it names.

    Args:
        contents: their bytes are digested too, not only counted and measured.
    """
    try:
        manifest = backup.manifest()
        noted = noted_digest(backup)
        parts = manifest.get("kept", COMPONENTS)
        findings = judge_set(
            backup,
            manifest_sha256=noted or sha256_of(backup.directory / MANIFEST),
            deployment=source.deployment,
            system_identifier=source.system_identifier,
            server_version=source.server_version,
            now_utc=now_utc,
            max_age_ns=FOREVER,
            physical=bool(manifest.get("physical")),
            components=parts,
        )
        findings += check_manifest(backup, contents_of=PLAIN if contents else frozenset())
        made = instant_of(manifest["made_utc"])
    except UsageProblem as problem:
        return SetSeen(
            name=backup.directory.name, made=None, duration_ns=0, unusable=dict.fromkeys(COMPONENTS, problem.seen),
            noted=False, logged=False, files=0,
        )  # fmt: skip
    return SetSeen(
        name=backup.directory.name,
        made=made,
        duration_ns=int(manifest.get("duration_ns", 0)),
        unusable=_unusable(findings),
        noted=noted is not None,
        logged=bool(manifest.get("logged")),
        files=sum(int(each["files"]) for each in manifest["components"].values()),
    )


def _unusable(findings: Sequence[Finding]) -> dict[str, str]:
    """Why each component cannot be used: a finding about one of its files is its own, any other is everybody's."""
    why: dict[str, str] = {}
    for finding in findings:
        if finding.kind.severity is not Severity.FAILURE:
            continue
        of = finding.where.split("/")[0]
        for component in [of] if of in COMPONENTS else COMPONENTS:
            why.setdefault(component, f"{finding.code}: {finding.seen} ({finding.where})")
    return why


def age_of(seen: SetSeen, now: datetime.datetime) -> int:
    """The age of a set in nanoseconds."""
    assert seen.made is not None
    return (now - seen.made) // datetime.timedelta(microseconds=1) * 1000


def newest_first(sets: Sequence[SetSeen]) -> list[SetSeen]:
    """Ordered by when they were finished; those of which that is not known come first."""
    dated = [(each.made, each) for each in sets if each.made is not None]
    dated.sort(key=lambda pair: pair[0], reverse=True)
    return [each for each in sets if each.made is None] + [each for _, each in dated]


def judge_ages(
    sets: Sequence[SetSeen], objectives: BackupObjectives, *, now: datetime.datetime, max_age_ns: int
) -> tuple[list[Finding], dict[str, int]]:
    """Whether of each component there is a usable backup that is young enough, and whether the newest set is usable.

    A backup that is made every four hours and takes ten minutes is up to 4 h 10 min old when the next one is finished.

    Args:
        max_age_ns: how old a set may be at all, whatever the frequency.

    Returns:
        Findings, and the age of the newest usable backup of each component in seconds.
    """
    findings, ages = [], {}
    ordered = newest_first(sets)
    if ordered and ordered[0].unusable:
        newest = ordered[0]
        seen = "; ".join(f"{component}: {why}" for component, why in newest.unusable.items())
        findings.append(Finding(code="BACKUP-UNUSABLE", seen=f"the newest set: {seen}", where=newest.name))
    for component in COMPONENTS:
        usable = next((each for each in ordered if each.usable(component)), None)
        if usable is None:
            seen = f"none of {len(sets)} sets holds a usable one"
            findings.append(Finding(code="BACKUP-ABSENT", seen=seen, where=component))
            continue
        age = age_of(usable, now)
        ages[f"s of age of the {component} backup"] = age // 1_000_000_000
        frequency = objectives.frequency[component]
        limit, source = max_age_ns, "backup.max_age"
        if frequency.target_ns is not None and frequency.target_ns + usable.duration_ns < limit:
            limit, source = frequency.target_ns + usable.duration_ns, f"frequency by {frequency.source}"
        if age > limit:
            seen = (
                f"the newest usable one, {usable.name}, is {format_duration(age)} old;"
                f" at most {format_duration(limit)} ({source})"
            )
            findings.append(Finding(code="BACKUP-STALE", seen=seen, where=component))
    return findings, ages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demand:
    """What the recovery point objective demands of a component's backups.

    ``demanded_ns``: the longest interval that keeps it; ``interval_ns``: the longer of the one in force and the one
    seen between the two newest usable sets; 0 where neither is known or there is no usable set; ``source`` says which.
    """

    component: str
    demanded_ns: int
    interval_ns: int
    source: str

    @property
    def seen(self) -> str:
        """In words."""
        shown = format_duration(self.interval_ns) if self.interval_ns else "unknown"
        return f"{self.component}: at most {format_duration(self.demanded_ns)} demanded, {shown} {self.source}"


def demands(sets: Sequence[SetSeen], objectives: BackupObjectives) -> list[Demand]:
    """What the recovery point objective demands: interval + duration ≤ RPO. Nothing where there is no objective.

    The worst loss is what was written since the instant of the last finished backup when the next one is lost in its
    last moment: one interval and one duration. Configuration is backed up on change: no data is lost with it.
    """
    rpo = objectives.rpo.target_ns
    if rpo is None:
        return []
    found = []
    for component in ("database", "objects"):
        usable = [each for each in newest_first(sets) if each.usable(component)]
        if component == "database" and usable and usable[0].logged:
            continue
        duration = usable[0].duration_ns if usable else 0
        interval, source = _interval(usable, objectives.frequency[component])
        demanded = max(rpo - duration, 0)
        found.append(Demand(component=component, demanded_ns=demanded, interval_ns=interval, source=source))
    return found


def _interval(usable: Sequence[SetSeen], frequency: Objective) -> tuple[int, str]:
    """The interval that counts, in nanoseconds, and where it is from: a schedule that is not kept counts as it is."""
    if not usable:
        return 0, "as there is no usable set"
    interval, source = frequency.target_ns or 0, f"by {frequency.source}"
    if len(usable) > 1:
        first, second = usable[0].made, usable[1].made
        assert first is not None and second is not None
        between = (first - second) // datetime.timedelta(microseconds=1) * 1000
        if between > interval:
            return between, "between the two newest"
    return interval, source


def judge_demands(found: Sequence[Demand]) -> list[Finding]:
    """Whether backups as often as they are made can keep the recovery point objective."""
    return [
        Finding(code="BACKUP-TOO-SELDOM", seen=each.seen, where=each.component)
        for each in found
        if each.interval_ns > each.demanded_ns
    ]


def judge_retention(sets: Sequence[SetSeen], objectives: BackupObjectives, *, now: datetime.datetime) -> list[Finding]:
    """Whether there are as many usable sets as there must be, and none older than any may become."""
    findings = []
    usable = [each for each in sets if each.made is not None and not each.unusable]
    least, longest = objectives.sets.least, objectives.age.target_ns
    if least is not None and len(usable) < least:
        seen = f"{len(usable)} usable sets; at least {least} ({objectives.sets.source})"
        findings.append(Finding(code="BACKUP-TOO-FEW", seen=seen, where="retention"))
    if longest is not None:
        over = [each for each in newest_first(sets) if each.made is not None and age_of(each, now) > longest]
        if over:
            seen = (
                f"{len(over)} sets older than {format_duration(longest)} ({objectives.age.source}), the oldest"
                f" {over[-1].name}, {format_duration(age_of(over[-1], now))}"
            )
            findings.append(Finding(code="BACKUP-KEPT-TOO-LONG", seen=seen, where="retention", count=len(over)))
    return findings


def source_of(connection: Any, *, deployment: str, major: int) -> Source:
    """The source's own number, read from its server."""
    row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    return Source(deployment=deployment, system_identifier=str(row[0]), server_version=major * 10_000)

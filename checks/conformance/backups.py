"""Backups: recent, frequent and many enough, out of the application's reach, and showing nobody a secret."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from checks.backup_secrets import find_secrets, judge_configuration, secret_values
from checks.backup_set import instant_of
from checks.checked import Check
from checks.conformance.registry import conformance, fault
from checks.conformance.subject import Subject
from checks.freshness import (
    SetSeen,
    demands,
    judge_ages,
    judge_demands,
    judge_retention,
    newest_first,
    see_set,
    source_of,
)
from checks.reach import reach_of_application, user_called
from checks.sets_under_check import (
    broken,
    means_of,
    replace,
    rewrite_manifest,
    say_what_stayed_closed,
    sets_of,
)
from fixtures.backup_set import BackupSet
from fixtures.objectives import BackupObjectives, Kept, Objective, backup_objectives
from reports.records import NANOSECONDS, format_duration, utc_now, utc_stamp

GUIDE: Final = "line 11: Recommended Backup Frequency (lines 14 and 15: TODO)"
GUIDE_RPO: Final = "line 19: Reference RTO / RPO (lines 23 and 24: TODO)"
GUIDE_OWN: Final = "line 5: Backup and recovery is your responsibility as the operator"
GUIDE_APART: Final = "line 10: Environment variables and secrets (back up separately and securely)"
SUPPORTS: Final = ("SOC 2 A1.2", "NIST 800-53r5 CP-9", "CIS 11.1", "HIPAA 164.308(a)(7)(ii)(A)")
SUPPORTS_SECRET: Final = ("NIST 800-53r5 CP-9(8)", "CIS 11.3", "CSF 2.0 PR.DS-11")
HOUR: Final = 3600 * NANOSECONDS
LONG_AGO: Final = datetime.timedelta(days=400)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("BACKUP-ABSENT", "BACKUP-UNUSABLE", "BACKUP-STALE"))
def a_usable_backup_is_recent(subject: Subject, check: Check) -> None:
    """Of each component there is a backup that can be restored, no older than the frequency in force allows."""
    if (seen := _survey(subject, check)) is None:
        return
    asked = _objectives(subject)
    findings, ages = judge_ages(seen, asked, now=utc_now(), max_age_ns=subject.profile.backup_max_age_ns)
    check.findings += findings
    check.looked_at = {"backup sets": len(seen), "files": sum(each.files for each in seen), **ages}
    for component, frequency in asked.frequency.items():
        if frequency.target_ns is None:
            at_most = format_duration(subject.profile.backup_max_age_ns)
            reason = f"none is set ({frequency.source}); backup.max_age, {at_most}, is judged instead"
            check.not_tested.append(
                {"what": f"the age of the {component} backup against a frequency", "reason": reason}
            )
    if unnoted := [each.name for each in seen if not each.noted]:
        reason = "no digest of it was noted apart from the set when it was made"
        check.not_tested.append({"what": f"whether the manifest of {unnoted[0]} was rewritten", "reason": reason})


@conformance(guide=GUIDE_RPO, supports=SUPPORTS, finds=("BACKUP-TOO-SELDOM",))
def backups_are_frequent_enough(subject: Subject, check: Check) -> None:
    """Interval and duration of the backups together keep the recovery point objective."""
    if (seen := _survey(subject, check, contents=False)) is None:
        return
    asked = _objectives(subject)
    if asked.rpo.target_ns is None:
        reason = f"no target: {asked.rpo.source}; set objectives.rpo or objectives.tier"
        check.not_tested.append({"what": "the frequency that the RPO demands", "reason": reason})
        return
    found = demands(seen, asked)
    check.findings += judge_demands(found)
    judged = [each for each in found if each.interval_ns]
    check.looked_at = {
        f"s between {each.component} backups demanded": each.demanded_ns // NANOSECONDS for each in judged
    }
    for each in found:
        if not each.interval_ns:
            reason = f"there is no usable set, or but one and no frequency is set; {each.seen}"
            check.not_tested.append({"what": f"the frequency of {each.component} backups", "reason": reason})
    if "database" not in {each.component for each in found}:
        reason = (
            "a write-ahead log goes with the newest set: its recovery point hangs on the log, not on the next backup"
        )
        check.not_tested.append({"what": "the frequency of database backups", "reason": reason})


@conformance(guide=GUIDE_OWN, supports=SUPPORTS, finds=("BACKUP-TOO-FEW", "BACKUP-KEPT-TOO-LONG"))
def backups_are_kept_as_long_as_they_must(subject: Subject, check: Check) -> None:
    """There are as many usable backup sets as there must be, and none older than any may become."""
    if (seen := _survey(subject, check, contents=False)) is None:
        return
    asked = _objectives(subject)
    check.findings += judge_retention(seen, asked, now=utc_now())
    if asked.sets.least is not None or asked.age.target_ns is not None:
        check.looked_at = {"backup sets": len(seen)}
    if asked.sets.least is None:
        reason = f"no number is asked for ({asked.sets.source}): set objectives.retention or objectives.tier"
        check.not_tested.append({"what": "how many sets are kept", "reason": reason})
    if asked.age.target_ns is None:
        reason = f"no age is asked for ({asked.age.source}): set objectives.retention or objectives.tier"
        check.not_tested.append({"what": "how long sets are kept", "reason": reason})


@conformance(guide=GUIDE_OWN, supports=SUPPORTS_SECRET, finds=("BACKUP-REACHABLE",))
def the_application_cannot_reach_the_backups(subject: Subject, check: Check) -> None:
    """With the application's own credentials the backups can be neither read nor written nor removed."""
    if (places := subject.sets()) is None:
        check.not_tested.append({"what": "the places of the backups", "reason": "backup.sets is not in the profile"})
        return
    store = [subject.own.backup_store()] if subject.owned else []
    directories, name = [places.sets, places.apart], subject.profile.application_user
    user = user_called(name) if name and not subject.owned else None
    access = subject.deployment.client_access()
    found, check.looked_at = reach_of_application(access, store, directories, user=user)
    check.findings += found
    if user is None:
        reason = "nobody says who the services run as on this machine: set backup.application_user"
        if subject.owned:
            reason = "a deployment of the suite's own runs as the suite's user, whose the backups are"
        check.not_tested.append({"what": "the backups' directories by owner and group", "reason": reason})


@conformance(
    guide=GUIDE_APART, supports=SUPPORTS_SECRET, finds=("BACKUP-CONFIGURATION-CLEAR", "BACKUP-CONFIGURATION-TOGETHER")
)
def configuration_is_encrypted_and_apart(subject: Subject, check: Check) -> None:
    """The backup of configuration and secrets cannot be read without a key, and lies apart from the data."""
    if not (sets := sets_of(subject, check)):
        return
    names = subject.deployment.configuration()
    for backup in sets:
        findings, unknown = judge_configuration(backup, names, means_of(subject))
        check.findings += findings
        check.not_tested += [
            {"what": f"configuration backup {name}", "reason": "of no form known to be encrypted, nor readable"}
            for name in unknown
        ]
    volumes = {place.stat().st_dev for backup in sets for place in (backup.directory, backup.apart) if place.is_dir()}
    check.looked_at = {"backup sets": len(sets), "volumes": len(volumes)}


@conformance(guide=GUIDE_APART, supports=SUPPORTS_SECRET, finds=("BACKUP-SECRET-READABLE",))
def no_secret_is_readable_in_a_backup(subject: Subject, check: Check) -> None:
    """No value of configuration or key can be read in any file of a backup, through compression neither."""
    if not (sets := sets_of(subject, check)):
        return
    profile, access = subject.profile, subject.deployment.client_access()
    others = {"the client's API key": access.api_key, "backup.age_identity": profile.age_identity or "",
              "backup.passphrase": profile.passphrase or ""}  # fmt: skip
    secrets = secret_values(subject.deployment.configuration(), others)
    check.looked_at = {"backup sets": len(sets), "secrets": len(secrets), "files": 0}
    for backup in sets:
        findings, looked = find_secrets(backup, secrets, means_of(subject))
        check.findings += findings
        check.looked_at["files"] += looked.files
        for form, count in looked.within.items():
            key = f"read through {form}"
            check.looked_at[key] = check.looked_at.get(key, 0) + count
        say_what_stayed_closed(check, looked)


def _objectives(subject: Subject) -> BackupObjectives:
    if subject.objectives is not None:
        return subject.objectives
    return backup_objectives(
        subject.profile, rpo=Objective(target_ns=None, source="nobody set one"), tier=subject.profile.tier
    )


def _survey(subject: Subject, check: Check, *, contents: bool = True) -> list[SetSeen] | None:
    """Every set, as far as it concerns its age; ``None`` where nobody says where they are.

    Bytes are digested from the newest set back until there is a usable backup of each component.
    """
    if subject.sets() is None:
        sets_of(subject, check)
        return None
    deployment, now = subject.deployment, utc_stamp()
    with deployment.database.connect("postgres") as connection:
        source = source_of(connection, deployment=deployment.name, major=deployment.database.tools.major)
    sets = {backup.directory.name: backup for backup in sets_of(subject, check)}
    seen = newest_first([see_set(backup, source, now_utc=now, contents=False) for backup in sets.values()])
    wanted: set[str] = {"database", "objects", "configuration"} if contents else set()
    for number, each in enumerate(seen):
        if not wanted:
            break
        seen[number] = read = see_set(sets[each.name], source, now_utc=now, contents=True)
        wanted -= {component for component in wanted if read.usable(component)}
    return seen


def _aged(backup: BackupSet, age: datetime.timedelta) -> None:
    made = instant_of(backup.manifest()["made_utc"]) - age
    rewrite_manifest(backup, made_utc=made.isoformat().replace("+00:00", "Z"))


def _asking(subject: Subject, **changes: object) -> Subject:
    asked = dataclasses.replace(_objectives(subject), **changes)  # type: ignore[arg-type]
    return dataclasses.replace(subject, objectives=asked)


def _set(target_ns: int) -> Objective:
    return Objective(target_ns=target_ns, source="a fault")


@fault(a_usable_backup_is_recent, expects=("BACKUP-STALE",), breaks="a newest backup set that is long past its time")
def old_set(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        _aged(backup, LONG_AGO)
        yield other


@fault(a_usable_backup_is_recent, expects=("BACKUP-STALE",), breaks="a backup older than its frequency and no more")
def late_set(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        _aged(backup, datetime.timedelta(hours=5))
        frequency = dict.fromkeys(("database", "objects", "configuration"), _set(4 * HOUR))
        yield _asking(other, frequency=frequency)


@fault(a_usable_backup_is_recent, expects=("BACKUP-ABSENT",), breaks="an empty place for backup sets")
def no_set(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        shutil.rmtree(backup.directory)
        yield other


@fault(a_usable_backup_is_recent, expects=("BACKUP-UNUSABLE",), breaks="a byte altered in a file of the newest set")
def altered_set(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        victim = max(backup.place("database").rglob("*.*"), key=lambda path: path.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        replace(victim, bytes(content))
        yield other


@fault(backups_are_frequent_enough, expects=("BACKUP-TOO-SELDOM",), breaks="a daily backup under an RPO of an hour")
def daily_under_an_hour(subject: Subject) -> Iterator[Subject]:
    frequency = dict.fromkeys(("database", "objects", "configuration"), _set(24 * HOUR))
    yield _asking(subject, rpo=_set(HOUR), frequency=frequency)


@fault(
    backups_are_frequent_enough, expects=("BACKUP-TOO-SELDOM",),
    breaks="an hourly backup that was not made for a day, under an RPO of two hours",
)  # fmt: skip
def hourly_and_not_kept(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, newest):
        earlier, apart = (each.with_name("earlier") for each in (newest.directory, newest.apart))
        shutil.copytree(newest.directory, earlier)
        shutil.copytree(newest.apart, apart)
        _aged(BackupSet(directory=earlier, apart=apart), datetime.timedelta(hours=30))
        hourly = dict.fromkeys(("database", "objects", "configuration"), _set(HOUR))
        yield _asking(other, rpo=_set(2 * HOUR), frequency=hourly)


@fault(backups_are_kept_as_long_as_they_must, expects=("BACKUP-TOO-FEW",), breaks="sets removed before their time")
def too_few_sets(subject: Subject) -> Iterator[Subject]:
    yield _asking(subject, sets=Kept(least=1000, source="a fault"))


@fault(backups_are_kept_as_long_as_they_must, expects=("BACKUP-KEPT-TOO-LONG",), breaks="a set that never expired")
def expired_set(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        _aged(backup, LONG_AGO)
        yield _asking(other, age=_set(35 * 24 * HOUR))


class _SameStore:
    """A deployment whose backups lie in its own object store, under the application's keys."""

    def __init__(self, subject: Subject) -> None:
        self._deployment = subject.deployment

    def __getattr__(self, name: str) -> object:
        return getattr(self._deployment, name)

    def backup_store(self) -> object:
        return self._deployment.client_access().objects


@fault(
    the_application_cannot_reach_the_backups,
    expects=("BACKUP-REACHABLE",),
    breaks="backups under the application's keys",
)
def backups_in_reach(subject: Subject) -> Iterator[Subject]:
    same: Any = _SameStore(subject)
    yield dataclasses.replace(subject, deployment=same, owner=same)


@fault(
    configuration_is_encrypted_and_apart, expects=("BACKUP-CONFIGURATION-CLEAR",),
    breaks="a configuration backup that is only compressed",
)  # fmt: skip
def configuration_in_clear(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        clear = gzip.compress(json.dumps(subject.deployment.configuration()).encode())
        replace(backup.place("configuration") / "environment.json.gz", clear)
        yield other


@fault(
    configuration_is_encrypted_and_apart, expects=("BACKUP-CONFIGURATION-CLEAR",),
    breaks="a configuration backup in clear that names the variables otherwise",
)  # fmt: skip
def configuration_under_other_names(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        values = subject.deployment.configuration().items()
        text = "".join(f"{name.lower().replace('_', '-')}: {value}\n" for name, value in values)
        replace(backup.place("configuration") / "values.yaml", text.encode())
        yield other


@fault(
    configuration_is_encrypted_and_apart, expects=("BACKUP-CONFIGURATION-TOGETHER",),
    breaks="a configuration backup beside its data",
)  # fmt: skip
def configuration_with_its_data(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, _):
        places = other.sets()
        assert places is not None
        together = dataclasses.replace(places, apart=places.sets)
        shutil.copytree(places.apart, places.sets, dirs_exist_ok=True)
        yield dataclasses.replace(other, sets=lambda: together)


@fault(no_secret_is_readable_in_a_backup, expects=("BACKUP-SECRET-READABLE",), breaks="a secret in a compressed file")
def secret_in_a_compressed_file(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        secret = subject.deployment.configuration()["COLUMN_ENCRYPTION_KEY"]
        replace(backup.place("objects") / "notes.txt.gz", gzip.compress(f"the key is {secret}\n".encode()))
        yield other


@fault(
    no_secret_is_readable_in_a_backup, expects=("BACKUP-SECRET-READABLE",),
    breaks="a secret in a compressed file in a compressed archive",
)  # fmt: skip
def secret_in_an_archive(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        inner = gzip.compress(subject.deployment.configuration()["COLUMN_ENCRYPTION_KEY"].encode())
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w:gz") as archive:
            member = tarfile.TarInfo("etc/notes.txt.gz")
            member.size = len(inner)
            archive.addfile(member, io.BytesIO(inner))
        replace(backup.place("objects") / "home.tar.gz", held.getvalue())
        yield other


@fault(
    no_secret_is_readable_in_a_backup, expects=("BACKUP-SECRET-READABLE",),
    breaks="the whole configuration in base64, in lines of 76 characters",
)  # fmt: skip
def configuration_in_base64(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        text = "".join(f"{name}={value}\n" for name, value in subject.deployment.configuration().items())
        replace(backup.place("objects") / "environment.b64", base64.encodebytes(text.encode()))
        yield other


@fault(no_secret_is_readable_in_a_backup, expects=("BACKUP-SECRET-READABLE",), breaks="a secret in a row of the dump")
def secret_in_the_dump(subject: Subject) -> Iterator[Subject]:
    deployment, tools = subject.deployment, subject.deployment.database.tools
    secret = deployment.configuration()["SESSION_SIGNING_KEY"]
    with broken(subject) as (other, backup), deployment.database.connect() as connection:
        dump = backup.place("database") / "leaking"
        connection.execute("CREATE SCHEMA enprivacy_drill_leak")
        try:
            connection.execute("CREATE TABLE enprivacy_drill_leak.settings (value bytea)")
            connection.execute("INSERT INTO enprivacy_drill_leak.settings VALUES (%s)", (secret.encode(),))
            argv: list[str | Path] = [
                tools.path("pg_dump"), *deployment.database.connection_arguments(), "--format=directory",
                "--schema=enprivacy_drill_leak", f"--dbname={deployment.database.name}", f"--file={dump}",
            ]  # fmt: skip
            deployment.processes.run(argv, timeout=60, env=deployment.database.environment())
        finally:
            connection.execute("DROP SCHEMA enprivacy_drill_leak CASCADE")
        yield other

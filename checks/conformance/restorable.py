"""Restorable before it is needed: what the newest backup will ask of its restore target, asked today."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from checks.backup_set import instant_of, mismatched
from checks.checked import Check
from checks.conformance.registry import conformance, fault
from checks.conformance.subject import Subject
from checks.sets_under_check import broken, rewrite_manifest, sets_of
from checks.target import judge_offer, judge_room, judge_tools, read_offer
from fixtures.backup_set import BackupSet
from reports.records import UsageProblem

GUIDE: Final = "line 16: Restore Procedures (empty)"
SUPPORTS: Final = ("NIST 800-53r5 CP-10", "NIST 800-53r5 CP-9(1)", "SOC 2 A1.2", "CSF 2.0 RC.RP-03")
NEEDS: Final = "needs"
ABSENT: Final = "enprivacy_drill_absent"


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("RESTORE-NO-SPACE",))
def the_target_has_room(subject: Subject, check: Check) -> None:
    """What the newest backup holds has room where it would be restored."""
    if (newest := _newest(subject, check)) is None:
        return
    _, manifest = newest
    sizes = manifest.get("sizes", {})
    if "database" not in sizes:
        reason = "its manifest does not say how large the restored database is; a dump is smaller"
        check.not_tested.append({"what": "room for the database", "reason": reason})
        return
    place = _standing(subject.deployment.database.data_directory)
    if place is None:
        reason = "the server's data directory is not on this machine"
        check.not_tested.append({"what": "room for the restore", "reason": reason})
        return
    kept = manifest["components"]
    needed = {
        "database": int(sizes["database"]),
        **{part: int(sizes.get(part, kept[part]["bytes"])) for part in ("objects", "configuration")},
        "reserve (limits.free_disk)": subject.profile.free_disk,
    }
    free = shutil.disk_usage(place).free
    check.findings += judge_room(needed, free=free, where="restore target")
    check.looked_at = {"bytes needed": sum(needed.values()), "bytes free": free}


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("VERSION-MISMATCH", "TOOL-ABSENT"))
def tools_and_server_fit_the_backup(subject: Subject, check: Check) -> None:
    """The programs and the server that would restore the newest backup are of versions that can."""
    if (newest := _newest(subject, check)) is None:
        return
    _, manifest = newest
    here = subject.deployment.versions()
    major = subject.deployment.database.tools.major
    check.findings += judge_tools(manifest["tools"], here)
    # The tools' own major version is judged with the server's here.
    check.findings += mismatched(manifest, major * 10_000, bool(manifest.get("physical")))
    check.looked_at = {"programs": len(manifest["tools"]), "servers": 1}


@conformance(
    guide=GUIDE, supports=SUPPORTS,
    finds=("EXTENSION-ABSENT", "ROLE-ABSENT", "LOCALE-ABSENT", "COLLATION-MISMATCH", "COLLATION-CHANGED"),
)  # fmt: skip
def the_server_offers_what_the_backup_needs(subject: Subject, check: Check) -> None:
    """The restore target has the extensions, the locale, the sort order and the roles that the newest backup needs."""
    if (newest := _newest(subject, check)) is None:
        return
    backup, manifest = newest
    if NEEDS not in manifest:
        reason = f"the manifest of {backup.directory.name} does not say what it needs"
        check.not_tested.append({"what": "extensions, roles and collations", "reason": reason})
        return
    needs: dict[str, Any] = manifest[NEEDS]
    with subject.deployment.database.connect("postgres") as connection:
        offer = read_offer(connection, needs)
    check.findings += judge_offer(
        needs, offer, roles_given=not manifest.get("roles_kept", True), physical=bool(manifest.get("physical"))
    )
    check.looked_at = {
        "extensions": len(needs["extensions"]), "roles": len(needs["roles"]), "collations": len(needs["collations"]),
        "locales": 1,
    }  # fmt: skip


def _newest(subject: Subject, check: Check) -> tuple[BackupSet, dict[str, Any]] | None:
    """The newest set that says what it is, with its manifest; says so where there is none."""
    found = []
    for backup in sets_of(subject, check):
        try:
            manifest = backup.manifest()
            found.append((instant_of(manifest["made_utc"]), backup, manifest))
        except (UsageProblem, KeyError):
            continue
    if not found:
        if subject.sets() is not None:
            check.not_tested.append({"what": "the newest backup", "reason": "no set has a readable manifest"})
        return None
    _, backup, manifest = max(found, key=lambda each: each[0])
    return backup, manifest


def _standing(place: Path) -> Path | None:
    """The directory itself or the nearest above it that is there; none where that is only the root."""
    for each in (place, *place.parents):
        if each.is_dir():
            return each if each != Path(each.anchor) else None
    return None


def _needing(subject: Subject, **changes: Any) -> Iterator[Subject]:
    """The newest set's manifest with other needs."""
    with broken(subject) as (other, backup):
        manifest = backup.manifest()
        more = {
            key: manifest[NEEDS][key] + value if isinstance(value, list) else value for key, value in changes.items()
        }
        rewrite_manifest(backup, **{NEEDS: {**manifest[NEEDS], **more}})
        yield other


def _saying(subject: Subject, **changes: Any) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        rewrite_manifest(backup, **changes)
        yield other


@fault(the_target_has_room, expects=("RESTORE-NO-SPACE",), breaks="a database larger than any disk")
def database_too_large(subject: Subject) -> Iterator[Subject]:
    yield from _saying(subject, sizes={"database": 2**52})


@fault(tools_and_server_fit_the_backup, expects=("TOOL-ABSENT",), breaks="a backup by a program that is not here")
def tool_not_here(subject: Subject) -> Iterator[Subject]:
    yield from _saying(subject, tools={**subject.deployment.versions(), ABSENT: "1.0"})


@fault(tools_and_server_fit_the_backup, expects=("VERSION-MISMATCH",), breaks="a backup of a server of a later version")
def server_too_old(subject: Subject) -> Iterator[Subject]:
    yield from _saying(subject, server_version=990_000, tools={"postgresql": "99.1"})


@fault(the_server_offers_what_the_backup_needs, expects=("EXTENSION-ABSENT",), breaks="an extension nobody offers")
def extension_not_here(subject: Subject) -> Iterator[Subject]:
    yield from _needing(subject, extensions=[{"name": ABSENT, "version": "1.0"}])


@fault(the_server_offers_what_the_backup_needs, expects=("LOCALE-ABSENT",), breaks="a locale the system does not know")
def locale_not_here(subject: Subject) -> Iterator[Subject]:
    yield from _needing(subject, locale={"provider": "c", "collate": "xx_XX.utf8", "ctype": "xx_XX.utf8"})


@fault(the_server_offers_what_the_backup_needs, expects=("ROLE-ABSENT",), breaks="a backup without roles")
def roles_not_here(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        needs = backup.manifest()[NEEDS]
        rewrite_manifest(backup, roles_kept=False, needs={**needs, "roles": [*needs["roles"], ABSENT]})
        yield other


def _another_order(subject: Subject, *, physical: bool) -> Iterator[Subject]:
    """A set that was sorted by another version of a collation that the server has."""
    with subject.deployment.database.connect("postgres") as connection:
        row = connection.execute(
            "SELECT oid::regcollation::text FROM pg_collation"
            " WHERE pg_collation_actual_version(oid) IS NOT NULL LIMIT 1"
        ).fetchone()
    assert row is not None, "a server has a collation with a version"
    with broken(subject) as (other, backup):
        needs = backup.manifest()[NEEDS]
        collations = [{"name": str(row[0]), "version": "0.0"}]
        rewrite_manifest(backup, physical=physical, needs={**needs, "collations": collations})
        yield other


@fault(
    the_server_offers_what_the_backup_needs, expects=("COLLATION-CHANGED",), breaks="a dump sorted by another version"
)
def dump_in_another_order(subject: Subject) -> Iterator[Subject]:
    yield from _another_order(subject, physical=False)


@fault(
    the_server_offers_what_the_backup_needs, expects=("COLLATION-MISMATCH",), breaks="files sorted by another version"
)
def files_in_another_order(subject: Subject) -> Iterator[Subject]:
    yield from _another_order(subject, physical=True)

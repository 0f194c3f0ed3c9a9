"""What lies in a directory of backups: which of it is the newest, of what form, and of when."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from drills.sources.belonging import foreign, identifier_of
from drills.sources.contract import Fetched, Fetching, Form
from drills.sources.kinds import HEAD_BYTES, PART_OF_DIRECTORY, TABLE_OF_CONTENTS, UNFINISHED, kind_of, kind_of_head
from drills.sources.own_set import decrypted_roles, described, is_set, problems_of, trouble_of
from fixtures.tree import files_below
from reports.records import Finding, HarnessError

VERSION_FILE: Final = "PG_VERSION"
# How deep a backup may lie below the directory that is named: one for each day, say, and one for each database.
DEEPEST: Final = 2
# A dump's stamp has whole seconds, and two machines' clocks differ.
SLACK: Final = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something that is a backup of a database, or should be one; ``changed`` in seconds since 1970."""

    place: Path
    form: Form = "archive"
    changed: float
    database: str = ""
    local: datetime | None = None
    trouble: str = ""
    made: Path | None = None
    roles: Path | None = None


def newest_dump(directory: Path, fetching: Fetching, *, began: float | None = None) -> Fetched:
    """The newest backup of the deployment's database below a directory: a dump, a data directory, a set of ours.

    Of several databases' dumps those that bear its name are taken, where any do.

    Args:
        began: when it began to be fetched, in seconds since 1970, where its files may bear that time and not their own.

    Raises:
        HarnessError: the directory cannot be read or holds none, or two are the newest.
    """
    name = fetching.deployment.database.name
    found = sorted(_unique(directory), key=lambda each: each.changed)
    sound = [each for each in found if not each.trouble]
    wanted = [each for each in sound if each.database in ("", name)] or sound
    if not wanted:
        told = "; ".join(f"{_label(each, directory)}: {each.trouble}" for each in found[-3:])
        raise HarnessError(
            f"directory {directory}",
            seen=told or "no backup of a database in it: no pg_dump archive, no SQL dump, no data directory",
            remedy="name the directory that the backups lie in, at most two levels above them",
        )
    newest = wanted[-1]
    if newest.local is not None:
        # An archive tells when it was begun. One that was copied about lately is not therefore the newest.
        newest = max((each for each in wanted if each.local is not None), key=lambda each: (each.local, each.changed))
    size = _bytes(newest.place)
    # A rotation keeps one dump by several names: those are of one size.
    rivals = [
        each
        for each in wanted
        if each is not newest
        and (each.changed, each.database) == (newest.changed, newest.database)
        and _bytes(each.place) != size
    ]
    if rivals:
        raise HarnessError(
            f"directory {directory}",
            seen=f"{' and '.join(_label(each, directory) for each in (*rivals, newest))} are of the very same time",
            remedy="keep each database's backups in a directory of their own, with the times of their making",
        )
    findings = [
        Finding(code="BACKUP-UNUSABLE", seen=f"{each.trouble}; {_label(newest, directory)} is restored instead",
                where=_label(each, directory))
        for each in found if each.trouble and each.changed > newest.changed
    ]  # fmt: skip
    instant, known_by = instant_of(newest, began)
    not_tested = []
    if newest.database not in ("", name):
        what = "the database's own settings, grants, owner and locale"
        not_tested.append((what, f"the dump is of {newest.database}, and is restored into {name}"))
    roles = newest.roles
    if newest.form == "files":
        more, unseen = foreign(identifier_of(newest.place), _label(newest, directory), fetching)
        findings, not_tested = [*findings, *more], [*not_tested, *unseen]
    if newest.made is not None:
        findings += problems_of(newest.made, "database")
        roles = decrypted_roles(newest.made, fetching)
    return Fetched(
        place=newest.place, form=newest.form, label=_label(newest, directory), instant=instant, known_by=known_by,
        roles=roles, bytes=size, findings=tuple(findings), not_tested=tuple(not_tested),
    )  # fmt: skip


def copy_of_objects(directory: Path, *, began: float | None = None) -> Fetched:
    """A directory that holds a file for each object; of sets of this suite's, the objects of the newest.

    Args:
        began: as of ``newest_dump``.

    Raises:
        HarnessError: there is none, or it is empty.
    """
    try:
        sets = [path for path in directory.iterdir() if is_set(path) and (path / "objects").is_dir()]
        if is_set(directory):
            sets.append(directory)
    except OSError as problem:
        raise _unreadable(directory, problem) from None
    if sets:
        newest = max(sets, key=lambda path: described(path).made)
        return Fetched(
            place=newest / "objects", form="objects", label=newest.name, instant=described(newest).made,
            known_by="the set's manifest, at its end", findings=tuple(problems_of(newest, "objects")),
        )  # fmt: skip
    changed = _newest_change(directory)
    if changed is None:
        raise HarnessError(
            f"directory {directory}", seen="no file in it", remedy="name the directory that the bucket is copied to"
        )
    instant, known_by = text_of(changed), "the newest file of the copy"
    if began is not None and changed >= began:
        instant, known_by = "", "its files bear the time at which they were fetched"
    return Fetched(place=directory, form="objects", label=directory.name, instant=instant, known_by=known_by)


def instant_of(found: Candidate, began: float | None) -> tuple[str, str]:
    """Of when a backup's data are, and how that is known."""
    if found.made is not None:
        return described(found.made).snapshot, "the set's manifest: the database's clock at the snapshot"
    fresh = began is not None and found.changed >= began
    if found.local is not None:
        # It does not say in which time zone. Its start cannot lie after its end; of what is left, the latest.
        readings = {found.local.replace(tzinfo=UTC).timestamp(): "UTC", found.local.timestamp(): "this machine's"}
        allowed = [at for at in readings if at <= found.changed + SLACK]
        if allowed:
            zone = readings[max(allowed)]
            return text_of(max(allowed)), f"the archive's own time, at the dump's start, taken for {zone} time"
    if fresh:
        return "", "the file bears the time at which it was fetched"
    end = "the database's clock is not in it: the time of the last change, at the backup's end or later"
    return text_of(found.changed), end


def _unique(directory: Path) -> Iterator[Candidate]:
    """Each backup once, also where a link leads to it a second time."""
    seen: set[Path] = set()
    for each in sorted(_candidates(directory, DEEPEST), key=lambda each: each.place.is_symlink()):
        real = each.place.resolve()
        if real not in seen:
            seen.add(real)
            yield each


def _candidates(directory: Path, depth: int) -> Iterator[Candidate]:
    if (found := _directory_kind(directory)) is not None:
        yield found
        return
    try:
        entries = sorted(directory.iterdir())
    except OSError as problem:
        raise _unreadable(directory, problem) from None
    dumps, roles = [], None
    for entry in entries:
        if entry.is_dir():
            if UNFINISHED.search(entry.name):
                yield Candidate(place=entry, changed=_changed(entry), trouble="its name says that it is not finished")
            elif depth:
                dumps += list(_candidates(entry, depth - 1))
            continue
        kind = kind_of(entry)
        if kind.what == "roles" and (roles is None or _changed(entry) >= _changed(roles)):
            roles = entry
        if kind.trouble:
            yield Candidate(place=entry, changed=_changed(entry), trouble=kind.trouble)
        elif kind.what in ("archive", "script", "cluster"):
            dumps.append(
                Candidate(
                    place=entry, form="archive" if kind.what == "archive" else "script", changed=_changed(entry),
                    database=kind.database, local=kind.local, roles=entry if kind.what == "cluster" else None,
                )
            )  # fmt: skip
    for each in dumps:
        beside = each.roles is None and each.place.parent == directory
        yield dataclasses.replace(each, roles=roles) if beside else each


def _directory_kind(directory: Path) -> Candidate | None:
    """What a directory is as a whole; none where it is but a directory with others in it."""
    if is_set(directory):
        made = described(directory)
        place, when = directory / "database" / "dump", datetime.fromisoformat(made.made.replace("Z", "+00:00"))
        return Candidate(place=place, changed=when.timestamp(), trouble=trouble_of(directory), made=directory)
    contents = directory / TABLE_OF_CONTENTS
    if contents.is_file():
        with contents.open("rb") as file:
            kind = kind_of_head(contents.name, file.read(HEAD_BYTES), contents.stat().st_size)
        trouble = kind.trouble or ("" if kind.what == "archive" else f"its {TABLE_OF_CONTENTS} is not pg_dump's")
        return Candidate(
            place=directory, changed=_changed(contents), database=kind.database, local=kind.local, trouble=trouble
        )
    if (directory / VERSION_FILE).is_file() and (directory / "global").is_dir():
        live = "a server's own directory, or a copy of one that ran: postmaster.pid is in it"
        trouble = live if (directory / "postmaster.pid").exists() else ""
        return Candidate(place=directory, form="files", changed=_changed(directory), trouble=trouble)
    with contextlib.suppress(OSError):
        parts = [path for path in directory.iterdir() if PART_OF_DIRECTORY.search(path.name)]
        if parts:
            changed = max(_changed(path) for path in parts)
            return Candidate(place=directory, changed=changed, trouble=f"a directory dump without {TABLE_OF_CONTENTS}")
    return None


def _label(found: Candidate, directory: Path) -> str:
    if found.made is not None:
        return found.made.name
    inside = found.place.relative_to(directory).as_posix()
    return directory.name if inside == "." else inside


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _newest_change(directory: Path) -> float | None:
    return max((file.stat(follow_symlinks=False).st_mtime for file in files_below(directory)), default=None)


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat(follow_symlinks=False).st_size for file in files_below(path))


def text_of(at: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _unreadable(directory: Path, problem: OSError) -> HarnessError:
    seen = problem.strerror or "unreadable"
    return HarnessError(f"directory {directory}", seen=seen, remedy="name one that is there and may be read")

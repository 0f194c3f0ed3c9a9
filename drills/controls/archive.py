"""Damage to a copy of the write-ahead log's archive, made of links: the method must refuse to rely on it."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from drills.contract import Archives, Job
from drills.controls.bench import Bench, Control, Seen
from fixtures.wal_segments import as_position, position, segment_size

# A segment by whatever an archiver adds to its name, such as a digest or how it is compressed; not a backup's label.
SEGMENT: Final = re.compile(r"[0-9A-F]{8}([0-9A-F]{16})(\.partial|-[0-9a-f]{40}.*|\.(gz|lz4|zst|bz2|xz))?")
# So many segments beyond the target no archive can have.
FURTHER: Final = 256


def controls(bench: Bench) -> Iterator[Control]:
    """The copy as it is, and each way to break it; nothing where the method keeps no archive."""
    if not isinstance(bench.method, Archives):
        return
    method, job = bench.method, dataclasses.replace(bench.job, until=bench.outcome.made.instant.target)
    for name, breaks, expects, mutate in (
        ("healthy twin of the archive", "nothing", (), lambda paths: None),
        ("log with a gap", "the segment with the target taken away", ("WAL-GAP",), _remove),
        ("log damaged", "that segment cut in half", ("WAL-DAMAGED", "WAL-GAP"), _cut),
    ):
        look = functools.partial(_with_archive, bench, method, job, mutate)
        yield Control(name=name, breaks=breaks, expects=expects, every_drill=True, look=look)
    yield Control(
        name="target beyond the log",
        breaks="a target that the archive does not reach",
        expects=("WAL-GAP", "PITR-TARGET-UNREACHED"),
        every_drill=True,
        look=lambda: _with_archive(bench, method, _beyond(job), lambda paths: None),
    )


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink()


def _cut(paths: Sequence[Path]) -> None:
    for path in paths:
        content = path.with_name("cut")
        shutil.copyfile(path, content)
        os.truncate(content, path.stat().st_size // 2)
        content.replace(path)


def _beyond(job: Job) -> Job:
    assert job.until is not None
    reached = position(job.until.lsn) + FURTHER * segment_size(job.archive)
    return dataclasses.replace(job, until=dataclasses.replace(job.until, lsn=as_position(reached), by="lsn"))


def _with_archive(bench: Bench, method: Archives, job: Job, mutate: Callable[[Sequence[Path]], object]) -> Seen:
    assert job.until is not None
    target = bench.outcome.made.instant.target
    copy = bench.directory / "control-archive"
    try:
        shutil.copytree(bench.job.archive, copy, copy_function=os.link)
        for directory in [copy, *(path for path in copy.rglob("*") if path.is_dir())]:
            job.own(directory)  # a method's tools may run as the server's user
        paths = _segment(copy, target.lsn, segment_size(bench.job.archive))
        if not paths:
            return Seen()
        mutate(paths)
        findings = method.check_archive(bench.backup.place("database"), copy, dataclasses.replace(job, archive=copy))
        return Seen(victim=f"{paths[0].name}, target {job.until.lsn}", findings=findings)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _segment(archive: Path, lsn: str, size: int) -> list[Path]:
    """Every file of the segment that holds the record before this position, of whatever timeline."""
    high, low = divmod((position(lsn) - 1) // size, 2**32 // size)
    return [
        path
        for path in sorted(archive.rglob("*"))
        if (match := SEGMENT.fullmatch(path.name)) and match[1] == f"{high:08X}{low:08X}" and path.is_file()
    ]

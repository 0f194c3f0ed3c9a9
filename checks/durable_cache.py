"""The model cache: whether it brings anything, outlives a restart, can be made again, and stays out of the backups.

Pure: values in, findings out; the one thing that is read here is the cache's directory.
"""

from __future__ import annotations

import contextlib
import os
import stat
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from checks.differences import summed_up
from reports.records import Finding, format_duration

# What huggingface_hub writes below ~/.cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
REPOSITORIES: Final = "huggingface/hub"
REPOSITORY: Final = "models--"
# Inode, size, and time of the last change in nanoseconds: a file that was written again differs in one of them.
Identity = tuple[int, int, int]


def read_cache(cache: Path, model_id: str) -> dict[str, Identity]:
    """The files of a model in the cache, by their path below it; nothing where the model is not there.

    Locks and half-fetched files are left out: they come and go.
    """
    repository = cache / REPOSITORIES / (REPOSITORY + model_id.replace("/", "--"))
    found = {}
    # What is being fetched comes and goes, whole directories too, over which ``rglob`` stumbles and ``walk`` does not.
    for path in (Path(directory, name) for directory, _, names in os.walk(repository) for name in names):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or path.suffix == ".incomplete" or path.name.startswith("tmp"):
                continue
            found[path.relative_to(cache).as_posix()] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def holds_model(files: Collection[str]) -> bool:
    """Whether there is a snapshot among the files of a model, which comes last when it is fetched."""
    return any("snapshots" in PurePosixPath(name).parts for name in files)


def judge_durable(
    service: str, *, first: Mapping[str, Identity], second: Mapping[str, Identity], downloads: int | None
) -> list[Finding]:
    """Whether a service's restart found the cache that its first start had filled.

    Args:
        first: the cache when the first start was done; ``second``: after the restart.
        downloads: how many files the hub handed out during the restart; ``None`` where that is not known.
    """
    seen = []
    if not holds_model(first):
        seen.append("after a start that had a model to fetch, the durable place holds none")
    if lost := [name for name in first if name not in second]:
        seen.append(f"{len(lost)} files gone after a restart, such as {lost[0]}")
    if altered := [name for name in first if name in second and first[name] != second[name]]:
        seen.append(f"{len(altered)} files written again by a restart, such as {altered[0]}")
    if downloads:
        seen.append(f"{downloads} files fetched again by a restart")
    return [Finding(code="CACHE-NOT-DURABLE", seen="; ".join(seen), where=service, count=len(seen))] if seen else []


def decided(cold_ns: Sequence[int], warm_ns: Sequence[int], *, least_gain: int) -> bool:
    """Whether these starts tell the two apart, one way or the other, so that no more are needed.

    That the cache does not help is believed early only where every start with it was longer than any without, and by
    half: a machine that is busy for a moment makes single starts longer.
    """
    cold, warm = statistics.median(cold_ns), statistics.median(warm_ns)
    return 2 * min(warm_ns) >= 3 * max(cold_ns) or 100 * warm <= (100 - least_gain) * cold


def judge_starts(
    service: str, cold_ns: Sequence[int], warm_ns: Sequence[int], *, least_gain: int
) -> tuple[list[Finding], dict[str, int]]:
    """Whether starts with the cache are faster than those without, by their medians.

    Args:
        cold_ns: the starts without, each in nanoseconds; ``warm_ns``: those with.
        least_gain: by how many percent of a start without it one with it must be shorter.

    Returns:
        The finding, if any, and both medians in microseconds with the number of starts.
    """
    cold, warm = round(statistics.median(cold_ns)), round(statistics.median(warm_ns))
    looked_at = {
        "cold start, median us": cold // 1000,
        "warm start, median us": warm // 1000,
        "starts timed": len(cold_ns) + len(warm_ns),
    }
    if 100 * warm <= (100 - least_gain) * cold:
        return [], looked_at
    seen = (
        f"ready after {format_duration(warm)} with the cache and after {format_duration(cold)} without"
        f" (medians of {len(warm_ns)} and {len(cold_ns)}); at least {least_gain} % less were asked for"
    )
    return [Finding(code="CACHE-NO-FASTER", seen=seen, where=service)], looked_at


def judge_holdings(before: Mapping[str, Collection[str]], after: Mapping[str, Collection[str]]) -> list[Finding]:
    """Whether anything that was there before the cache was wiped is gone; both by kind, such as ``objects``."""
    return [
        finding
        for kind, names in before.items()
        for finding in summed_up(
            "CACHE-HELD-DATA", kind, [(0, name) for name in sorted(set(names) - set(after.get(kind, ())))]
        )
    ]


def cache_in_set(names: Iterable[str], digests: Iterable[tuple[str, str]], cached: Mapping[str, str]) -> list[Finding]:
    """Whether a backup set holds files of a model cache, by their names or by what is in them.

    Args:
        names: of every file of the set and of what its archives hold.
        digests: name and SHA-256 of each file, as far as a manifest says.
        cached: the SHA-256 of the models' files in the cache, with a name for each.
    """
    by_name = [(0, name) for name in names if _of_cache(name)]
    by_content = [
        (0, f"{name}, which is {cached[sha256]}")
        for name, sha256 in digests
        if sha256 in cached and not _of_cache(name)
    ]
    return summed_up("CACHE-IN-BACKUP", "files", [*by_name, *by_content])


def _of_cache(name: str) -> bool:
    parts = PurePosixPath(name).parts
    below = any(part.startswith(REPOSITORY) for part in parts) and {"blobs", "snapshots", "refs"} & set(parts)
    return bool(below) or f"/{REPOSITORIES}/" in f"/{name}"

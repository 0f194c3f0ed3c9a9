"""A restored copy that does not stay quiet: an archive written to, settings that reach out, jobs that run again."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from checks.quiet import (
    JobState,
    compare_archives,
    compare_jobs,
    judge_settings,
    list_archive,
    read_job_effects,
    read_jobs,
    read_settings,
)
from drills.controls.bench import Bench, Control, Seen
from drills.schema_queries import job_effects_query, jobs_query

SEGMENT: Final = "000000010000000000000001"
QUIET: Final = {
    "archive_mode": "off",
    "archive_library": "",
    "archive_cleanup_command": "",
    "primary_conninfo": "",
    "synchronous_standby_names": "",
}
SAMPLE: Final = 20


def controls(bench: Bench) -> Iterator[Control]:
    """Untouched copies, and each way not to stay quiet."""
    for name, breaks, mutate in (
        ("healthy twin of a quiet archive", "nothing", lambda path: None),
        ("archive written to", "a segment of another timeline added", _add),
        ("archive written over", "a segment written again with the same bytes", _write_again),
        ("archive robbed", "a segment removed", Path.unlink),
    ):
        expects = () if name.startswith("healthy") else ("ARCHIVE-WRITTEN",)
        yield Control(name=name, breaks=breaks, expects=expects, look=functools.partial(_archive, bench, mutate))
    values = functools.cache(functools.partial(_quiet_values, bench))
    for name, planted in (
        ("healthy twin of quiet settings", {}),
        ("archiving left on", {"archive_mode": "on", "archive_command": "cp %p /elsewhere/%f"}),
        ("following left on", {"primary_conninfo": "host=elsewhere"}),
        ("waiting left on", {"synchronous_standby_names": "elsewhere"}),
    ):
        yield Control(
            name=name,
            breaks=", ".join(planted) or "nothing",
            expects=("ARCHIVE-LIVE",) if planted else (),
            look=functools.partial(_settings, values, planted),
        )
    jobs = functools.cache(functools.partial(_finished_jobs, bench))
    done = functools.partial(dataclasses.replace, state="finished")
    waiting = functools.partial(dataclasses.replace, state="pending")
    for name, breaks, code, before, after in (
        ("healthy twin of the jobs", "nothing", None, _as_is, _as_is),
        ("job run again", "another end of a finished job", "JOB-RAN-AGAIN", done, _marked),
        ("job unfinished", "a job that stays in flight", "JOB-UNFINISHED", waiting, waiting),
    ):
        look = functools.partial(_jobs, jobs, before, after)
        yield Control(name=name, breaks=breaks, expects=(code,) if code else (), look=look)
    yield Control(
        name="job's effect doubled",
        breaks="every effect counted twice",
        expects=("JOB-DOUBLED",),
        look=lambda: _effects(bench),
    )


def _add(path: Path) -> None:
    path.with_name("00000002" + path.name[8:]).write_bytes(b"restored")


def _write_again(path: Path) -> None:
    content = path.read_bytes()
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)


def _archive(bench: Bench, mutate: Callable[[Path], object]) -> Seen:
    directory = bench.directory / "control-quiet"
    directory.mkdir()
    try:
        segment = directory / SEGMENT
        segment.write_bytes(b"archived")
        before = list_archive(directory)
        mutate(segment)
        return Seen(victim=segment.name, findings=compare_archives(before, list_archive(directory)))
    finally:
        shutil.rmtree(directory)


def _quiet_values(bench: Bench) -> dict[str, str]:
    """The restored server's settings, those that reach out set back."""
    with bench.deployment.database.connect() as connection:
        return read_settings(connection) | QUIET


def _settings(values: Callable[[], dict[str, str]], planted: Mapping[str, str]) -> Seen:
    findings = judge_settings({**values(), **planted})
    return Seen(victim=", ".join(planted) or "settings that reach for nobody", findings=findings)


def _as_is(job: JobState) -> JobState:
    return job


def _marked(job: JobState) -> JobState:
    return dataclasses.replace(job, state="finished", marker=job.marker + " again")


def _finished_jobs(bench: Bench) -> dict[str, JobState]:
    query = f"SELECT * FROM ({jobs_query(bench.deployment)}\n) AS r LIMIT {SAMPLE}"
    with bench.deployment.database.connect() as connection:
        found = read_jobs(connection, query)
    return {identity: dataclasses.replace(job, state="finished") for identity, job in found.items()}


def _jobs(
    read: Callable[[], dict[str, JobState]],
    before: Callable[[JobState], JobState],
    after: Callable[[JobState], JobState],
) -> Seen:
    jobs = read()
    if not jobs:
        return Seen()
    victim = min(jobs)
    findings = compare_jobs({**jobs, victim: before(jobs[victim])}, {**jobs, victim: after(jobs[victim])})
    return Seen(victim=f"job {victim}", findings=findings)


def _effects(bench: Bench) -> Seen:
    text = job_effects_query(bench.deployment)
    query = f"SELECT id, 2 * count FROM ({text}\n) AS r (id, count) LIMIT {SAMPLE}"
    with bench.deployment.database.connect() as connection:
        effects = read_job_effects(connection, query)
    return Seen(victim=min(effects, default=""), findings=compare_jobs({}, {}, effects))

"""The model cache of Web, Job and LLM: it must bring a faster start, outlive a restart, and be nobody's data."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from checks.checked import Check
from checks.conformance.registry import conformance, fault
from checks.conformance.subject import Subject
from checks.durable_cache import (
    REPOSITORIES,
    Identity,
    cache_in_set,
    decided,
    holds_model,
    judge_durable,
    judge_holdings,
    judge_starts,
    read_cache,
)
from checks.looking_inside import Looked, names_of
from checks.sets_under_check import broken, means_of, say_what_stayed_closed, sets_of
from fixtures.backup_set import listed_digests, sha256_of
from fixtures.deployment import Service
from fixtures.health import ask
from fixtures.model_hub import ModelHub, make_model
from fixtures.network import LOOPBACK, free_ports
from fixtures.refapp import faults
from fixtures.refapp.model import MODEL_ID
from reports.records import NANOSECONDS, Finding, HarnessError, monotonic_ns, wait_until

GUIDE: Final = "line 28: Mount this path to durable storage to accelerate restarts"
GUIDE_REPOPULATED: Final = "line 28: it can be repopulated from the Hugging Face Hub or pre-loaded as a one-off action"
GUIDE_BACKUP: Final = "line 28: The model cache does not need to be backed up"
SUPPORTS: Final = ("NIST 800-53r5 CP-10", "SOC 2 A1.2")
SUPPORTS_BACKUP: Final = ("NIST 800-53r5 CP-9", "CIS 11.1")
LARGE: Final = "enprivacy/pii-detector-timed"
SMALL_MODEL: Final = 1 << 20


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("CACHE-NO-FASTER",), owned=True)
def a_start_with_the_cache_is_faster(subject: Subject, check: Check) -> None:
    """A service that finds its model in the cache is ready sooner than one that has to fetch it."""
    settings = subject.profile.cache
    if not (caches := _caches(subject, check, [settings.timed])):
        return
    (service,) = caches
    cold: list[int] = []
    warm: list[int] = []
    with _emptied(subject, caches), _hub(subject, model_bytes=settings.model_bytes) as (environment, _):
        for _ in range(2 * settings.starts + 1):
            # By turns, so that whatever else the machine does meets both.
            shutil.rmtree(_cache(service), ignore_errors=True)
            cold.append(_start(subject, service, environment))
            warm.append(_start(subject, service, environment))
            if len(cold) >= settings.starts and decided(cold, warm, least_gain=settings.least_gain):
                break
    findings, check.looked_at = judge_starts(service.name, cold, warm, least_gain=settings.least_gain)
    check.findings += findings
    _await_order(subject, check, caches)


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("CACHE-NOT-DURABLE", "CACHE-NOT-REPOPULATED"), owned=True)
def the_cache_outlives_a_restart(subject: Subject, check: Check) -> None:
    """What a service's first start has fetched into the cache is there, unchanged and used, after a restart."""
    if not (caches := _caches(subject, check, subject.profile.cache.services)):
        return
    with _emptied(subject, caches), _hub(subject) as (environment, hub):
        _restart(subject, caches, environment)
        missing = _await_models(subject, caches, hub=hub)
        first, asked = _read(subject, caches), len(hub.asked()) if hub else 0
        _restart(subject, caches, environment)
        _await_ready(subject, caches)
        second = _read(subject, caches)
        since = hub.asked()[asked:] if hub else []
    # Which service a download was for cannot be told from the request: it stands against all of them.
    downloads = sum(each.download for each in since)
    check.looked_at = {
        "services": len(caches),
        "cached files": sum(map(len, first.values())),
        "requests to the hub by a restart": len(since),
        "downloads by a restart": downloads,
    }
    for service in caches:
        if service.name in missing and not downloads:
            check.findings.append(_not_repopulated(service, "from the hub", subject))
        else:
            check.findings += judge_durable(
                service.name, first=first[service.name], second=second[service.name], downloads=downloads
            )
    _await_order(subject, check, caches)


@conformance(guide=GUIDE_REPOPULATED, supports=SUPPORTS, finds=("CACHE-NOT-REPOPULATED", "CACHE-HELD-DATA"), owned=True)
def a_wiped_cache_fills_again(subject: Subject, check: Check) -> None:
    """Wiping the cache loses no data; it is filled again from the hub, or from a directory that was pre-loaded."""
    if not (caches := _caches(subject, check, subject.profile.cache.services)):
        return
    before = _holdings(subject)
    with _emptied(subject, caches) as aside, _hub(subject) as (environment, _):
        preloaded = [each for each in caches if (aside[each.name] / REPOSITORIES).is_dir()]
        _restart(subject, caches, environment)
        missing = _await_models(subject, caches, hub=None)
    # What lay aside is in the cache's place now, as an operator pre-loads it, and the services were started off-line.
    check.findings += [_not_repopulated(each, "from the hub", subject) for each in caches if each.name in missing]
    if not missing and (shut := _not_ready(subject, preloaded)):
        check.findings.append(_not_repopulated(shut, "from a pre-loaded directory", subject))
    check.findings += judge_holdings(before, _holdings(subject))
    check.looked_at = {
        "services": len(caches),
        "pre-loaded": len(preloaded),
        **{kind: len(names) for kind, names in before.items()},
    }
    if not preloaded:
        check.not_tested.append({"what": "a pre-loaded cache", "reason": "no service came with one"})
    _await_order(subject, check, caches)


@conformance(guide=GUIDE_BACKUP, supports=SUPPORTS_BACKUP, finds=("CACHE-IN-BACKUP",))
def no_backup_holds_the_cache(subject: Subject, check: Check) -> None:
    """No backup set holds files of the model cache."""
    cached = {
        sha256_of(path): f"{service.name}'s {path.relative_to(service.cache)}"
        for service in subject.deployment.services
        if service.cache is not None
        for path in service.cache.glob(f"{REPOSITORIES}/models--*/blobs/*")
        if path.is_file()
    }
    if not (sets := sets_of(subject, check)):
        return
    looked = Looked()
    for backup in sets:
        check.findings += cache_in_set(names_of(backup, means_of(subject), looked), listed_digests(backup), cached)
    check.looked_at = {"backup sets": len(sets), "names": looked.files, "cached files": len(cached)}
    say_what_stayed_closed(check, looked)


@contextlib.contextmanager
def _hub(subject: Subject, *, model_bytes: int = 0) -> Iterator[tuple[dict[str, str], ModelHub | None]]:
    """The environment that leads to the profile's hub, or to one of the suite's own for as long as the block runs.

    The hub itself, which knows what it was asked, goes with it where it is the suite's own.
    """
    told = {"HF_HUB_OFFLINE": "0"}
    if (endpoint := subject.profile.cache.endpoint) is not None:
        yield {**told, "HF_ENDPOINT": endpoint}, None
        return
    model, directory = LARGE if model_bytes else _model_id(subject), subject.directory / "model-hub"
    try:
        with ModelHub() as hub:
            hub.publish(model, make_model(directory, weights_bytes=model_bytes))
            yield {**told, "HF_ENDPOINT": hub.endpoint, "MODEL_ID": model}, hub
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _model_id(subject: Subject) -> str:
    return subject.deployment.configuration().get("MODEL_ID") or MODEL_ID


def _caches(subject: Subject, check: Check, names: Sequence[str]) -> list[Service]:
    """The services of these names whose cache can be seen; says why where there is nothing to be done."""
    found = [each for each in subject.deployment.services if each.name in names and each.cache is not None]
    check.not_tested += [
        {"what": f"the model cache of {name}", "reason": "its directory cannot be seen from here"}
        for name in names
        if name not in {each.name for each in found}
    ]
    return found


def _cache(service: Service) -> Path:
    assert service.cache is not None
    return service.cache


@contextlib.contextmanager
def _emptied(subject: Subject, services: Sequence[Service]) -> Iterator[dict[str, Path]]:
    """The caches set aside, and put back as they were, with the services started on them, off the network.

    Yields where each lies meanwhile. See ``_await_order``.
    """
    aside = {service.name: _cache(service).with_name(".cache-set-aside") for service in services}
    for service in services:
        _cache(service).rename(aside[service.name])
        _cache(service).mkdir(mode=0o700)
    try:
        yield aside
    finally:
        for service in services:
            shutil.rmtree(_cache(service), ignore_errors=True)
            aside[service.name].rename(_cache(service))
        _restart(subject, services, {"HF_HUB_OFFLINE": "1"})


def _await_order(subject: Subject, check: Check, services: Sequence[Service]) -> None:
    """The services ready again; where something was found, what broke them is still there, and they may never be."""
    if not check.findings:
        _await_ready(subject, services)


def _restart(subject: Subject, services: Sequence[Service], environment: Mapping[str, str]) -> None:
    subject.own.restart_services([each.name for each in services], environment, wait=False)


def _start(subject: Subject, service: Service, environment: Mapping[str, str]) -> int:
    """Nanoseconds from a service's start to its readiness."""
    began = monotonic_ns()
    _restart(subject, [service], environment)
    _await_ready(subject, [service])
    return monotonic_ns() - began


def _not_ready(subject: Subject, services: Sequence[Service]) -> Service | None:
    """The first that does not say within the limit that it is ready."""
    for service in services:
        try:
            _await_ready(subject, [service])
        except HarnessError:
            return service
    return None


def _await_ready(subject: Subject, services: Sequence[Service]) -> None:
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        for service in services:
            wait_until(
                lambda service=service: ask(client, service, "ready") == 200,  # type: ignore[misc]
                seconds=subject.profile.cache.limit_ns / NANOSECONDS, interval=0.005,
                what=f"readiness of {service.name} after a restart",
            )  # fmt: skip


def _await_models(subject: Subject, services: Sequence[Service], *, hub: ModelHub | None) -> list[str]:
    """Wait until each service's cache holds its model; the names of those whose does not within the limit.

    With ``hub``, nobody is waited for much longer once it has handed out as many models: they were put elsewhere.
    """
    left, model = list(services), _model_id(subject)

    def there() -> bool:
        left[:] = [each for each in left if not holds_model(read_cache(_cache(each), model))]
        return not left

    def handed_out() -> bool:
        return hub is not None and sum(each.download for each in hub.asked()) >= len(services)

    with contextlib.suppress(HarnessError):
        seconds = subject.profile.cache.limit_ns / NANOSECONDS
        wait_until(lambda: there() or handed_out(), seconds=seconds, interval=0.02, what="the models in the caches")
        # What was handed out last may be on its way to the disk.
        wait_until(there, seconds=0.5, interval=0.02, what="the last model")
    return [each.name for each in left]


def _read(subject: Subject, services: Sequence[Service]) -> dict[str, dict[str, Identity]]:
    return {each.name: read_cache(_cache(each), _model_id(subject)) for each in services}


def _not_repopulated(service: Service, source: str, subject: Subject) -> Finding:
    seconds = subject.profile.cache.limit_ns / NANOSECONDS
    return Finding(
        code="CACHE-NOT-REPOPULATED", seen=f"emptied and not filled {source} within {seconds:g} s", where=service.name
    )


def _holdings(subject: Subject) -> dict[str, set[str]]:
    """What the deployment holds: the keys of its objects, and the rows that refer to them."""
    store = subject.deployment.objects
    objects = {str(each.object_name) for each in store.client().list_objects(store.bucket, recursive=True)}
    with subject.deployment.database.connect() as connection:
        rows = {str(row) for row in connection.execute(subject.own.references_query.encode())}
    return {"objects": objects, "references": rows}


def _alone(subject: Subject, **changes: Any) -> Subject:
    """A subject of which only one service's cache is looked at: what is broken there is broken everywhere."""
    cache = subject.profile.cache
    changed = dataclasses.replace(cache, **{"services": (cache.timed,), "starts": 1, **changes})
    return dataclasses.replace(subject, profile=dataclasses.replace(subject.profile, cache=changed))


@contextlib.contextmanager
def _thrown(subject: Subject, name: str) -> Iterator[Subject]:
    """A fault switch in the configuration, so that every start that a check makes comes under it."""
    values, service = subject.deployment.configuration(), subject.profile.cache.timed
    subject.own.write_configuration({**values, faults.VARIABLE: name})
    try:
        yield _alone(subject)
    finally:
        subject.own.write_configuration(values)
        subject.own.restart_services([service], {})
        for each in subject.deployment.services:
            if each.cache is not None:
                shutil.rmtree(each.cache.with_name(".throw-away"), ignore_errors=True)


@fault(a_start_with_the_cache_is_faster, expects=("CACHE-NO-FASTER",), breaks=faults.KNOWN["slow-cache"])
def cache_slower_than_the_hub(subject: Subject) -> Iterator[Subject]:
    with _thrown(subject, "slow-cache") as other:
        # So small a model costs next to nothing to fetch: the fault alone tells the starts apart.
        yield _alone(other, model_bytes=SMALL_MODEL)


@fault(the_cache_outlives_a_restart, expects=("CACHE-NOT-DURABLE",), breaks=faults.KNOWN["throw-away-cache"])
def throw_away_cache(subject: Subject) -> Iterator[Subject]:
    with _thrown(subject, "throw-away-cache") as other:
        yield other


@fault(the_cache_outlives_a_restart, expects=("CACHE-NOT-DURABLE",), breaks=faults.KNOWN["cache-unused"])
def cache_unused(subject: Subject) -> Iterator[Subject]:
    with _thrown(subject, "cache-unused") as other:
        yield other


@fault(a_wiped_cache_fills_again, expects=("CACHE-NOT-REPOPULATED",), breaks="a hub that nobody can reach")
def hub_cut_off(subject: Subject) -> Iterator[Subject]:
    (dead,) = free_ports(1)
    other = _alone(subject, endpoint=f"http://{LOOPBACK}:{dead}", limit_ns=2 * NANOSECONDS)
    try:
        yield other
    finally:
        _await_ready(subject, _caches(subject, Check(), other.profile.cache.services))


class _Losing:
    """A deployment whose services, once restarted, miss what they had kept in their cache: an object."""

    def __init__(self, deployment: Any, lose: Any) -> None:
        self._deployment, self._lose = deployment, lose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deployment, name)

    def restart_services(self, *arguments: Any, **options: Any) -> None:
        self._lose()
        self._deployment.restart_services(*arguments, **options)


@fault(a_wiped_cache_fills_again, expects=("CACHE-HELD-DATA",), breaks="an object that is gone with the cache")
def data_in_the_cache(subject: Subject) -> Iterator[Subject]:
    store = subject.deployment.objects
    client = store.client()
    kept = min(client.list_objects(store.bucket, recursive=True), key=lambda each: each.size or 0)
    place = subject.directory / "kept-object"
    client.fget_object(store.bucket, str(kept.object_name), str(place))
    losing: Any = _Losing(subject.deployment, lambda: client.remove_object(store.bucket, str(kept.object_name)))
    try:
        yield dataclasses.replace(_alone(subject), deployment=losing, owner=losing)
    finally:
        _await_ready(subject, _caches(subject, Check(), [subject.profile.cache.timed]))
        client.fput_object(store.bucket, str(kept.object_name), str(place))
        place.unlink()


@fault(no_backup_holds_the_cache, expects=("CACHE-IN-BACKUP",), breaks="a model cache among the objects of a backup")
def cache_in_a_backup(subject: Subject) -> Iterator[Subject]:
    with broken(subject) as (other, backup):
        source = next(each.cache for each in subject.deployment.services if each.cache and each.name == "llm")
        shutil.copytree(source, backup.place("objects") / "home" / ".cache", symlinks=True)
        yield other

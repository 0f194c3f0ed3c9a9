"""The negative controls of a shadow drill: those that break what was restored, whatever it was restored from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from checks.contents import TableDigest
from checks.database import Fingerprint
from checks.egress import check_egress, try_ways_out
from checks.heartbeat import Beat, Beats, beats_of, judge_beats
from checks.snapshot import HeldSnapshot
from drills.conforming import Trail
from drills.contract import Target
from drills.controls import objects
from drills.controls.bench import Bench, Control, Seen
from drills.controls.prove import prove
from drills.keys import KeyPair
from drills.load import Load
from drills.made import Instant, Made
from drills.outcome import Outcome
from drills.own_writes import OwnWrites
from drills.registry import all_disasters, configuration_methods, database_methods, object_methods
from drills.scenario import Scenario
from drills.shadow_site import ShadowSite
from drills.shadow_traces import traces_of
from drills.shadow_verification import FAR_FEWER, emptied, reckoned, silent
from drills.site import Site
from fixtures.backup_set import BackupSet
from fixtures.deployment import Database, Deployment, ObjectStore
from fixtures.processes import Processes
from reports.records import NANOSECONDS, utc_now

# The methods and the disaster that a restore of everything into empty stores is like.
LIKE: Final = ("pg_dump", "rclone", "age", "total_loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored:
    """The sandbox as far as controls use a deployment."""

    database: Database
    objects: ObjectStore
    processes: Processes
    stand_in: bool
    references_query: str
    tenant_pattern: str

    def own(self, path: Path) -> None:
        """Controls make no file that a server must own."""


def prove_in_sandbox(
    site: ShadowSite, expected: Fingerprint, restored: HeldSnapshot, bucket: Path, beats: Beats | None
) -> None:
    """Break copies of the restored database and of restored objects, and see each one caught.

    Args:
        expected: what was restored, which a copy of it must equal; ``restored`` held it.
        bucket: the inventory of the restored bucket.
        beats: the heartbeat that came back.
    """
    place = site.directory / "controls"
    place.mkdir()
    stored, empty = place / "fingerprint.json", place / "nothing.jsonl"
    stored.write_text(expected.to_json(), "utf-8")
    empty.touch()
    instant = Instant(
        stored=stored,
        sequences_until={},
        target=Target(name="", time=restored.database_time, lsn=restored.wal_lsn),
        mark="",
        at_ns=0,
    )
    deployment = cast(
        Deployment,
        Restored(
            database=site.sandbox.database,
            objects=site.sandbox.objects,
            processes=site.processes,
            # What a drill under load adds is not there to be broken, such as a table without a key.
            stand_in=False,
            references_query=site.references_query,
            tenant_pattern=site.tenant_pattern,
        ),
    )
    prefix = f"enprivacy-drill/{site.record.run_id}/"
    bench = Bench(
        site=_site(site, deployment, place),
        outcome=Outcome(
            made=Made(
                backup=BackupSet(directory=place, apart=place),
                instant=instant,
                objects=bucket,
                allowed=frozenset(),
                orphans=0,
                # All of it: nothing is known to have come with a second copy.
                first_pass=bucket,
                began_ns=0,
                configuration={},
                system_identifier="",
                manifest_sha256="",
            ),
            instant=instant,
            last_read=None,
            spared=None,
            restored=restored,
            own=OwnWrites(prefix=prefix),
            key=site.key,
            trail=Trail(),
        ),
        bucket=bucket,
        struck_ns=0,
        observed=empty,
        account=lambda lines: [],
    )
    families = (
        objects.controls,
        lambda _: of_the_heartbeat(site, beats),
        lambda _: of_the_way_out(site),
        lambda _: of_volume(site, expected),
        lambda _: of_the_transaction(site),
    )
    prove(bench, every=True, families=families)


def _site(site: ShadowSite, deployment: Deployment, place: Path) -> Site:
    database, bucket, configuration, disaster = LIKE
    path = site.record.drill_directory(site.id) / "ledger.jsonl"
    return Site(
        scenario=Scenario(
            architecture=site.deployment.architecture,
            database=database_methods()[database],
            objects=object_methods()[bucket],
            configuration=configuration_methods()[configuration],
            disaster=all_disasters()[disaster],
            name=site.id,
        ),
        deployment=deployment,
        profile=site.profile,
        record=site.record,
        keys=KeyPair(recipient="", identity="", passphrase=""),
        directory=place,
        sets=place,
        load=Load(
            deployment=deployment, journal=site.journal, drill=site.id, path=path,
            relative=Path(site.record.relative(path)), tag=site.record.run_id,
        ),
        number=0,
        tag=site.record.run_id,
    )  # fmt: skip


def of_the_heartbeat(site: ShadowSite, beats: Beats | None) -> Iterator[Control]:
    """What must be seen of a heartbeat that came back with less, or otherwise."""
    judge = functools.partial(_judged, site, beats)
    yield Control(
        name="beat lost", breaks="one beat taken from among those that came back", expects=("HEARTBEAT-HOLE",),
        always=False, look=functools.partial(judge, alter=False),
    )  # fmt: skip
    yield Control(
        name="heartbeat lost", breaks="no beat restored", expects=("HEARTBEAT-ABSENT",), always=False,
        look=lambda: _without_beats(site, beats),
    )  # fmt: skip
    yield Control(
        name="beat altered", breaks="another token in one beat", expects=("HEARTBEAT-ALTERED",), always=False,
        look=functools.partial(judge, alter=True),
    )  # fmt: skip


def _without_beats(site: ShadowSite, beats: Beats | None) -> Seen:
    if beats is None or not beats.count:
        return Seen()
    findings, _ = judge_beats(None, beats, site.profile.heartbeat.interval_ns)
    return Seen(victim=f"{beats.count} beats", findings=findings)


def of_volume(site: ShadowSite, restored: Fingerprint) -> Iterator[Control]:
    """A table without its rows, which a comparison of structures does not see."""

    def look() -> Seen:
        there = reckoned(site)
        victim = max(there, key=lambda name: there[name], default="")
        nothing = TableDigest(rows=0, digest="")
        broken = dataclasses.replace(restored, tables={victim: nothing})
        return Seen(victim=victim, findings=emptied(there, broken) if victim else ())

    def halved() -> Seen:
        there = {name: rows for name, rows in reckoned(site).items() if rows > 3 * FAR_FEWER}
        victim = max(there, key=lambda name: there[name], default="")
        third = TableDigest(rows=there[victim] // 3, digest="") if victim else None
        if third is None:
            return Seen()
        broken = dataclasses.replace(restored, tables={victim: third})
        return Seen(victim=victim, findings=emptied(there, broken))

    yield Control(
        name="table came back a third", breaks="two rows of three left out", expects=("VOLUME-DRIFT",), always=False,
        look=halved,
    )  # fmt: skip
    yield Control(
        name="table came back empty", breaks="every row of a table left out", expects=("TABLE-EMPTY",), always=False,
        look=look,
    )  # fmt: skip


def of_the_way_out(site: ShadowSite) -> Iterator[Control]:
    """The probe that must not come out of the sandbox, run outside of it."""

    def outside() -> Seen:
        if not site.sandbox.prefix:
            return Seen()
        ways = try_ways_out(site.processes, (), directory=site.directory)
        return Seen(victim=f"{len(ways.tried)} ways", findings=check_egress(ways))

    yield Control(
        name="way out open", breaks="the probe run where nothing is closed", expects=("EGRESS-OPEN",), always=False,
        look=outside,
    )  # fmt: skip


def of_the_transaction(site: ShadowSite) -> Iterator[Control]:
    """A transaction that does nothing here, while nobody else does anything either."""
    yield Control(
        name="transaction elsewhere", breaks="a transaction that writes into neither store",
        expects=("TRANSACTION-ELSEWHERE",),
        look=lambda: Seen(victim="nothing done", findings=traces_of(site, lambda: None, seconds=0)),
    )  # fmt: skip
    yield Control(
        name="heartbeat stopped", breaks="the clock set on, past several beats", expects=("HEARTBEAT-SILENT",),
        look=lambda: _stopped(site),
    )  # fmt: skip


def _stopped(site: ShadowSite) -> Seen:
    now, interval_ns = utc_now(), site.profile.heartbeat.interval_ns
    beats = beats_of([Beat(at_ns=int(now.timestamp()) * NANOSECONDS - 5 * interval_ns)])
    return Seen(victim="five intervals without a beat", findings=silent(beats, now, interval_ns))


def _judged(site: ShadowSite, beats: Beats | None, *, alter: bool) -> Seen:
    if beats is None or beats.count < 3:  # one between a first and a last
        return Seen()
    victim = list(beats.by_instant.values())[-2]  # beats long past are not judged
    broken = dict(beats.by_instant)
    if alter:
        broken[victim.at_ns] = dataclasses.replace(victim, token=victim.token + "?")
    else:
        del broken[victim.at_ns]
    findings, _ = judge_beats(Beats(by_instant=broken), beats, site.profile.heartbeat.interval_ns)
    return Seen(victim=victim.text, findings=findings)

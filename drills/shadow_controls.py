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
from checks.heartbeat import Beats, judge_beats
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
from drills.shadow_verification import emptied, reckoned
from drills.site import Site
from fixtures.backup_set import BackupSet
from fixtures.deployment import Database, Deployment, ObjectStore
from fixtures.processes import Processes

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


def _judged(site: ShadowSite, beats: Beats | None, *, alter: bool) -> Seen:
    if beats is None or beats.count < 3:  # one between a first and a last
        return Seen()
    victim = list(beats.by_instant.values())[beats.count // 2]
    broken = dict(beats.by_instant)
    if alter:
        broken[victim.at_ns] = dataclasses.replace(victim, token=victim.token + "?")
    else:
        del broken[victim.at_ns]
    findings, _ = judge_beats(Beats(by_instant=broken), beats, site.profile.heartbeat.interval_ns)
    return Seen(victim=victim.text, findings=findings)

"""What is verified after a failover: every copy holds what the leader holds, and rows and objects hold together."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import re
import secrets
from collections.abc import Sequence
from typing import Final

from checks.checked import checked
from checks.database import Fingerprint, fingerprint
from checks.objects import take_inventory
from checks.references import check_references
from checks.snapshot import reading
from drills.across_stores import ORPHANED
from drills.failover.controls import Verified
from drills.failover.site import FailoverSite
from drills.failover.standbys import differences
from drills.ledger import PREFIX
from drills.own_writes import PER_UPLOAD
from drills.schema_queries import references_query
from fixtures import health
from fixtures.cluster import ClusterNode, Member, Part, fully_redundant
from reports.records import NANOSECONDS, Finding, HarnessError, wait_until

CAUGHT_UP_SECONDS: Final = 20.0


def verify(site: FailoverSite, findings: Sequence[Finding], *, probes_failed: int) -> Verified:
    """Each part is a check of its own in the journal.

    Args:
        findings: what the drill saw by the way.
        probes_failed: business transactions of the prober of which nobody knows how far they came.
    """
    _verify_services(site, findings)
    leaders = _verify_standbys(site)
    _verify_references(site, probes_failed)
    _verify_copies(site)
    return Verified(fingerprint=leaders, members=_members(site))


def _members(site: FailoverSite) -> list[Member]:
    """The members as they are, whole if they can be: agents that have just found their store again agree anew."""
    settings, seen = site.outage.variant.settings, list[Member]()

    def whole() -> bool:
        seen[:] = site.deployment.cluster.members()
        return fully_redundant(seen, settings)

    with contextlib.suppress(HarnessError):
        wait_until(whole, seconds=CAUGHT_UP_SECONDS, interval=0.1, what="every member to stream from the leader")
    return seen


def _verify_services(site: FailoverSite, findings: Sequence[Finding]) -> None:
    with checked(site.journal, site.id, "services") as check:
        services = site.deployment.services
        check.looked_at = {"services": len(services)}
        check.findings = [*findings]
        seconds = site.profile.start_limit_ns / NANOSECONDS
        health.await_health(services, lambda status: status == 200, seconds=seconds, changed=lambda *_: None)


def _verify_standbys(site: FailoverSite) -> Fingerprint | None:
    """No client writes any more: at one position of the log every node must hold the same."""
    cluster, jobs, key = site.deployment.cluster, site.profile.jobs, secrets.token_bytes(32)
    with checked(site.journal, site.id, "standbys") as check:
        leader, standbys = _leader_and_standbys(site)
        _await_caught_up(leader, standbys)
        expected = fingerprint(leader.database.connect, held=None, jobs=jobs, key=key)
        with concurrent.futures.ThreadPoolExecutor(len(standbys)) as pool:
            read = functools.partial(fingerprint, held=None, jobs=jobs, key=key)
            fingerprints = pool.map(read, [node.database.connect for node in standbys])
        for node, observed in zip(standbys, fingerprints, strict=True):
            check.findings += differences(expected, observed, node.name)
        check.looked_at = {
            "nodes": len(cluster.nodes),
            "tables": len(expected.tables),
            "rows": sum(table.rows for table in expected.tables.values()),
        }
        return expected
    return None


def _leader_and_standbys(site: FailoverSite) -> tuple[ClusterNode, list[ClusterNode]]:
    nodes = {node.name: node for node in site.deployment.cluster.nodes}
    members = site.deployment.cluster.members()
    leaders = [nodes[each.node] for each in members if each.role == "leader"]
    standbys = [nodes[each.node] for each in members if each.role == "standby"]
    if len(leaders) != 1 or len(standbys) != len(nodes) - 1:
        raise HarnessError("the nodes of the cluster", seen=str(members), remedy="see the agents' logs")
    return leaders[0], standbys


def _await_caught_up(leader: ClusterNode, standbys: Sequence[ClusterNode]) -> None:
    with leader.database.connect() as connection:
        # Nothing else is written: what comes after this is no row of anyone's.
        (position,) = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone() or ("",)
    for node in standbys:
        with node.database.connect() as connection:
            wait_until(
                lambda connection=connection: connection.execute(  # type: ignore[misc]  # bound at once
                    "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,)
                ).fetchone() == (True,),
                seconds=CAUGHT_UP_SECONDS, interval=0.02, what=f"{node.name} to have replayed {position}",
            )  # fmt: skip


def _verify_references(site: FailoverSite, probes_failed: int) -> None:
    told = bool(site.deployment.references_query)
    with checked(site.journal, site.id, "references", optional=not told) as check:
        store, bucket = site.deployment.objects, site.directory / f"{site.tag}-objects.jsonl"
        take_inventory(store.client(connections=8), store.bucket, bucket, describe=frozenset(), workers=8)
        references_query(site.deployment)
        pattern = site.deployment.tenant_pattern
        with reading(site.deployment.database.connect, snapshot=None) as connection:
            findings, check.looked_at = check_references(
                connection, site.deployment.references_query, bucket, ignored_prefixes=(f"{PREFIX}/",),
                tenant_of_key=re.compile(pattern) if pattern else None,
            )  # fmt: skip
        # An upload whose answer nobody got may have left an object without a row.
        unanswered = site.load.own_writes(since=0).unanswered + probes_failed
        allowed = site.before.orphaned + PER_UPLOAD * unanswered
        beyond = check.looked_at["orphaned"] - allowed
        site.before.orphaned = check.looked_at["orphaned"]
        check.findings = [finding for finding in findings if finding.code != ORPHANED or beyond > 0]


def _verify_copies(site: FailoverSite) -> None:
    redundant = Part.OBJECTS in site.deployment.redundant
    with checked(site.journal, site.id, "second copy of the objects", optional=not redundant) as check:
        if not redundant:
            check.not_tested.append({"what": "a second copy of the objects", "reason": "the deployment has none"})
            return
        differs = site.deployment.copies_differ()
        check.looked_at = {"copies": 2}
        check.findings = [Finding(code="COPY-DIFFERS", seen=differs, where="second object server")] if differs else []

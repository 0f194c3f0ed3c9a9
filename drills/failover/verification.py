"""What is verified after a failover: every copy holds what the leader holds, and rows and objects hold together."""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from checks.checked import checked
from checks.database import compare, fingerprint
from checks.objects import take_inventory
from checks.references import check_references
from checks.snapshot import SequencePosition, reading
from drills.across_stores import ORPHANED
from drills.failover.site import FailoverSite
from drills.ledger import PREFIX
from drills.own_writes import PER_UPLOAD
from drills.schema_queries import references_query
from fixtures import health
from fixtures.cluster import ClusterNode, Part
from reports.records import NANOSECONDS, Finding, HarnessError, wait_until

CAUGHT_UP_SECONDS: Final = 20.0
# SEQ_LOG_VALS of PostgreSQL's sequence.c, and the value itself.
LOGGED_AHEAD: Final = 33


def verify(site: FailoverSite, findings: Sequence[Finding]) -> None:
    """Each part is a check of its own in the journal.

    Args:
        findings: what the drill saw by the way.
    """
    _verify_services(site, findings)
    _verify_standbys(site)
    _verify_references(site)
    _verify_copies(site)


def _verify_services(site: FailoverSite, findings: Sequence[Finding]) -> None:
    with checked(site.journal, site.id, "services") as check:
        services = site.deployment.services
        check.looked_at = {"services": len(services)}
        check.findings = [*findings]
        seconds = site.profile.start_limit_ns / NANOSECONDS
        health.await_health(services, lambda status: status == 200, seconds=seconds, changed=lambda *_: None)


def _verify_standbys(site: FailoverSite) -> None:
    """No client writes any more: at one position of the log every node must hold the same."""
    cluster, jobs, key = site.deployment.cluster, site.profile.jobs, secrets.token_bytes(32)
    with checked(site.journal, site.id, "standbys") as check:
        leader, standbys = _leader_and_standbys(site)
        _await_caught_up(leader, standbys)
        expected = fingerprint(leader.database.connect, held=None, jobs=jobs, key=key)
        for node in standbys:
            observed = fingerprint(node.database.connect, held=None, jobs=jobs, key=key)
            observed = dataclasses.replace(observed, sequences=_within_logged(expected.sequences, observed.sequences))
            check.findings += [
                Finding(
                    code="STANDBY-DIFFERS", seen=f"{each.code} {each.seen}", where=f"{node.name}, {each.where}",
                    count=each.count,
                )
                for each in compare(expected, observed)
                if each.kind.severity == "failure"
            ]  # fmt: skip
        check.looked_at = {
            "nodes": len(cluster.nodes),
            "tables": len(expected.tables),
            "rows": sum(table.rows for table in expected.tables.values()),
        }


def _within_logged(
    expected: Mapping[str, SequencePosition], observed: Mapping[str, SequencePosition]
) -> dict[str, SequencePosition]:
    """The positions, those taken for equal that differ by no more than the log runs ahead of what was handed out.

    A server logs a sequence once for so many values, and who replays that stands at their end (manual, "CREATE
    SEQUENCE", Notes); one that led before keeps its own position until the next value is logged. No value comes twice.
    """
    return {
        name: there
        if (there := expected.get(name)) is not None
        and there.increment == here.increment
        and abs(here.next - there.next) <= LOGGED_AHEAD * abs(here.increment)
        else here
        for name, here in observed.items()
    }


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


def _verify_references(site: FailoverSite) -> None:
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
        # An upload whose answer nobody got may have left an object without a row, in this drill or in one before it.
        site.before.unanswered += site.load.own_writes(since=0).unanswered
        beyond = check.looked_at["orphaned"] - PER_UPLOAD * site.before.unanswered
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

"""What only the application's schema tells, as the deployment gives it. What nobody gave makes a check not tested."""

from __future__ import annotations

import re

from fixtures.deployment import Deployment, NotGiven


def references_query(deployment: Deployment) -> str:
    """Every reference from the database to an object.

    Raises:
        NotGiven: nobody told.
    """
    return _given(deployment.references_query, "references from the database to the objects", "queries.references")


def jobs_query(deployment: Deployment) -> str:
    """Every job of the application's queue.

    Raises:
        NotGiven: nobody told.
    """
    return _given(deployment.jobs_query, "jobs that run again, or stay unfinished", "queries.jobs")


def job_effects_query(deployment: Deployment) -> str:
    """How often the effect of each finished job is there.

    Raises:
        NotGiven: nobody told.
    """
    return _given(deployment.job_effects_query, "jobs that take effect twice", "queries.job_effects")


def audit_events_query(deployment: Deployment) -> str:
    """Every audit event that the database holds.

    Raises:
        NotGiven: nobody told.
    """
    return _given(deployment.audit_events_query, "the audit trail across the restore", "queries.audit_events")


def tenant_pattern(deployment: Deployment) -> re.Pattern[str]:
    """Finds the tenant in an object's key, as its group ``tenant``.

    Raises:
        NotGiven: nobody told.
    """
    return re.compile(_given(deployment.tenant_pattern, "references across tenants", "queries.tenant_pattern"))


def _given(text: str, what: str, key: str) -> str:
    if not text.strip():
        raise NotGiven(what, remedy=f"name it in the profile, as {key}")
    return text.strip().rstrip(";")


def remark(absent: NotGiven) -> dict[str, str]:
    """The remark that something is not tested, for a check that has more to look at."""
    return {"what": absent.probed, "reason": f"{absent.seen}. {absent.remedy}"}

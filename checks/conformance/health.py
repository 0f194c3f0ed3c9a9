"""Health endpoints: what each service says of itself, and whether it says the truth."""

from __future__ import annotations

import httpx

from checks.checked import Check
from checks.conformance.registry import conformance, switch
from checks.conformance.subject import Subject
from fixtures.health import ask
from reports.records import Finding

GUIDE = "Health checks (announced, not filled in)"
SUPPORTS = ("NIST 800-53r5 SI-6", "ISO 27001:2022 A.8.16")


@conformance(guide=GUIDE, supports=SUPPORTS, finds=("HEALTH-NOT-READY",), after_restore=True)
def services_are_live_and_ready(subject: Subject, check: Check) -> None:
    """Every service of a whole deployment says that it is live and ready."""
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        for service in subject.deployment.services:
            for endpoint in ("live", "ready"):
                status = ask(client, service, endpoint)
                check.looked_at["endpoints"] = check.looked_at.get("endpoints", 0) + 1
                if status != 200:
                    check.findings.append(
                        Finding(code="HEALTH-NOT-READY", seen=f"status {status}", where=f"{service.name} {endpoint}")
                    )


switch(services_are_live_and_ready, "never-ready", services=("ocr",), expects=("HEALTH-NOT-READY",))

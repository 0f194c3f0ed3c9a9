"""A plugin for drills of the tests: the reference application as one that the suite does not know.

``DESCRIBED=steps``: it is spoken to by steps. ``unknown``: nor is anything told of its schema and its logs. ``mute``:
nor is it told how to speak to it.
"""

import dataclasses
import os
from pathlib import Path

from fixtures.clients import open_application
from fixtures.deployment import NotGiven
from fixtures.providers.reference import ReferenceDeployment
from fixtures.transaction import Transaction

HOW = os.environ["DESCRIBED"]
STEPS = (Path(__file__).parents[2] / "examples" / "compose" / "transaction.toml").read_text("utf-8")
client_access = ReferenceDeployment.client_access


def transaction(deployment):
    if HOW == "mute":
        return None
    return Transaction(origin="steps", text=STEPS, variables={"api_key": deployment._api_key})


def described_access(deployment):
    return dataclasses.replace(client_access(deployment), transaction=transaction(deployment))


def application(deployment, *, timeout, url=""):
    door = url or deployment._services.door
    return open_application(door, timeout=timeout, transaction=transaction(deployment), keep_alive=not url)


def log_file(deployment, service):
    raise NotGiven(f"the log of {service}", remedy="name its source")


ReferenceDeployment.client_access, ReferenceDeployment.application = described_access, application
if HOW != "steps":
    ReferenceDeployment.stand_in = False
    ReferenceDeployment.sealed_values = lambda *given: iter(())
    ReferenceDeployment.log_file = log_file
    ReferenceDeployment.tenant_pattern = ""
    for name in ("references", "jobs", "job_effects", "audit_events"):
        setattr(ReferenceDeployment, f"{name}_query", property(lambda deployment: "", lambda deployment, text: None))

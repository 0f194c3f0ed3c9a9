"""A plugin for drills of the tests: the reference application as one that the suite does not know.

``DESCRIBED=steps``: it is spoken to by steps. ``unknown``: nor is anything told of its schema and its logs. ``mute``:
nor is it told how to speak to it.
"""

import dataclasses
import os

from fixtures.clients import open_application
from fixtures.deployment import NotGiven
from fixtures.providers.reference import ReferenceDeployment
from fixtures.transaction import Transaction

HOW = os.environ["DESCRIBED"]
STEPS = """
[headers]
Authorization = "Bearer {api_key}"

[[write]]
name = "upload"
method = "POST"
path = "/api/documents?name={name}"
headers = { Content-Type = "text/plain; charset=utf-8" }
body = "{content}"
expect = 201
capture = { document = "json:id" }

[[read]]
name = "process"
method = "GET"
path = "/api/documents/{document}"
expect = 200
until = { status = "redacted" }

[[read]]
name = "download"
method = "GET"
path = "/api/documents/{document}/content"
expect = 200
"""
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

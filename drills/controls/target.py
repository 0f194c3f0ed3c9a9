"""A restore target that lacks what the backup needs: an extension, a role and a collation that no server has."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Final

from checks.target import prerequisites
from drills.controls.bench import Bench, Control, Seen

ABSENT: Final = "enprivacy_drill_absent"


def controls(bench: Bench) -> Iterator[Control]:
    """What the restored database needs, and more than that."""
    for name, kind, code in (
        ("healthy twin of the target", "", None),
        ("extension not installed", "extension", "EXTENSION-ABSENT"),
        ("role not there", "role", "ROLE-ABSENT"),
    ):
        yield Control(
            name=name,
            breaks=f"a backup that needs another {kind}" if kind else "nothing",
            expects=(code,) if code else (),
            look=functools.partial(_lacks, bench, {kind: {ABSENT: json.dumps({"version": "1"})}} if kind else {}),
        )


def _lacks(bench: Bench, needed: Mapping[str, Mapping[str, str]]) -> Seen:
    held = bench.expected.database
    catalogue = {kind: {**held.catalogue.get(kind, {}), **needed.get(kind, {})} for kind in {*held.catalogue, *needed}}
    with bench.deployment.database.connect("postgres") as connection:
        expected = dataclasses.replace(held, catalogue=catalogue)
        findings = prerequisites(connection, expected, roles_given=True)
    return Seen(victim=ABSENT if needed else "what the backup needs", findings=findings)

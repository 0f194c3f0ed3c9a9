"""Breakages of the configuration: values taken out, changed, and a secret of the right form that seals nothing here."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from typing import Final

from checks.configuration import check_sealed, compare_configuration, digest_configuration
from drills.controls.bench import Bench, Control, Seen

ADDED: Final = "ENPRIVACY_DRILL_ADDED"


def controls(bench: Bench) -> Iterator[Control]:
    """Each way to break the configuration."""
    yield Control(
        name="encryption secret wrong",
        breaks="the column key replaced by another",
        expects=("SECRET-USELESS",),
        look=lambda: _wrong_secret(bench, bench.deployment.configuration()),
    )
    yield Control(
        name="configuration variable lost",
        breaks="a variable taken out",
        expects=("CONFIGURATION-LOST",),
        look=lambda: _changed(bench, lambda values, last: values.pop(last)),
    )
    yield Control(
        name="configuration value altered",
        breaks="a value changed",
        expects=("CONFIGURATION-ALTERED",),
        look=lambda: _changed(bench, lambda values, last: values.update({last: values[last] + "x"})),
    )
    yield Control(
        name="configuration variable added",
        breaks="a variable that was not backed up",
        expects=("CONFIGURATION-UNEXPECTED",),
        look=lambda: _changed(bench, lambda values, last: values.update({ADDED: "x"})),
    )


def _changed(bench: Bench, change: Callable[[dict[str, str], str], object]) -> Seen:
    """The configuration with a change that is told the name of its last variable."""
    values = bench.deployment.configuration()
    last = max(values, default="")
    if not last:
        return Seen()
    change(values, last)
    digests = digest_configuration(values, bench.expected.key)
    return Seen(victim=last, findings=compare_configuration(bench.expected.configuration, digests))


def _wrong_secret(bench: Bench, values: dict[str, str]) -> Seen:
    secret = next((name for name in sorted(values) if "ENCRYPTION_KEY" in name), None)
    if secret is None:
        return Seen()
    wrong = values | {secret: base64.b64encode(os.urandom(32)).decode()}
    with bench.connect() as connection:
        findings, counts = check_sealed(bench.deployment.sealed_values(connection, wrong))
    return Seen(victim=secret if counts["tried"] else "", findings=findings)

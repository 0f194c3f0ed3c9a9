"""Finds methods and disasters: one file each, found by being there."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from drills import disasters
from drills.contract import ConfigurationMethod, DatabaseMethod, Disaster, ObjectMethod
from drills.methods import configuration, database, objects
from reports.records import HarnessError


def _offered(package: ModuleType, kind: str) -> dict[str, Any]:
    """What the files of a package offer under the name ``kind``, by its own name.

    Raises:
        HarnessError: a file offers nothing, or two files offer the same name.
    """
    found: dict[str, Any] = {}
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        offer = getattr(module, kind, None)
        name = getattr(offer, "name", None)
        if not name:
            raise HarnessError(
                f"{package.__name__}.{entry.name}",
                seen=f"no {kind} with a name",
                remedy=f"end the file with {kind} = …",
            )
        if name in found:
            raise HarnessError(
                f"{package.__name__}.{entry.name}", seen=f"{name} is offered twice", remedy="give it a name of its own"
            )
        found[name] = offer
    return found


def database_methods() -> dict[str, DatabaseMethod]:
    """Every way to back a database up, by name."""
    return _offered(database, "METHOD")


def object_methods() -> dict[str, ObjectMethod]:
    """Every way to back a bucket up, by name."""
    return _offered(objects, "METHOD")


def configuration_methods() -> dict[str, ConfigurationMethod]:
    """Every way to keep a configuration, by name."""
    return _offered(configuration, "METHOD")


def all_disasters() -> dict[str, Disaster]:
    """Every disaster, by name."""
    return _offered(disasters, "DISASTER")

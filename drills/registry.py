"""Finds methods and disasters: one file each, found by being there."""

from __future__ import annotations

from drills import disasters
from drills.contract import ConfigurationMethod, DatabaseMethod, Disaster, ObjectMethod
from drills.methods import configuration, database, objects
from drills.sources import database as database_places
from drills.sources import objects as object_places
from drills.sources.contract import Source
from fixtures.offered import offered


def database_methods() -> dict[str, DatabaseMethod]:
    """Every way to back a database up, by name."""
    return offered(database, "METHOD")


def object_methods() -> dict[str, ObjectMethod]:
    """Every way to back a bucket up, by name."""
    return offered(objects, "METHOD")


def configuration_methods() -> dict[str, ConfigurationMethod]:
    """Every way to keep a configuration, by name."""
    return offered(configuration, "METHOD")


def all_disasters() -> dict[str, Disaster]:
    """Every disaster, by name."""
    return offered(disasters, "DISASTER")


def database_sources() -> dict[str, Source]:
    """Every kind of place that a database's backup may come from, by name."""
    return offered(database_places, "SOURCE")


def object_sources() -> dict[str, Source]:
    """Every kind of place that a bucket's backup may come from, by name."""
    return offered(object_places, "SOURCE")

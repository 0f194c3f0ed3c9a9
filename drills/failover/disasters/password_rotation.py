"""The application's database user is rotated, two users taking turns, and then another node leads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from psycopg.conninfo import make_conninfo

from drills.failover.contract import (
    ClusterDisaster,
    PlannedWork,
    Struck,
    await_whole,
    switch_to_standby,
)
from fixtures import rotation
from fixtures.cluster import ClusterAct, ClusterNode, Part
from fixtures.rotation import Credential

CONNECTED: Final = ("job", "web")
ARRIVE_SECONDS: Final = 10.0


def rotate(struck: Struck) -> None:
    """The other login, the services with it one by one, the old one locked, another leader."""
    deployment = struck.deployment
    old = _in_force(struck)
    with struck.leader.database.connect() as connection:
        new = rotation.other_login(connection, old.user, deployment.processes.redactor)
        rotation.put_in_force(deployment, new)
        deployment.renew_services(CONNECTED)
        left = rotation.left_behind(connection, old.user, seconds=rotation.LEAVE_SECONDS)
        rotation.lock(connection, old.user)
    struck.noted.update(old_user=old.user, old_password=old.password, left=", ".join(left))
    await_whole(struck)
    switch_to_standby(struck)


def _in_force(struck: Struck) -> Credential:
    return rotation.credential_in(struck.deployment.configuration()[rotation.VARIABLE])


def logins(struck: Struck) -> Mapping[str, str]:
    """Who gets in at each node, who was still there as the old user, and the new one's sessions at the leader."""
    new, noted = _in_force(struck), struck.noted
    old = Credential(user=noted["old_user"], password=noted["old_password"])
    places = {f"sessions of {old.user} before it was locked": noted["left"]}
    for node in struck.deployment.cluster.nodes:
        server = _server(node)
        places[f"{node.name}, {old.user}"] = "it is let in" if rotation.accepted(server, old) else ""
        places[f"{node.name}, {new.user}"] = "" if rotation.accepted(server, new) else "it is refused"
    with struck.deployment.database.connect() as connection:
        arrived = rotation.arrives(connection, new.user, seconds=ARRIVE_SECONDS)
    return {**places, f"the services at the new leader as {new.user}": "" if arrived else "none is connected"}


def _server(node: ClusterNode) -> str:
    database = node.database
    return make_conninfo(host=database.host, port=database.port, dbname=database.name, **database.parameters)


DISASTER: Final[ClusterDisaster] = PlannedWork(
    name="password_rotation",
    needs=frozenset({ClusterAct.SWITCH_OVER, Part.SERVICES}),
    work=rotate,
    proof=logins,
)

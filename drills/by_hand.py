"""How to bring a destroyed deployment back without the suite: written before the strike, beside the backup set."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from drills.made import Made
from drills.site import Site
from fixtures.kept import BY_HAND
from fixtures.providers.attached.configuration_file import ORIGINAL
from fixtures.providers.attached.destroyable import DestroyableDeployment
from reports.records import utc_stamp

FILE = BY_HAND
IDENTITY = "age-identity.txt"
PASSPHRASE = "passphrase.txt"  # noqa: S105 - the name of a file


def by_hand(site: Site, deployment: DestroyableDeployment, made: Made) -> str:
    """The text of the file: what is destroyed, where its copy lies, and a command for each step."""
    return "\n".join([*_lines(site, deployment, made), ""])


def _lines(site: Site, deployment: DestroyableDeployment, made: Made) -> Iterator[str]:
    given, backup = site.profile.attached, made.backup
    assert given is not None
    yield f"{deployment.name} is destroyed by run {site.record.run_id}, drill {site.id}, from {utc_stamp()} on."
    yield "This directory holds the only copy of what it held. Passwords are not in this file."
    yield f"backup set: {backup.directory}; its configuration: {backup.apart}"
    yield ""
    yield "1. Stop what still runs"
    for name in reversed(list(given.lifecycle)):
        yield f"   {shlex.join(given.lifecycle[name].stop)}"
    if given.configuration is not None:
        yield "2. Configuration, as it was"
        yield f"   cp -p {shlex.quote(str(site.sets / ORIGINAL))} {shlex.quote(str(given.configuration))}"
    yield "3. Database: roles that are missing, then the database, into a server that does not have it"
    yield from (f"   {line}" for line in _database(site, backup.place("database")))
    yield "4. Objects, into the bucket"
    yield from (f"   {line}" for line in _objects(site, backup.place("objects")))
    yield "5. Start"
    for lifecycle in given.lifecycle.values():
        yield f"   {shlex.join(lifecycle.start)}"
    yield "Schema enprivacy_drill and the objects below enprivacy-drill/ are the suite's: drop and remove them."
    yield f"6. python -m fixtures disarm --profile {shlex.quote(str(site.profile.path))}, then remove {site.sets}"


def _database(site: Site, place: Path) -> Iterator[str]:
    database = site.deployment.database
    where = shlex.join([f"--host={database.host}", f"--port={database.port}", f"--username={database.user}"])
    if site.scenario.database.name != "pg_dump":
        yield f"with your own command, backup.commands.database_restore, from DRILL_BACKUP={shlex.quote(str(place))}"
        return
    tools = database.tools.directory
    roles = shlex.quote(str(place / "roles.sql.age"))
    identity = "YOUR-KEY-FILE" if site.profile.age_identity else shlex.quote(str(site.sets / IDENTITY))
    yield f"age --decrypt --identity {identity} {roles} > roles.sql"
    yield f"{tools / 'psql'} {where} --dbname=postgres --file=roles.sql   # what is there already is passed over"
    dump = shlex.quote(str(place / "dump"))
    yield f"{tools / 'pg_restore'} {where} --dbname=postgres --create --exit-on-error {dump}"


def _objects(site: Site, place: Path) -> Iterator[str]:
    store, method = site.deployment.objects, site.scenario.objects
    if method.plain:
        yield "export RCLONE_CONFIG_STORE_TYPE=s3 RCLONE_CONFIG_STORE_PROVIDER=Other RCLONE_CONFIG_STORE_ENV_AUTH=true"
        yield f"export RCLONE_CONFIG_STORE_ENDPOINT={shlex.quote(store.endpoint)}"
        yield "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…   # the operator's"
        yield f"rclone copy {shlex.quote(str(place))} store:{store.bucket} --metadata"
    elif method.name == "rclone_crypt":
        yield f"rclone's crypt remote over {place}, its password is in {site.sets / PASSPHRASE}; docs/methods.md"
    else:
        yield f"with the method {method.name} from {place}; docs/methods.md"

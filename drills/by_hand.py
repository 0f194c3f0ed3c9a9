"""How to bring a destroyed deployment back without the suite: written before the strike, beside the backup set."""

from __future__ import annotations

import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from drills import ledger
from drills.made import Made
from drills.site import Site
from fixtures.kept import BY_HAND
from fixtures.providers.attached.configuration_file import ORIGINAL
from fixtures.providers.attached.destroyable import DestroyableDeployment
from fixtures.tools import find_rclone
from reports.records import utc_stamp

FILE = BY_HAND
IDENTITY = "age-identity.txt"
PASSPHRASE = "passphrase.txt"  # noqa: S105 - the name of a file
# Parameters of a connection that are secrets: they stay with their owner.
SECRET: Final = frozenset({"password", "sslpassword"})
DECRYPT: Final = (
    "import sys, pyrage; key, file = sys.argv[1:];"
    " key = [line.strip() for line in open(key) if line.startswith('AGE-')][0];"
    " given = pyrage.x25519.Identity.from_str(key);"
    " sys.stdout.buffer.write(pyrage.decrypt(open(file, 'rb').read(), [given]))"
)


def by_hand(site: Site, deployment: DestroyableDeployment, made: Sequence[Made]) -> str:
    """The text of the file: what is destroyed, where its copies lie, and a command for each step.

    The commands are for the oldest set, which no disaster spoils.
    """
    return "\n".join([*_lines(site, deployment, made), ""])


def _lines(site: Site, deployment: DestroyableDeployment, made: Sequence[Made]) -> Iterator[str]:
    given, backup = site.profile.attached, made[0].backup
    assert given is not None
    yield f"{deployment.name} is destroyed by run {site.record.run_id}, drill {site.id}, from {utc_stamp()} on."
    yield "This directory holds the only copy of what it held. Passwords are not in this file."
    yield f"backup set: {backup.directory}; its configuration: {backup.apart}"
    for other in made[1:]:
        yield f"a younger set, which the drill damages on purpose: {other.backup.directory}; do not restore from it"
    yield ""
    yield "1. Stop what still runs"
    for name in reversed(list(given.lifecycle)):
        yield f"   {shlex.join(given.lifecycle[name].stop)}"
    if given.configuration is not None:
        yield "2. Configuration, as it was, with its mode and owner"
        yield f"   {_install(site.sets / ORIGINAL, given.configuration)}"
    yield "3. Database: what is half-restored goes; then roles that are missing, then the database"
    yield from (f"   {line}" for line in _database(site, backup.place("database")))
    yield "4. Objects, those that the bucket lacks"
    yield from (f"   {line}" for line in _objects(site, backup.place("objects")))
    yield "5. Start"
    for lifecycle in given.lifecycle.values():
        yield f"   {shlex.join(lifecycle.start)}"
    yield f"Schema {ledger.TABLE.partition('.')[0]}, and objects below {ledger.PREFIX}/ whose names hold the run's id,"
    yield "are the suite's: drop and remove them."
    yield f"6. python -m fixtures disarm --profile {shlex.quote(str(site.profile.path))}, then remove {site.sets}"


def _install(source: Path, target: Path) -> str:
    """The command that puts a file back with the mode and the owner that it has now."""
    status = target.stat()
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    words = ["install", "-m", mode, "-o", str(status.st_uid), "-g", str(status.st_gid), str(source), str(target)]
    return shlex.join(words)


def _database(site: Site, place: Path) -> Iterator[str]:
    database = site.deployment.database
    parameters = {key: value for key, value in database.parameters.items() if key not in SECRET}
    server = make_conninfo(host=database.host, port=database.port, user=database.user, dbname="postgres", **parameters)
    where, tools = shlex.quote(server), database.tools.directory
    yield "# PGPASSWORD, or your ~/.pgpass, gives the operator's password"
    yield f"{tools / 'dropdb'} --maintenance-db={where} --if-exists --force {shlex.quote(database.name)}"
    if site.scenario.database.name != "pg_dump":
        yield "# then with your own command, backup.commands.database_restore, and this set as its DRILL_BACKUP:"
        yield f"# {place}"
        return
    identity = "YOUR-KEY-FILE" if site.profile.age_identity else shlex.quote(str(site.sets / IDENTITY))
    roles, plain = shlex.quote(str(place / "roles.sql.age")), shlex.quote(str(site.sets / "roles.sql"))
    decrypt = f"{shlex.join([sys.executable, '-c', DECRYPT])} {identity} {roles}"
    yield f"# without that Python: age --decrypt --identity {identity} {roles}"
    yield f"(umask 077; {decrypt} > {plain})"
    yield f"{tools / 'psql'} --dbname={where} --file={plain} || true   # what is there already is passed over"
    yield f"rm {plain}   # it holds password verifiers"
    dump = shlex.quote(str(place / "dump"))
    yield f"{tools / 'pg_restore'} --dbname={where} --create --exit-on-error {dump}"


def _objects(site: Site, place: Path) -> Iterator[str]:
    store, method = site.deployment.objects, site.scenario.objects
    if method.plain:
        yield "export RCLONE_CONFIG_STORE_TYPE=s3 RCLONE_CONFIG_STORE_PROVIDER=Other RCLONE_CONFIG_STORE_ENV_AUTH=true"
        yield f"export RCLONE_CONFIG_STORE_ENDPOINT={shlex.quote(store.endpoint)}"
        yield "# AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the operator's"
        copy = shlex.join([str(find_rclone()), "copy", str(place), f"store:{store.bucket}"])
        # After a disaster that overwrites, the bucket's are not what anybody wants.
        overwritten = site.scenario.disaster.objects == "overwritten"
        yield f"{copy} --metadata {'--checksum' if overwritten else '--ignore-existing'}"
    elif method.name == "rclone_crypt":
        yield f"# rclone's crypt remote over {place}, its password is in {site.sets / PASSPHRASE}; docs/methods.md"
    else:
        yield f"# with the method {method.name} from {place}; docs/methods.md"

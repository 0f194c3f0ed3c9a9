"""What a place that keeps backups must offer a shadow restore: the newest one, and of when it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, Protocol

from fixtures.deployment import ObjectStore, Observed
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import Processes
from fixtures.shadow_settings import Kept
from reports.records import Finding

# ``archive``: pg_dump's, custom, directory or tar; ``script``: SQL, perhaps compressed;
# ``files``: a data directory that a server can be started on; ``objects``: a file for each object, named by its key.
Form = Literal["archive", "script", "files", "objects"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """A backup that lies here now; objects may also stay in the ``store`` where they are kept, below ``prefix``.

    ``label``: how its keeper calls it. ``instant``: of when its data are, RFC 3339 in UTC; empty where it does not say.
    ``known_by``: how that is known. ``roles``: the script of the cluster's roles, where there is one. ``bytes``: what
    was fetched. ``taken``: it was made for this drill and says nothing of the operator's own backups. ``ours``: it lies
    in the run's own directory and may be moved. ``log_until``: the newest segment of write-ahead log that is kept,
    which recovery must reach. ``findings``: what is wrong with the backups there. ``not_tested``: what cannot be told
    of this one, and why.
    """

    place: Path
    form: Form
    label: str
    instant: str = ""
    known_by: str = ""
    roles: Path | None = None
    bytes: int = 0
    taken: bool = False
    ours: bool = False
    store: ObjectStore | None = None
    prefix: str = ""
    log_until: str = ""
    findings: tuple[Finding, ...] = ()
    not_tested: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetching:
    """What a source may use.

    ``target`` is an empty directory of the run's; ``seconds`` how long one command may take, ``jobs`` how many may work
    at once. ``deployment`` is the one that is shadowed, which is only read. ``identity``: the profile's age key, which
    opens the roles of a set of this suite's; empty where there is none.
    """

    target: Path
    deployment: Observed
    processes: Processes
    tools: PostgresTools
    jobs: int
    seconds: float
    identity: str = dataclasses.field(default="", repr=False)


class Source(Protocol):
    """One kind of place."""

    name: str

    def fetch(self, kept: Kept, fetching: Fetching) -> Fetched:
        """Bring the newest backup to ``fetching.target``.

        Raises:
            HarnessError: there is none, or it cannot be fetched; the deployment and the place are as they were.
        """

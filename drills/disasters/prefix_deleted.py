"""Somebody deletes the objects of one tenant; the others' are as they were."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from typing import Final, Literal

from drills.contract import Disaster
from fixtures.damage import STORE_ERRORS, Keys, looking_first, remove, speaks_against_removal, strikable
from fixtures.deployment import Deployment
from reports.records import HarnessError


class PrefixDeleted:
    """See ``drills.contract.Disaster``."""

    name = "prefix_deleted"
    database: Literal["", "gone", "wrong"] = ""
    objects: Literal["", "gone", "emptied", "some", "overwritten"] = "some"
    configuration = False
    health = False
    needs_tenants = True

    def __init__(self) -> None:
        self._tenant = ""
        self._removed = Keys()

    def strike(self, deployment: Deployment) -> None:
        """Remove every object of the tenant that has the most.

        Raises:
            HarnessError: no key names a tenant.
        """
        store = deployment.objects
        self._tenant, self._removed = "", Keys()
        pattern = re.compile(deployment.tenant_pattern)

        def tenant(key: str) -> str | None:
            found = pattern.match(key)
            return found["tenant"] if found else None

        counted = collections.Counter(tenant(key) for key, _ in strikable(store))
        del counted[None]
        if not counted:
            raise HarnessError(
                f"a tenant's objects in bucket {store.bucket}",
                seen=f"no key matches {deployment.tenant_pattern}",
                remedy="correct the pattern, or leave prefix_deleted out",
            )
        self._tenant = str(min(counted, key=lambda name: (-counted[name], name)))
        self._removed.add(each for each in strikable(store) if tenant(each[0]) == self._tenant)
        remove(store, self._removed, look=looking_first(deployment))

    def places(self, deployment: Deployment) -> Mapping[str, str]:
        """The bucket, listed again: none of the tenant's keys listed before is there."""
        place = f"{len(self._removed):,} objects of tenant {self._tenant}" if self._tenant else "a tenant's objects"
        try:
            return {place: speaks_against_removal(deployment.objects, self._removed)}
        except STORE_ERRORS as problem:
            return {place: f"cannot be told: {problem}"}


DISASTER: Final[Disaster] = PrefixDeleted()

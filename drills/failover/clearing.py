"""Taking away what a drill that passed has written, so that the next on the same cluster does not verify it again."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Sequence
from typing import Final

from minio.deleteobjects import DeleteObject

from drills.failover.site import FailoverSite
from drills.ledger import OWN_NAMES
from fixtures.application import Lists
from fixtures.deployment import NotGiven
from reports.records import HarnessError

_CLIENTS: Final = 4


def clear(site: FailoverSite) -> None:
    """Delete the documents and objects that bear this drill's tag, as any client would; nothing else.

    Where the application cannot list its documents they stay.

    Raises:
        HarnessError: an object could not be removed.
        ApplicationError: a document could not be deleted.
    """
    with contextlib.suppress(NotGiven), contextlib.closing(site.deployment.application(timeout=10.0)) as application:
        if isinstance(application, Lists):
            found = [each.id for name in OWN_NAMES for each in application.documents(f"{name}{site.tag}/")]
            with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
                list(pool.map(lambda at: _delete(site, found[at::_CLIENTS]), range(_CLIENTS)))
    store = site.deployment.objects
    client = store.client()
    keys = [
        DeleteObject(each.object_name)
        for name in OWN_NAMES
        for each in client.list_objects(store.bucket, prefix=f"{name}{site.tag}/", recursive=True)
        if each.object_name
    ]
    for left in client.remove_objects(store.bucket, keys):
        raise HarnessError(f"removing {left.name}", seen=str(left.message), remedy="see the object server's log")


def _delete(site: FailoverSite, documents: Sequence[str]) -> None:
    with contextlib.closing(site.deployment.application(timeout=10.0)) as application:
        assert isinstance(application, Lists)
        for document in documents:
            application.delete(document)

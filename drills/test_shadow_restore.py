"""The shadow restore: a backup of the deployment, restored into a sandbox and verified, while it goes on untouched.

look → take or fetch → restore → boot → verify → controls → judge
"""

from __future__ import annotations

from drills.shadow import Shadow


def test_shadow_restore(shadow: Shadow) -> None:
    shadow.look()
    shadow.take()
    shadow.fetch()
    shadow.restore()
    shadow.boot()
    shadow.verify()
    shadow.prove_controls()
    shadow.judge()

"""Which views the bundles of a store name."""

from __future__ import annotations

from pathlib import Path

from services.common.bundle.store import BundleStore
from services.common.errors import BundleError, NotFound


def named_by_bundles(directory: Path) -> dict[str, list[str]]:
    """Bundles that name a view, by the view's hash: each its version and what it is.

    "live", "canary", "shadow", "experiment" (variants may name it), "roll-back" (promoted before,
    so that one can go back to it) or "published". Nothing where there is no such directory. Raises
    ``BundleError`` for a bundle that can't be read, since it may name any view.
    """
    store = BundleStore(directory)
    try:
        versions = store.versions()
    except NotFound:
        return {}
    roles = store.pointer().roles()
    named: dict[str, list[str]] = {}
    for version in versions:
        role = roles.get(version, "published")
        try:
            manifest = store.manifest(version)
        except BundleError:
            if role != "published":
                raise
            continue
        for view in manifest.feature_views.values():
            named.setdefault(view.hash, []).append(f"{version} ({role})")
    return named

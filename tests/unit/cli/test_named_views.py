"""Which bundles name a view, so that it must be served on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.features.named import named_by_bundles
from services.common.bundle.store import BundleStore
from services.common.domain import load_domain
from services.common.errors import BundleError
from tests.support.tiny_bundle import make_tiny_bundle


def test_a_view_is_named_by_every_bundle_that_serves_and_its_role(tmp_path: Path) -> None:
    domain = load_domain(Path("config/mooccubex.yaml"))
    versions = [
        make_tiny_bundle(tmp_path, domain, {"course": {"a": {}}}, seed=seed, promote=False)
        for seed in range(6)
    ]
    assert named_by_bundles(tmp_path / "absent") == {}
    before, live, canary, shadow, named, published = versions
    store = BundleStore(tmp_path)
    store.promote(before)
    store.promote(live)
    store.canary(canary, 0.1)
    store.shadow(shadow, 0.1)
    store.serve_variants(named)
    expected = [
        f"{before} (roll-back)",
        f"{live} (live)",
        f"{canary} (canary)",
        f"{shadow} (shadow)",
        f"{named} (experiment)",
        f"{published} (published)",
    ]
    views = {view.hash for view in store.manifest(live).feature_views.values()}
    assert named_by_bundles(tmp_path) == dict.fromkeys(views, expected)
    # One that serves and can't be read may name any view; of the others it does not matter.
    (tmp_path / published / "manifest.json").write_text("{}")
    assert f"{live} (live)" in named_by_bundles(tmp_path)[next(iter(views))]
    (tmp_path / shadow / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="manifest"):
        named_by_bundles(tmp_path)

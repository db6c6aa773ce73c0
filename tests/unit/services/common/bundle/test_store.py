"""What verification of a bundle refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.bundle.store import BundleStore
from services.common.domain import load_domain
from services.common.errors import BundleError
from tests.support.tiny_bundle import make_tiny_bundle


def test_a_file_that_the_manifest_does_not_list_is_named(tmp_path: Path) -> None:
    version = make_tiny_bundle(tmp_path, load_domain(Path("config/mooccubex.yaml")), {"course": {}})
    store = BundleStore(tmp_path)
    store.verify(version)
    (store.path(version) / "stowaway.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"stowaway\.bin: missing from the manifest"):
        store.verify(version)

"""What verification of a bundle refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.bundle.pointer import NewerPointer
from services.common.bundle.store import BundleStore, file_entry
from services.common.domain import load_domain
from services.common.errors import BundleError, Unreadable
from tests.support.tiny_bundle import make_tiny_bundle


def test_a_file_that_the_manifest_does_not_list_is_named(tmp_path: Path) -> None:
    version = make_tiny_bundle(tmp_path, load_domain(Path("config/mooccubex.yaml")), {"course": {}})
    store = BundleStore(tmp_path)
    store.verify(version)
    (store.path(version) / "stowaway.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"stowaway\.bin: missing from the manifest"):
        store.verify(version)


def test_a_file_that_can_not_be_read_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    # Nothing is mapped at its beginning: an I/O error.
    with pytest.raises(Unreadable, match="/proc/self/mem: cannot be read"):
        file_entry(Path("/proc/self/mem"))
    with pytest.raises(BundleError) as missing:
        file_entry(tmp_path / "nowhere")
    assert not isinstance(missing.value, Unreadable)


@pytest.mark.parametrize("more", ["", ', "weights": {"a": 0.5}'])
def test_a_pointer_of_a_later_format_is_not_overwritten(tmp_path: Path, more: str) -> None:
    version = make_tiny_bundle(tmp_path, load_domain(Path("config/mooccubex.yaml")), {"course": {}})
    store = BundleStore(tmp_path)
    text = f'{{"format_version": 2{more}}}'
    (tmp_path / "current").write_text(text)
    with pytest.raises(NewerPointer, match="format 2 is not supported, 1 is"):
        store.promote(version)
    assert (tmp_path / "current").read_text() == text
    (tmp_path / "current").write_text(text[:-1])
    store.promote(version)
    assert store.current() == version

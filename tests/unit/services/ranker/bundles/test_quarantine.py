"""What a replica set aside, over restarts and moves of the pointer."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.bundle.pointer import Placed, Pointer
from services.ranker.bundles.quarantine import Quarantine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replica" / "quarantine.json"


def pointer() -> Pointer:
    return Pointer().promoting("v1").promoting("v2").with_canary("v3", 0.1)


def test_what_is_set_aside_stays_so_over_a_restart(path: Path) -> None:
    Quarantine(path).add("v3", [3], "its files are corrupt")
    again = Quarantine(path)
    assert again.holds(Placed(version="v3", move=3))
    assert not again.holds(Placed(version="v3", move=4))
    assert not again.holds(Placed(version="v2", move=2))
    assert again.set_aside() == {"v3": "its files are corrupt"}


def test_only_a_move_that_names_it_lifts_a_quarantine(path: Path) -> None:
    quarantine = Quarantine(path)
    quarantine.add("v3", [3], "it fails")
    quarantine.add("v2", [2], "it fails, too")
    later = pointer().with_shadow("v1")
    quarantine.forget(later)
    assert set(quarantine.set_aside()) == {"v2", "v3"}
    later = later.with_canary("v3", 0.2)
    quarantine.forget(later)
    assert set(quarantine.set_aside()) == {"v2"}
    quarantine.forget(later.rolling_back())
    assert Quarantine(path).set_aside() == {}


def test_a_bundle_whose_starts_end_is_counted_once_a_start(path: Path) -> None:
    for tried in range(3):
        quarantine = Quarantine(path)
        assert quarantine.taking("v1") == tried
        assert quarantine.taking("v1") == 0
    quarantine.survived(["v1"])
    assert Quarantine(path).taking("v1") == 0


def test_what_was_live_before_is_known(path: Path) -> None:
    assert Quarantine(path).before is None
    Quarantine(path).follows(Placed(version="v1", move=1))
    assert Quarantine(path).before == Placed(version="v1", move=1)


@pytest.mark.parametrize("content", ["", "{", '{"set_aside": 3}', '{"unknown": 1}'])
def test_a_damaged_file_sets_nothing_aside(
    path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_text(content)
    quarantine = Quarantine(path)
    assert quarantine.set_aside() == {}
    assert "can't be read" in caplog.text
    quarantine.add("v1", [1], "it fails")
    assert Quarantine(path).set_aside() == {"v1": "it fails"}


def test_a_file_that_can_not_be_written_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "replica").write_text("a file where a folder should be")
    quarantine = Quarantine(tmp_path / "replica" / "quarantine.json")
    quarantine.add("v1", [1], "it fails")
    assert quarantine.holds(Placed(version="v1", move=1))
    assert "can't be written" in caplog.text

"""The replica's copy on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ranker.catalogue.disk import Copy, ReplicaDisk
from services.ranker.feature_rows import View
from tests.unit.services.ranker.catalogue.tables import ROWS, VIEWS, make_table, readable
from tests.unit.services.ranker.fakes import ITEM_VIEW, rows_of


def test_the_copy_on_disk_is_the_table(tmp_path: Path) -> None:
    disk = ReplicaDisk(tmp_path / "replica", VIEWS)
    assert disk.load() is None
    disk.save(Copy({"item": make_table()}, b"\x00token", 1234))
    copy = disk.load()
    assert copy is not None
    assert (copy.resume_token, copy.as_of_ms) == (b"\x00token", 1234)
    assert readable(copy.tables["item"]) == readable(make_table())
    news = rows_of(ITEM_VIEW, {"b": {"host": "h1", "tags": ("t1", "new")}})
    changed = copy.tables["item"].changed([news], (), 1)
    assert readable(changed)["b"] == {"host": "h1", "tags": ("t1", "new")}
    assert readable(changed)["a"] == ROWS["a"]
    lists = changed.lists("tags")
    assert lists is not None
    codes, pool = lists
    having = [pool.values[code] for code in pool.having("t1")]
    assert having == [("t1", "ü", "t1"), ("t1", "new")]
    assert pool.sizes[codes[changed.slot_of["a"]]] == 2


def test_a_copy_after_a_change_is_the_changed_table(tmp_path: Path) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    first = make_table()
    disk.save(Copy({"item": first}, b"1", 1))
    news = {"new": {"host": "h2", "tags": ("t3",)}, "b": {"host": "ü"}}
    second = first.changed([rows_of(ITEM_VIEW, news)], (), 3)
    # What the second added to the lists that both share is not of the first.
    for copy in (Copy({"item": second}, b"2", 2), Copy({"item": first}, b"3", 3)):
        disk.save(copy)
        found = ReplicaDisk(tmp_path, VIEWS).load()
        assert found is not None
        assert (found.resume_token, found.as_of_ms) == (copy.resume_token, copy.as_of_ms)
        assert readable(found.tables["item"]) == readable(copy.tables["item"])


def test_a_renewal_counts_for_the_copy_it_was_made_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    disk.save(Copy({"item": make_table()}, b"1", 1))
    before = disk.path.read_bytes()
    disk.renew(b"2", 2)
    for _ in range(2):
        found = disk.load()
        assert found is not None
        assert (found.resume_token, found.as_of_ms) == (b"2", 2)
        disk.renew(b"2", 2)
    disk.save(Copy({"item": make_table()}, b"3", 3))
    found = disk.load()
    assert found is not None
    assert (found.resume_token, found.as_of_ms) == (b"3", 3)
    disk.path.write_bytes(before)
    (renewal,) = tmp_path.glob("*.json")
    renewal.write_text("{")
    found = disk.load()
    assert found is not None
    assert (found.resume_token, found.as_of_ms) == (b"1", 1)
    assert "not usable" in caplog.text


def test_a_damaged_copy_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    disk.save(Copy({"item": make_table()}, b"", 1))
    content = bytearray(disk.path.read_bytes())
    content[content.index(b"course")] ^= 1
    disk.path.write_bytes(content)
    assert disk.load() is None
    assert "not usable" in caplog.text
    disk.path.write_bytes(content[: len(content) // 2])
    assert disk.load() is None


def test_a_copy_damaged_anywhere_is_whole_or_not_used(tmp_path: Path) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    disk.save(Copy({"item": make_table()}, b"", 1))
    content = disk.path.read_bytes()
    # What begins the archive's directory says how each member is to be read.
    for at in range(content.index(b"PK\x01\x02"), len(content), 3):
        damaged = bytearray(content)
        damaged[at] ^= 0x21
        disk.path.write_bytes(damaged)
        copy = disk.load()
        assert copy is None or readable(copy.tables["item"]) == readable(make_table())


def test_views_of_another_hash_have_another_copy(tmp_path: Path) -> None:
    ReplicaDisk(tmp_path, VIEWS).save(Copy({"item": make_table()}, b"", 1))
    other = View(ITEM_VIEW.name, "another hash", ITEM_VIEW.columns)
    assert ReplicaDisk(tmp_path, {"item": other}).load() is None

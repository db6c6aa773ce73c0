"""What lies beside a log's segments: its id, and marks of duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import FailedPrecondition
from services.common.event_log import LogWriter, list_segments
from services.common.log_identity import log_identity
from services.common.log_marks import add_duplicate_marks, read_duplicate_marks


def test_a_log_keeps_its_id_and_no_other_has_it(tmp_path: Path) -> None:
    first = log_identity(tmp_path / "a")
    with LogWriter(tmp_path / "a") as writer:
        writer.append([b"record"])

    assert log_identity(tmp_path / "a") == first
    assert log_identity(tmp_path / "b") != first
    assert len(bytes.fromhex(first)) == 8
    assert [segment.first_arrival for segment in list_segments(tmp_path / "a")] == [0]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["id"]


def test_a_damaged_id_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("")
    with pytest.raises(FailedPrecondition, match="holds no log id"):
        log_identity(tmp_path)


def test_marks_are_read_from_a_position_on(tmp_path: Path) -> None:
    assert read_duplicate_marks(tmp_path) == set()

    add_duplicate_marks(tmp_path, [7, 3])
    add_duplicate_marks(tmp_path, [7, 2**40])

    assert read_duplicate_marks(tmp_path) == {3, 7, 2**40}
    assert read_duplicate_marks(tmp_path, 7) == {7, 2**40}


def test_a_torn_mark_is_written_over(tmp_path: Path) -> None:
    add_duplicate_marks(tmp_path, [1, 2])
    path = tmp_path / "duplicates"
    path.write_bytes(path.read_bytes()[:-3])
    assert read_duplicate_marks(tmp_path) == {1}

    add_duplicate_marks(tmp_path, [5])

    assert read_duplicate_marks(tmp_path) == {1, 5}

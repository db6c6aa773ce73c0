"""How long requests are expected to take."""

from __future__ import annotations

import pytest

from services.ranker.pace import WEIGHT, Pace


def test_nothing_is_expected_before_anything_is_known() -> None:
    assert Pace().expected_s(10) == 0


def test_who_shares_a_micro_batch_waits_for_all_of_it() -> None:
    pace = Pace()
    pace.took(16, 0.8)
    assert [pace.expected_s(n) for n in (1, 16, 17, 32)] == pytest.approx([0.8, 0.8, 1.6, 1.6])


def test_later_micro_batches_move_the_means() -> None:
    pace = Pace()
    pace.took(1, 0.1)
    pace.took(3, 0.6)
    one, size = 0.1 + WEIGHT * (0.2 - 0.1), 1 + WEIGHT * (3 - 1)
    assert pace.expected_s(1) == pytest.approx(one * size)
    assert pace.expected_s(2) == pytest.approx(2 * one * size)

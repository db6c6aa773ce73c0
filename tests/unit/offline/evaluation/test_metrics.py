"""Metrics against figures worked out by hand and against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.evaluation.metrics import coverage, hit_rate, ndcg, recall, reciprocal_rank
from offline.evaluation.ragged import Ragged
from offline.evaluation.ranking import UNRANKED


def test_figures_worked_out_by_hand() -> None:
    ranks = Ragged.of([[0], [2, 9], [10], [UNRANKED]])
    assert hit_rate(ranks, 10).tolist() == [1, 1, 0, 0]
    assert recall(ranks, 3).tolist() == [1, 0.5, 0, 0]
    assert reciprocal_rank(ranks).tolist() == pytest.approx([1, 1 / 3, 1 / 11, 0])
    # Third place is worth 1/log2(4), tenth 1/log2(11); the ideal is 1 + 1/log2(3).
    second = (0.5 + 1 / math.log2(11)) / (1 + 1 / math.log2(3))
    assert ndcg(ranks, 10).tolist() == pytest.approx([1, second, 0, 0])


@given(
    st.lists(
        st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True), min_size=1, max_size=6
    ),
    st.integers(1, 12),
)
def test_metrics_are_those_of_plain_loops(rows: list[list[int]], k: int) -> None:
    ranks = Ragged.of(rows)
    for user, row in enumerate(rows):
        gain = sum(1 / math.log2(rank + 2) for rank in row if rank < k)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(row))))
        assert ndcg(ranks, k)[user] == pytest.approx(gain / ideal)
        assert hit_rate(ranks, k)[user] == float(any(rank < k for rank in row))
        assert recall(ranks, k)[user] == pytest.approx(sum(r < k for r in row) / len(row))
        assert reciprocal_rank(ranks)[user] == pytest.approx(1 / (1 + min(row)))


def test_a_perfect_ranking_has_ndcg_one_whatever_the_number_of_true_items() -> None:
    ranks = Ragged.of([list(range(count)) for count in range(1, 15)])
    assert ndcg(ranks, 10).tolist() == pytest.approx([1.0] * 14)


def test_coverage_counts_available_items_once() -> None:
    shown = np.array([[0, 1, -1], [1, 0, -1]], dtype=np.int64)
    assert coverage(shown, np.array([True, True, True, False])) == pytest.approx(2 / 3)

"""How alike two slates are, against counting pairs."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.bundles.comparison import kendall_tau, overlap_at_k

SLATES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@settings(max_examples=100, deadline=None)
@given(SLATES, SLATES)
def test_against_counting(first: list[str], second: list[str]) -> None:
    both = [id_ for id_ in first if id_ in second]
    longer = max(len(first), len(second))
    assert overlap_at_k(first, second) == (len(both) / longer if longer else 1.0)
    signs = [1 if second.index(a) < second.index(b) else -1 for a, b in combinations(both, 2)]
    tau = kendall_tau(first, second)
    if not signs:
        assert tau is None
    else:
        assert tau == pytest.approx(sum(signs) / len(signs))


def test_known_values() -> None:
    assert kendall_tau("abcd", "abcd") == 1.0
    assert kendall_tau("abcd", "dcba") == -1.0
    # One of six pairs is in the other order.
    assert kendall_tau("abcd", "abdc") == pytest.approx(4 / 6)

"""Strengths against choices drawn with known weights."""

from __future__ import annotations

import pytest
import torch

from offline.training.strength import fit_strengths

CHOICES, ITEMS = 4_000, 20


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.4, 1.6), (0.0, 1.2)])
def test_it_finds_the_weights_that_choices_were_drawn_with(a: float, b: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(CHOICES, ITEMS, generator=generator)
    given = torch.randn(1, ITEMS, generator=generator).expand(CHOICES, ITEMS)
    share = torch.softmax(a * own + b * given, dim=1)
    chosen = torch.multinomial(share, 1, generator=generator).squeeze(1)
    assert fit_strengths(own, given, chosen) == pytest.approx((a, b), abs=0.1)


def test_what_is_not_on_offer_does_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(CHOICES, ITEMS, generator=generator)
    closed = torch.zeros(CHOICES, ITEMS, dtype=torch.bool)
    closed[:, 0] = True
    given = torch.zeros(CHOICES, ITEMS).masked_fill(closed, -1e9)
    chosen = torch.multinomial(torch.softmax(own + given, dim=1), 1, generator=generator)
    # The closed item would have been everybody's choice.
    found, _ = fit_strengths(own.masked_fill(closed, 0.0), given, chosen.squeeze(1))
    assert found == pytest.approx(1.0, abs=0.1)


def test_without_choices_both_are_believed_as_they_are() -> None:
    nothing = torch.zeros(0, ITEMS)
    found = fit_strengths(nothing, nothing, torch.zeros(0, dtype=torch.long))
    assert found == pytest.approx((1.0, 1.0))


def test_a_score_that_says_the_opposite_is_not_believed() -> None:
    own = torch.eye(ITEMS) * 5
    found, _ = fit_strengths(own, torch.zeros(ITEMS, ITEMS), torch.roll(torch.arange(ITEMS), 1))
    assert 0.0 <= found < 0.2

"""Interactions of overlapping experiments, held against least squares with products."""

from __future__ import annotations

import numpy as np
import pytest

from offline.analysis.health.interaction import Overlap, check_interactions, interaction_p

RANDOM = np.random.default_rng


def _drawn(seed: int, units: int, product: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = RANDOM(seed)
    first, second = random.integers(0, 2, units), random.integers(0, 3, units)
    effect = 0.5 * first + 0.3 * second + product * first * (second == 2)
    return effect + random.normal(size=units), first, second


def test_it_is_the_wald_test_of_the_products() -> None:
    """Against the regression with all products and heteroscedastic variances (HC3 is near)."""
    values, first, second = _drawn(1, 6_000, 0.1)
    arms = [first == 1, second == 1, second == 2]
    design = np.column_stack(
        [np.ones(len(values)), *arms, arms[0] & arms[1], arms[0] & arms[2]]
    ).astype(float)
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ values
    residual = values - design @ beta
    meat = (design * residual[:, None] ** 2).T @ design
    covariance = (inverse @ meat @ inverse)[4:, 4:]
    wald = beta[4:] @ np.linalg.solve(covariance, beta[4:])
    # Two degrees of freedom: the tail of chi-square is exponential.
    assert interaction_p(values, first, second, (2, 3)) == pytest.approx(
        np.exp(-wald / 2), rel=0.02
    )


def test_effects_that_add_up_interact_as_seldom_as_it_says() -> None:
    found = [interaction_p(*_drawn(seed, 400, 0.0), (2, 3)) for seed in range(200)]
    assert 0.015 < np.mean([p is not None and p < 0.05 for p in found]) < 0.1


def test_findings_count_that_there_are_several() -> None:
    values, first, second = _drawn(2, 4_000, 0.6)
    other = RANDOM(3).integers(0, 2, 4_000)
    nobody = np.full(4_000, -1)
    found = check_interactions(
        values,
        first,
        2,
        [
            Overlap("strong", ("a", "b", "c"), second),
            Overlap("none", ("a", "b"), other),
            Overlap("apart", ("a", "b"), nobody),
        ],
        "revenue",
    )
    assert [f.level for f in found] == ["notice", "ok", "not_checked"]
    assert [f.subject for f in found] == ["strong", "none", "apart"]
    alone = interaction_p(values, first, other, (2, 2))
    assert found[1].p_value == alone


def test_what_does_not_vary_is_not_tested() -> None:
    arms = np.tile([0, 1], 200)
    assert interaction_p(np.ones(400), arms, np.repeat([0, 1], 200), (2, 2)) is None

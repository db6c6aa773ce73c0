import numpy as np
import pytest
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from tea_tasting.aggr import Aggregates

from offline.analysis.statistics.cuped import adjusted, cuped
from offline.analysis.statistics.means import welch
from services.common.errors import InvalidArgument


def arms(seed: int, units: tuple[int, int] = (300, 300)) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    drawn = []
    for place, count in enumerate(units):
        before = random.normal(size=(count, 2)) * [1.0, 30.0]
        values = 5.0 + before @ [2.0, 0.05] + random.normal(size=count) + 0.3 * place
        drawn.append((values, before))
    return drawn


def test_one_covariate_is_tea_tastings_nearly() -> None:
    # Theirs takes the coefficient from both arms thrown together, ours within arms.
    (control, before), (treatment, after) = arms(1)
    ours = cuped(control, treatment, before[:, 0], after[:, 0])
    aggregates = []
    for values, columns in ((control, before[:, 0]), (treatment, after[:, 0])):
        moments = np.cov(values, columns)
        aggregates.append(
            Aggregates(
                len(values),
                {"value": values.mean(), "before": columns.mean()},
                {"value": moments[0, 0], "before": moments[1, 1]},
                {("before", "value"): moments[0, 1]},
            )
        )
    theirs = tt.Mean("value", "before").analyze_aggregates(*aggregates)
    assert ours.estimate == pytest.approx(theirs.effect_size, rel=0.01)
    half = (theirs.effect_size_ci_upper - theirs.effect_size_ci_lower) / 2
    assert (ours.upper - ours.lower) / 2 == pytest.approx(half, rel=0.01)


def test_with_equal_arms_it_is_regression_on_treatment_and_covariates() -> None:
    (control, before), (treatment, after) = arms(2)
    ours = cuped(control, treatment, before, after)
    treated = np.repeat([0.0, 1.0], 300)
    design = np.column_stack([np.ones(600), treated, np.concatenate([before, after])])
    values = np.concatenate([control, treatment])
    coefficients, residual, *_ = np.linalg.lstsq(design, values)
    variance = residual[0] / (600 - 4) * np.linalg.inv(design.T @ design)[1, 1]
    assert ours.estimate == pytest.approx(coefficients[1])
    assert ours.standard_error == pytest.approx(np.sqrt(variance), rel=0.01)
    assert ours.standard_error < 0.6 * welch(control, treatment).standard_error


def test_coefficients_make_the_variance_of_the_difference_smallest() -> None:
    (control, before), (treatment, after) = arms(3, (80, 240))
    found = adjusted(control, treatment, before, after)

    def variance(coefficients: np.ndarray) -> float:
        return float(
            (control - before @ coefficients).var(ddof=1) / 80
            + (treatment - after @ coefficients).var(ddof=1) / 240
        )

    best = variance(found.coefficients)
    for step in ([0.01, 0], [-0.01, 0], [0, 0.001], [0, -0.001]):
        assert best < variance(found.coefficients + step)
    assert found.explained == pytest.approx(1 - best / variance(np.zeros(2)))


@given(st.floats(0.1, 1e6), st.floats(-1e3, 1e3))
@settings(max_examples=20, deadline=None)
def test_units_of_measurement_and_repeated_covariates_change_nothing(
    scale: float, shift: float
) -> None:
    (control, before), (treatment, after) = arms(4, (40, 50))
    ours = cuped(control, treatment, before, after)
    rescaled = cuped(control, treatment, before * scale + shift, after * scale + shift)
    assert rescaled.estimate == pytest.approx(ours.estimate)
    found = adjusted(control, treatment, before, after)
    twice = adjusted(control, treatment, np.tile(before, 2), np.tile(after, 2))
    assert twice.control == pytest.approx(found.control)


def test_a_constant_covariate_takes_nothing_away() -> None:
    (control, _), (treatment, _) = arms(5)
    found = adjusted(control, treatment, np.ones((300, 1)), np.ones((300, 1)))
    assert found.explained == 0.0
    assert found.control == pytest.approx(control)


def test_more_covariates_than_units_can_carry() -> None:
    with pytest.raises(InvalidArgument, match="too many"):
        cuped([1.0, 2.0], [1.0, 3.0], np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(InvalidArgument, match="a row for each"):
        cuped([1.0, 2.0], [1.0, 3.0], np.ones(3), np.ones(2))

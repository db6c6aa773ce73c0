import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.analysis.statistics.clusters import (
    cluster_robust,
    clustered,
    intraclass_correlation,
)
from offline.analysis.statistics.means import linearised, welch
from services.common.errors import InvalidArgument


def drawn(seed: int, sizes: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = random.normal(5, 1, len(sizes))[clusters] + random.normal(size=len(clusters))
    return values, clusters >= len(sizes) // 2, clusters


def symmetric_power(matrix: np.ndarray, power: float) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(eigenvalues**power) @ vectors.T


def by_definition(
    values: np.ndarray, design: np.ndarray, clusters: np.ndarray, contrast: np.ndarray
) -> tuple[float, float]:
    """Variance and degrees of freedom of a contrast with matrices of units x units.

    Pustejovsky & Tipton 2018, equations 4 to 6 and 11, for independent errors of one variance.
    """
    inverse = np.linalg.inv(design.T @ design)
    hat = design @ inverse @ design.T
    rest = np.eye(len(values)) - hat
    residual = rest @ values
    variance, columns = 0.0, []
    for cluster in np.unique(clusters):
        inside = clusters == cluster
        adjustment = symmetric_power(np.eye(inside.sum()) - hat[np.ix_(inside, inside)], -0.5)
        weights = adjustment @ design[inside] @ inverse @ contrast
        variance += float(weights @ residual[inside]) ** 2
        columns.append(rest[:, inside] @ weights)
    gram = np.stack(columns).T.T @ np.stack(columns).T
    return variance, np.trace(gram) ** 2 / (gram**2).sum()


def test_it_is_the_definition() -> None:
    values, treated, clusters = drawn(1, [3, 1, 8, 2, 5, 4, 9])
    before = np.random.default_rng(2).normal(size=len(values))
    design = np.column_stack([np.ones(len(values)), treated, before])
    ours = cluster_robust(values, design, clusters)
    for contrast in np.eye(3):
        variance, freedom = by_definition(values, design, clusters, contrast)
        assert contrast @ ours.covariance @ contrast == pytest.approx(variance)
        assert ours.degrees_of_freedom(contrast) == pytest.approx(freedom)


def test_numbers_of_stata() -> None:
    # dfadjust (Kolesár), tests/testthat/test_clustervar.R: Stata's reg y x, vce(hc2).
    values = np.concatenate([np.cos(np.arange(10)), np.tan(np.arange(1, 11))])
    regressor = np.concatenate([np.sin(np.arange(1, 11)), np.sin(np.arange(2, 12))])
    found = cluster_robust(values, np.column_stack([np.ones(20), regressor]), np.arange(20))
    assert found.coefficients == pytest.approx([-0.4456202905, 0.3241183110])
    errors = np.sqrt(np.diag(found.covariance))
    assert errors == pytest.approx([0.4227339762, 0.4421048122])


def test_published_degrees_of_freedom() -> None:
    # Imbens & Kolesár 2016: 3 of 30 units treated, on their own: 2.5 degrees of freedom.
    treated = np.arange(30) < 3
    design = np.column_stack([~treated, treated]).astype(float)
    found = cluster_robust(np.random.default_rng(1).normal(size=30), design, np.arange(30))
    assert found.degrees_of_freedom([-1, 1]) == pytest.approx(2.5, abs=0.05)


def test_units_on_their_own_have_welchs_standard_error() -> None:
    values, treated, _ = drawn(3, [20, 20])
    ours = clustered(values, treated, np.arange(40))
    plain = welch(values[~treated], values[treated])
    assert ours.standard_error == pytest.approx(plain.standard_error)
    assert ours.estimate == pytest.approx(plain.estimate)
    assert (ours.control_mean, ours.treatment_mean) == pytest.approx(
        (plain.control_mean, plain.treatment_mean)
    )


@given(st.integers(0, 10_000), st.floats(0.1, 100))
@settings(max_examples=15, deadline=None)
def test_invariants(seed: int, scale: float) -> None:
    values, treated, clusters = drawn(seed, [5, 2, 9, 4, 4, 7, 3, 1])
    ours = clustered(values, treated, clusters)
    swapped = clustered(values * scale, ~treated, clusters)
    assert swapped.estimate == pytest.approx(-scale * ours.estimate)
    assert swapped.p_value == pytest.approx(ours.p_value)
    order = np.random.default_rng(seed).permutation(len(values))
    moved = clustered(values[order], treated[order], [f"room {c}" for c in clusters[order]])
    assert moved.standard_error == pytest.approx(ours.standard_error)
    assert 1 <= ours.degrees_of_freedom <= 6


def test_covariates_of_units_narrow_it() -> None:
    values, treated, clusters = drawn(4, [12] * 20)
    before = values + np.random.default_rng(5).normal(size=len(values)) * 0.3
    plain = clustered(values, treated, clusters)
    assert clustered(values, treated, clusters, covariates=before).standard_error < (
        0.6 * plain.standard_error
    )


def test_ratios_by_linearised_values() -> None:
    random = np.random.default_rng(6)
    below = 1.0 + random.poisson(3, 60)
    above = random.binomial(below.astype(int), 0.4)
    treated, clusters = np.arange(60) >= 30, np.arange(60) // 5
    values = np.empty(60)
    for arm in (treated, ~treated):
        values[arm] = linearised(above[arm], below[arm])
    found = clustered(values, treated, clusters)
    assert found.treatment_mean == pytest.approx(above[30:].sum() / below[30:].sum())


def test_intraclass_correlation() -> None:
    random = np.random.default_rng(7)
    clusters = np.repeat(np.arange(400), random.integers(1, 20, 400))
    values = random.normal(0, 0.5, 400)[clusters] + random.normal(0, np.sqrt(0.75), len(clusters))
    assert intraclass_correlation(values, clusters) == pytest.approx(0.25, abs=0.04)
    # Balanced: the textbook formula (MSB - MSW) / (MSB + (m - 1) MSW).
    table = random.normal(size=(6, 4)) + np.arange(6)[:, None]
    between = 4 * table.mean(axis=1).var(ddof=1)
    within = table.var(axis=1, ddof=1).mean()
    expected = (between - within) / (between + 3 * within)
    assert intraclass_correlation(table.ravel(), np.repeat(np.arange(6), 4)) == pytest.approx(
        expected
    )


def test_bad_input() -> None:
    values, treated, clusters = drawn(8, [4, 4, 4, 4])
    with pytest.raises(InvalidArgument, match="needs at least 2, has 1"):
        clustered(values, treated, treated)
    with pytest.raises(InvalidArgument, match="depend on one another"):
        clustered(values, treated, clusters, covariates=np.ones(16))
    with pytest.raises(InvalidArgument, match="treated"):
        clustered(values, treated[:-1], clusters)
    with pytest.raises(InvalidArgument, match="two clusters"):
        intraclass_correlation(values, np.zeros(16))


def test_coefficients_that_one_cluster_each_decides_have_no_freedom() -> None:
    values, treated, _ = drawn(3, [4, 4])
    design = np.column_stack([~treated, treated]).astype(float)
    alone = cluster_robust(values, design, treated)
    with pytest.raises(InvalidArgument, match="clusters: decide every coefficient alone"):
        alone.degrees_of_freedom([-1, 1])

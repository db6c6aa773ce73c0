"""The bootstrap covers what it says, and pairs differences."""

import numpy as np
import pytest

from offline.evaluation.bootstrap import Interval, clustered_interval, interval, resampled_means
from offline.evaluation.compare import Outcome, compare


def interval_of(sample: np.ndarray, *, confidence: float = 0.95, **draws: int) -> Interval:
    means = resampled_means(sample[:, None], **draws)[:, 0]
    return interval(float(sample.mean()), means, confidence)


def test_intervals_cover_the_mean_of_a_known_distribution_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    worlds, covered = 200, 0
    for world in range(worlds):
        sample = rng.exponential(2.0, size=300)
        found = interval_of(sample, resamples=300, seed=world, confidence=0.9)
        covered += found.low <= 2.0 <= found.high
    # Binomial(200, 0.9) has a standard deviation of 0.021.
    assert 0.82 <= covered / worlds <= 0.96


def test_width_is_that_of_the_standard_error() -> None:
    sample = np.random.default_rng(1).normal(3.0, 1.0, size=2_000)
    found = interval_of(sample, resamples=2_000, seed=2)
    standard_error = sample.std() / np.sqrt(len(sample))
    assert found.mean == pytest.approx(sample.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.08)


def test_same_seed_same_draws_for_every_column() -> None:
    sample = np.random.default_rng(1).normal(size=(50, 1))
    means = resampled_means(np.hstack([sample, sample + 1.0]), resamples=20, seed=3)
    assert np.allclose(means[:, 1] - means[:, 0], 1.0)
    assert np.array_equal(
        means, resampled_means(np.hstack([sample, sample + 1.0]), resamples=20, seed=3)
    )


def test_a_constant_gain_is_certain_although_users_differ_widely() -> None:
    base = np.random.default_rng(7).random(400) * 0.5
    names = ("hr@10", "ndcg@10", "mrr")
    ours = Outcome("ours", dict.fromkeys(names, base + 0.01), 1.0)
    theirs = Outcome("theirs", dict.fromkeys(names, base), 1.0)
    found = compare([ours, theirs], resamples=200)
    alone = found.figures["ours"]["ndcg@10"]
    assert alone.high - alone.low > 0.02
    for difference in found.differences:
        assert difference.value.low == pytest.approx(0.01)
        assert difference.value.high == pytest.approx(0.01)


def test_no_users_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        resampled_means(np.zeros((0, 1)), resamples=1, seed=0)


def test_worlds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    alike = [rng.normal(0.0, 1.0, 400) for _ in range(6)]
    apart = [values + shift for values, shift in zip(alike, range(6), strict=True)]
    narrow, wide = clustered_interval(alike), clustered_interval(apart)
    assert wide.mean == pytest.approx(np.mean([values.mean() for values in apart]))
    # Users alone: 1 / sqrt(2400) = 0.02; shifts 0..5 alone: 1.71 / sqrt(6) = 0.70.
    assert narrow.high - narrow.low == pytest.approx(3.92 * 0.02 * np.sqrt(2), rel=0.5)
    assert wide.high - wide.low == pytest.approx(3.92 * 0.70, rel=0.15)


def test_one_world_alone_has_the_plain_interval() -> None:
    values = np.random.default_rng(2).normal(size=500)
    plain = interval_of(values, resamples=2000, seed=0)
    found = clustered_interval([values])
    assert found.low == pytest.approx(plain.low, abs=0.01)
    assert found.high == pytest.approx(plain.high, abs=0.01)

"""Intervals cover the truth as often as they say; what can't be estimated is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.evaluation.off_policy.estimate import Estimate, Refused, Resampling, estimate
from offline.evaluation.off_policy.estimators import Estimator
from offline.evaluation.off_policy.slates import LoggedSlates, Predictions
from offline.evaluation.off_policy.support import Limits, Reason
from offline.evaluation.off_policy.weights import RewardModel
from services.common.errors import InvalidArgument
from tests.unit.offline.evaluation.off_policy.slate_worlds import POSITIONS, world

ANYTHING = Limits(
    unsupported_mass=1.0,
    effective_sample_size=0.0,
    mean_weight_errors=1e9,
    effective_rewards=0.0,
    switched_mass=np.inf,
)
FEW = Resampling(resamples=200)


def logged(
    weights: np.ndarray, rewards: np.ndarray | None = None, **further: np.ndarray
) -> LoggedSlates:
    """Slates of one position that weigh ``weights`` [n]; every one is rewarded by default."""
    with np.errstate(divide="ignore"):
        new = np.log(weights)[:, None] - 12.0
    earned = np.ones(len(weights)) if rewards is None else rewards
    return LoggedSlates(earned[:, None], np.full(new.shape, -12.0), new, **further)


def refused(slates: LoggedSlates, **settings_of: object) -> Refused:
    found = estimate(slates, RewardModel.CASCADE, Estimator.IPS, **settings_of)  # type: ignore[arg-type]
    assert isinstance(found, Refused)
    return found


def given_estimate(*arguments: object, **further: object) -> Estimate:
    found = estimate(*arguments, **further)  # type: ignore[arg-type]
    assert isinstance(found, Estimate), found
    return found


@pytest.mark.parametrize("model", RewardModel)
def test_intervals_cover_the_truth_and_estimates_centre_on_it(model: RewardModel) -> None:
    small = world(model)
    every = small.every_slate(model)
    guesses = small.predictions(model, lambda j, items: 0.1 * j + 0.05 * items[-1])
    runs, slates = 100, 300
    values: dict[Estimator, list[Estimate]] = {estimator: [] for estimator in Estimator}
    for run in range(runs):
        rng = np.random.default_rng([run, 17])
        rows = small.sample_rows(slates, rng)
        rewards = (rng.random((slates, POSITIONS)) < small.chances[rows]).astype(np.float64)
        log = LoggedSlates(rewards, every.log_propensities[rows], every.new_log_propensities[rows])
        guessed = Predictions(guesses.logged[rows], guesses.new[rows])
        for estimator, found in values.items():
            found.append(
                given_estimate(
                    log,
                    model,
                    estimator,
                    predictions=guessed,
                    limits=Limits(effective_sample_size=20.0),
                    resampling=Resampling(resamples=80, seed=run, confidence=0.9),
                )
            )
    for estimator, found in values.items():
        covered = sum(one.low <= small.truth <= one.high for one in found) / runs
        # Binomial(100, 0.9) has a standard deviation of 0.03; switch-DR may be biased.
        assert 0.8 <= covered <= 0.98, (estimator, covered)
        drawn = np.array([one.value for one in found])
        away = abs(drawn.mean() - small.truth) / (drawn.std() / np.sqrt(runs))
        assert away < 4.0 or estimator == Estimator.SWITCH_DR, (estimator, away)
        errors = np.array([one.standard_error for one in found])
        assert errors.mean() == pytest.approx(drawn.std(), rel=0.25)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), model=st.sampled_from(RewardModel))
def test_of_the_logging_policy_itself_everything_gives_the_mean(
    seed: int, model: RewardModel
) -> None:
    rng = np.random.default_rng(seed)
    rewards, logs = rng.normal(size=(30, 3)), -rng.exponential(size=(30, 3))
    nothing = Predictions(np.zeros((30, 3)), np.zeros((30, 3)))
    for estimator in Estimator:
        found = given_estimate(
            LoggedSlates(rewards, logs, logs),
            model,
            estimator,
            predictions=nothing,
            limits=ANYTHING,
            resampling=FEW,
        )
        assert found.value == pytest.approx(rewards.sum(axis=1).mean())
        assert found.low <= found.value <= found.high
        assert found.effective_sample_size == pytest.approx(30)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), estimator=st.sampled_from(Estimator))
def test_with_one_position_the_models_agree_and_padding_adds_nothing(
    seed: int, estimator: Estimator
) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(40, 1)), *-rng.exponential(size=(2, 40, 1))]
    guessed = list(rng.normal(size=(2, 40, 1)))
    values = []
    for columns in (0, 2):
        padding = np.zeros((40, columns))
        slates = LoggedSlates(*(np.hstack([array, padding]) for array in arrays))
        predictions = Predictions(*(np.hstack([array, padding]) for array in guessed))
        values += [
            given_estimate(
                slates,
                model,
                estimator,
                predictions=predictions,
                threshold=2.0,
                limits=ANYTHING,
                resampling=FEW,
            ).value
            for model in RewardModel
        ]
    assert values == pytest.approx([values[0]] * 6)


def test_slates_of_one_user_count_as_one() -> None:
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(200), 10)
    # What a user earns, all her slates earn.
    rewards = (rng.random(200) < 0.5).astype(np.float64)[users]
    alone = given_estimate(logged(np.ones(2_000), rewards), RewardModel.CASCADE, Estimator.SNIPS)
    together = given_estimate(
        logged(np.ones(2_000), rewards, groups=users * 3), RewardModel.CASCADE, Estimator.SNIPS
    )
    assert together.value == pytest.approx(alone.value)
    assert together.effective_sample_size == pytest.approx(200)
    width = (together.high - together.low) / (alone.high - alone.low)
    assert width == pytest.approx(np.sqrt(10), rel=0.15)
    assert together.standard_error / alone.standard_error == pytest.approx(np.sqrt(10))


def test_mass_that_the_log_could_not_take_is_refused() -> None:
    mass = np.where(np.arange(1_000) < 500, 0.0, 0.1)
    found = refused(logged(np.ones(1_000), unsupported=mass))
    assert found.reason == Reason.NO_SUPPORT
    assert "5.0%" in found.details
    assert found.support.unsupported_mass == pytest.approx(0.05)


def test_a_small_effective_sample_is_refused() -> None:
    weights = np.full(1_000, 0.5)
    weights[0] = 500.5
    found = refused(logged(weights))
    assert found.reason == Reason.SMALL_EFFECTIVE_SAMPLE
    assert found.support.effective_sample_size == pytest.approx(1_000**2 / (500.5**2 + 999 / 4))
    assert found.support.largest_weight == pytest.approx(0.5005)
    assert "1,000 logged are worth 4.0" in found.details


def test_a_mean_weight_away_from_one_is_refused() -> None:
    # No large weight was drawn, and half of the new policy's mass is nowhere.
    rng = np.random.default_rng(1)
    found = refused(logged(rng.uniform(0.4, 0.6, 1_000)))
    assert found.reason == Reason.MEAN_WEIGHT
    assert "0.5" in found.details


def test_few_rewards_are_refused() -> None:
    rewards = np.zeros(1_000)
    rewards[:9] = 1.0
    found = refused(logged(np.ones(1_000), rewards))
    assert found.reason == Reason.FEW_REWARDS
    assert found.support.effective_rewards == pytest.approx(9.0)
    nothing = refused(logged(np.ones(1_000), np.zeros(1_000)))
    assert (nothing.reason, nothing.support.effective_rewards) == (Reason.FEW_REWARDS, 0.0)


def test_switching_most_of_the_mass_is_refused() -> None:
    weights = np.tile([0.5, 1.5], 500)
    guessed = Predictions(np.full((1_000, 1), 0.5), np.full((1_000, 1), 0.5))
    found = estimate(
        logged(weights),
        RewardModel.CASCADE,
        Estimator.SWITCH_DR,
        predictions=guessed,
        threshold=1.0,
    )
    assert isinstance(found, Refused)
    assert found.reason == Reason.MOSTLY_PREDICTED
    assert "75.0%" in found.details


def test_of_the_mean_weights_the_one_furthest_beyond_its_limit_counts() -> None:
    # Half a per cent off for certain at the first position, half off at the second, less surely.
    second = np.where(np.arange(1_000) < 100, 0.0, np.where(np.arange(1_000) % 2, 0.9, 0.2))
    new = np.log(np.column_stack([np.full(1_000, 1.005), np.maximum(second, 1e-9)])) - 12.0
    found = estimate(
        LoggedSlates(np.ones(new.shape), np.full(new.shape, -12.0), new),
        RewardModel.PER_POSITION,
        Estimator.IPS,
    )
    assert isinstance(found, Refused)
    assert found.reason == Reason.MEAN_WEIGHT
    assert found.support.mean_weight == pytest.approx(second.mean())


def test_no_weight_at_all_is_refused_and_huge_ones_stay_finite() -> None:
    nothing = refused(logged(np.zeros(1_000)))
    assert nothing.reason == Reason.SMALL_EFFECTIVE_SAMPLE
    assert nothing.support.effective_sample_size == 0.0
    new = np.zeros((1_000, 1))
    huge = refused(LoggedSlates(np.ones((1_000, 1)), np.where(new == 0, -1e4, new), new))
    # All weigh the same, however much: only their mean tells.
    assert huge.reason == Reason.MEAN_WEIGHT
    assert huge.support.effective_sample_size == pytest.approx(1_000)


def test_what_makes_no_sense_is_named() -> None:
    good = np.zeros((5, 2))
    for field, arrays in {
        "rewards": (np.zeros(5), good, good),
        "log_propensities": (good, np.zeros((5, 3)), good),
        "new_log_propensities": (good, good, good + 0.1),
    }.items():
        with pytest.raises(InvalidArgument, match=f"^{field}"):
            LoggedSlates(*arrays)
    with pytest.raises(InvalidArgument, match=r"^log_propensities"):
        LoggedSlates(good, good - np.inf, good)
    with pytest.raises(InvalidArgument, match=r"^rewards"):
        LoggedSlates(good * np.nan, good, good)
    with pytest.raises(InvalidArgument, match=r"^unsupported"):
        LoggedSlates(good, good, good, unsupported=np.full(5, 1.5))
    with pytest.raises(InvalidArgument, match=r"^groups"):
        LoggedSlates(good, good, good, groups=np.full(5, -1))
    with pytest.raises(InvalidArgument, match=r"^logged"):
        Predictions(good * np.nan, good)
    slates = LoggedSlates(np.ones((5, 2)), good, good)
    for predictions in (None, Predictions(np.zeros((5, 1)), np.zeros((5, 1)))):
        with pytest.raises(InvalidArgument, match=r"^predictions"):
            estimate(
                slates, RewardModel.CASCADE, Estimator.DR, predictions=predictions, limits=ANYTHING
            )

from itertools import combinations

import numpy as np
import pytest

from offline.analysis.statistics.clusters import clustered
from offline.analysis.statistics.switchback import randomisation_p, settled, switchback
from services.common.errors import InvalidArgument

HALF_HOUR_MS = 30 * 60_000


def world(seed: int, slices: int, carried: float) -> tuple[np.ndarray, ...]:
    """Observations a minute apart; an effect of 1, of which ``carried`` lasts ten minutes."""
    random = np.random.default_rng(seed)
    arms = random.integers(0, 2, slices).astype(bool)
    number = np.repeat(np.arange(slices), 30)
    elapsed_ms = np.tile(np.arange(30) * 60_000, slices)
    before = np.concatenate([arms[:1], arms[:-1]])[number]
    early = elapsed_ms < 600_000
    effect = np.where(early, (1 - carried) * arms[number] + carried * before, arms[number])
    return effect + 0.01 * random.normal(size=len(number)), arms[number], number, elapsed_ms


def test_carry_over_hides_a_part_and_burn_in_brings_it_back() -> None:
    observations = world(1, 200, carried=0.9)
    assert switchback(*observations).estimate < 0.9
    kept = switchback(*observations, burn_in_ms=600_000)
    assert kept.estimate == pytest.approx(1.0, abs=0.005)
    assert kept.method == "switchback"


def test_without_burn_in_it_is_clustered_by_slice_or_block() -> None:
    values, treated, number, elapsed_ms = world(2, 40, carried=0.0)
    plain = switchback(values, treated, number, elapsed_ms)
    assert plain.p_value == clustered(values, treated, number).p_value
    blocks = switchback(values, treated, number, elapsed_ms, block_slices=4)
    assert blocks.standard_error == clustered(values, treated, number // 4).standard_error
    assert blocks.degrees_of_freedom < plain.degrees_of_freedom


def test_what_is_settled() -> None:
    arms = np.array([True, True, False, False, False])
    number = np.array([3, 4, 5, 6, 8])
    early = np.zeros(5, dtype=np.int64)
    # The first slice and the one after a gap follow nobody knows what.
    assert settled(arms, number, early, burn_in_ms=10).tolist() == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert settled(arms, number, early + 10, burn_in_ms=10).all()


def test_bad_input() -> None:
    values, treated, number, elapsed_ms = world(3, 10, carried=0.0)
    with pytest.raises(InvalidArgument, match="two arms"):
        switchback(values, treated, number // 2, elapsed_ms)
    with pytest.raises(InvalidArgument, match="block_slices"):
        switchback(values, treated, number, elapsed_ms, block_slices=0)
    with pytest.raises(InvalidArgument, match="elapsed_ms"):
        switchback(values, treated, number, elapsed_ms[1:])


@pytest.mark.parametrize("of_ratios", [False, True])
def test_the_randomisation_p_value_is_that_of_all_ways_to_draw_the_arms(of_ratios: bool) -> None:
    random = np.random.default_rng(8)
    number = np.repeat(np.arange(9), random.integers(1, 6, 9))
    treated = np.isin(number, (0, 3, 4, 7))
    values = random.normal(size=len(number)) + 0.7 * treated
    below = random.uniform(0.5, 1.0, len(number)) if of_ratios else np.ones(len(number))

    def gap(arms: np.ndarray) -> float:
        return abs(
            values[arms].sum() / below[arms].sum() - values[~arms].sum() / below[~arms].sum()
        )

    gaps = [gap(np.isin(number, chosen)) for chosen in combinations(range(9), 4)]
    exact = np.mean(np.array(gaps) >= gap(treated) * (1 - 1e-12))
    found = randomisation_p(
        values, treated, number, denominators=below if of_ratios else None, draws=20_000
    )
    assert 0.01 < exact < 0.6
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))


def test_a_randomisation_test_wants_slices_of_one_arm() -> None:
    values, treated, number, _ = world(3, 10, carried=0.0)
    with pytest.raises(InvalidArgument, match="two arms"):
        randomisation_p(values, treated, number // 2)
    with pytest.raises(InvalidArgument, match="denominators"):
        randomisation_p(values, treated, number, denominators=values[1:])

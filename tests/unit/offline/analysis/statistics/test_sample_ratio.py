import pytest
import scipy.stats

from offline.analysis.statistics.sample_ratio import sample_ratio
from services.common.errors import InvalidArgument


def test_the_known_mismatch_alarms() -> None:
    # Kohavi, Tang & Xu 2020, "Trustworthy Online Controlled Experiments", chapter 21: 821,588 users
    # against 815,482 where half each was designed; p is 1.8e-6.
    found = sample_ratio([821_588, 815_482], [0.5, 0.5])
    assert found.p_value == pytest.approx(1.8e-6, rel=0.02)
    assert found.alarm


def test_it_is_scipys_for_unequal_weights() -> None:
    observed, weights = [980, 2050, 3100], [1.0, 2.0, 3.0]
    total = sum(observed)
    theirs = scipy.stats.chisquare(observed, [total / 6, total / 3, total / 2])
    found = sample_ratio(observed, weights)
    assert (found.statistic, found.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert not found.alarm


def test_units_where_there_should_be_none() -> None:
    assert sample_ratio([10, 10, 1], [0.5, 0.5, 0.0]).p_value == 0.0
    assert sample_ratio([10, 10, 0], [0.5, 0.5, 0.0]).p_value == 1.0
    assert sample_ratio([0, 0], [0.5, 0.5]).p_value == 1.0


@pytest.mark.parametrize(
    ("observed", "weights"), [([1, 2], [1.0]), ([1, 2], [0.0, 0.0]), ([-1, 2], [0.5, 0.5])]
)
def test_bad_input(observed: list[int], weights: list[float]) -> None:
    with pytest.raises(InvalidArgument):
        sample_ratio(observed, weights)

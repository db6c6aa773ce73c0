import numpy as np
import pytest
import scipy.stats

from offline.analysis.statistics.interleaving import team_draft
from services.common.errors import InvalidArgument


def test_it_counts_users_not_slates() -> None:
    # One user with many slates has one vote.
    users = ["a"] * 10 + ["b", "c", "d"]
    control = [0.0] * 10 + [1.0, 1.0, 2.0]
    treatment = [1.0] * 10 + [0.0, 0.0, 2.0]
    found = team_draft(users, control, treatment)
    assert (found.wins, found.losses, found.ties) == (1, 2, 1)
    # Chapelle et al. 2012: (wins + ties / 2) / all - 0.5.
    assert found.preference == pytest.approx((1 + 0.5) / 4 - 0.5)
    assert found.credit_difference == pytest.approx((10 - 1 - 1 + 0) / 4)


def test_tests_are_scipys() -> None:
    random = np.random.default_rng(1)
    control, treatment = random.poisson(1.0, 80), random.poisson(1.4, 80)
    found = team_draft(np.arange(80), control, treatment)
    differences = treatment - control
    assert found.credit_p_value == pytest.approx(scipy.stats.ttest_rel(treatment, control).pvalue)
    assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(np.sign(differences), 0).pvalue)
    wins, losses = (differences > 0).sum(), (differences < 0).sum()
    assert found.sign_p_value == pytest.approx(scipy.stats.binomtest(wins, wins + losses).pvalue)
    assert found.lower < found.preference < found.upper


def test_swapped_teams_flip_the_preference() -> None:
    random = np.random.default_rng(2)
    users, (control, treatment) = random.integers(0, 20, 100), random.poisson(1.0, (2, 100))
    ours, swapped = team_draft(users, control, treatment), team_draft(users, treatment, control)
    assert ours.preference == pytest.approx(-swapped.preference)
    assert ours.sign_p_value == pytest.approx(swapped.sign_p_value)


def test_all_ties_and_bad_input() -> None:
    found = team_draft([1, 2, 3], [1, 1, 1], [1, 1, 1])
    assert (found.preference, found.p_value, found.sign_p_value) == (0.0, 1.0, 1.0)
    with pytest.raises(InvalidArgument, match="users"):
        team_draft([1, 1], [1, 2], [1, 2])
    with pytest.raises(InvalidArgument, match="treatment_credits"):
        team_draft([1, 2], [1, 2], [1, 2, 3])

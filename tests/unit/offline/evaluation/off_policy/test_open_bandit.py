"""Logs of the Open Bandit Dataset: read, replayed for the other policy, refused where due."""

from pathlib import Path

import numpy as np
import pytest

from offline.evaluation.off_policy.comparison import Comparison, compare_policies
from offline.evaluation.off_policy.estimate import Estimate, Refused, Resampling
from offline.evaluation.off_policy.estimators import Estimator
from offline.evaluation.off_policy.open_bandit import Campaign, read_campaigns
from offline.evaluation.off_policy.support import Reason
from services.common.errors import InvalidArgument, NotFound, PodiumError
from tests.support.open_bandit import CLICK_RATES, THOMPSON, write_open_bandit, write_table

DATA = Path(__file__).parents[6] / "shared" / "data" / "open_bandit"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the Open Bandit Dataset does not lie beside the checkout, in {DATA}"
)


def only(folder: Path) -> Campaign:
    (campaign,) = read_campaigns(folder)
    return campaign


def test_each_policy_is_estimated_from_the_others_log(tmp_path: Path) -> None:
    write_open_bandit(tmp_path)
    campaign = only(tmp_path)
    assert (campaign.name, campaign.positions) == ("men", 2)
    assert campaign.distribution("random") == pytest.approx(np.full((2, 4), 0.25))
    assert campaign.distribution("bts") == pytest.approx(THOMPSON, abs=0.04)
    truths = {"random": CLICK_RATES.mean(), "bts": (THOMPSON @ CLICK_RATES).mean()}
    comparisons = compare_policies(campaign, resampling=Resampling(resamples=300))
    assert [(c.logged, c.new) for c in comparisons] == [("random", "bts"), ("bts", "random")]
    for comparison in comparisons:
        truth = truths[comparison.new]
        assert comparison.truth is not None
        assert comparison.logged_value.mean == campaign.logs[comparison.logged].click_rate
        assert comparison.truth.low < truth < comparison.truth.high
        assert comparison.truth.mean == campaign.logs[comparison.new].click_rate
        for result in comparison.results:
            assert isinstance(result, Estimate)
            assert result.low < truth < result.high
            assert result.value == pytest.approx(truth, rel=0.15)


def test_predictions_come_from_rows_that_do_not_hold_their_own(tmp_path: Path) -> None:
    write_open_bandit(tmp_path, impressions=50)
    campaign = only(tmp_path)
    log = campaign.logs["random"]
    predictions = campaign.predictions("random", "bts", folds=5)
    for row in (0, 7, 49):
        others = np.arange(50) % 5 != row % 5
        rate = log.clicks[others].mean()
        rates = []
        for item in range(4):
            clicks = log.clicks[others & (log.items == item)]
            rates.append((clicks.sum() + 1.0) / (len(clicks) + 1.0 / rate))
        assert predictions.logged[row, 0] == pytest.approx(rates[log.items[row]])
        wanted = campaign.distribution("bts")[log.positions[row]]
        assert predictions.new[row, 0] == pytest.approx(wanted @ rates)


def test_what_thompson_sampling_never_shows_it_can_not_tell_of(tmp_path: Path) -> None:
    never = np.array([[0.0, 0.3, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
    write_open_bandit(tmp_path, thompson=never)
    towards, back = compare_policies(only(tmp_path), resampling=Resampling(resamples=100))
    assert all(isinstance(result, Estimate) for result in towards.results)
    for result in back.results:
        assert isinstance(result, Refused)
        assert result.reason == Reason.NO_SUPPORT
        # A quarter of the random policy's mass, at one position of two.
        assert result.support.unsupported_mass == pytest.approx(0.125, abs=0.01)


def test_what_is_no_such_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no campaign"):
        list(read_campaigns(tmp_path))
    write_open_bandit(tmp_path, impressions=20)
    place = tmp_path / "bts" / "men"
    header = ["item_id", "position", "click", "propensity_score"]
    wrong: dict[str, tuple[list[str], list[list[object]]]] = {
        "no column propensity_score": (header[:3], [[0, 1, 0]]),
        "no rows": (header, []),
        "men.csv:2: 3 values, 4 columns": (header, [[0, 1, 0]]),
        "item '9' is not in": (header, [[9, 1, 0, 0.5]]),
        "invalid literal": (header, [[0, "first", 0, 0.5]]),
        "men.csv:3: position must be at least 1": (header, [[0, 1, 0, 0.5], [0, 0, 0, 0.5]]),
        "click must be 0 or 1": (header, [[0, 1, 2, 0.5]]),
        "propensity_score must be above 0": (header, [[0, 1, 0, 0.0]]),
    }
    for message, (columns, rows) in wrong.items():
        write_table(place / "men.csv", columns, rows)
        with pytest.raises(InvalidArgument, match=message):
            list(read_campaigns(tmp_path))
    write_table(place / "men.csv", header, [[0, 1, 0, 0.5]])
    with pytest.raises(PodiumError, match="shows nothing at some position"):
        only(tmp_path).distribution("bts")
    write_table(place / "item_context.csv", ["item_id"], [[1], [0]])
    with pytest.raises(InvalidArgument, match="same for each policy"):
        list(read_campaigns(tmp_path))
    (place / "item_context.csv").unlink()
    with pytest.raises(NotFound, match="item_context"):
        list(read_campaigns(tmp_path))


@pytest.fixture(scope="module")
def replayed() -> dict[tuple[str, str, str], Comparison]:
    return {
        (comparison.group, comparison.logged, comparison.new): comparison
        for campaign in read_campaigns(DATA)
        for comparison in compare_policies(campaign)
    }


@needs_data
def test_of_the_real_logs_women_from_thompson_to_random_is_refused(
    replayed: dict[tuple[str, str, str], Comparison],
) -> None:
    assert len(replayed) == 4
    results = replayed["women", "bts", "random"].results
    assert len(results) == len(Estimator)
    for result in results:
        assert isinstance(result, Refused)
        assert result.reason == Reason.SMALL_EFFECTIVE_SAMPLE
        # One propensity of a millionth: 10,000 impressions are worth two.
        assert result.support.effective_sample_size == pytest.approx(2.0778, abs=1e-3)


@needs_data
@pytest.mark.parametrize(
    ("campaign", "logged", "new", "clicks", "truth", "by_ips", "by_snips"),
    [
        ("men", "random", "bts", 46, 0.0069, 0.005656267, 0.005739865),
        ("men", "bts", "random", 69, 0.0046, 0.003008626, 0.003189423),
        ("women", "random", "bts", 46, 0.0046, 0.005805692, 0.005833036),
    ],
)
def test_of_the_real_logs_the_others_agree_with_the_truth(
    replayed: dict[tuple[str, str, str], Comparison],
    campaign: str,
    logged: str,
    new: str,
    clicks: int,
    truth: float,
    by_ips: float,
    by_snips: float,
) -> None:
    comparison = replayed[campaign, logged, new]
    assert comparison.truth is not None
    assert (comparison.rewards, comparison.truth.mean) == (clicks, pytest.approx(truth))
    found = {}
    for result in comparison.results:
        assert isinstance(result, Estimate)
        found[result.estimator] = result.value
        assert result.low < comparison.truth.high
        assert result.high > comparison.truth.low
    # Worked out apart from this code, from the files.
    assert found[Estimator.IPS] == pytest.approx(by_ips, abs=1e-8)
    assert found[Estimator.SNIPS] == pytest.approx(by_snips, abs=1e-8)

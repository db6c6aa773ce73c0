"""SASRec on histories whose next item is known, and its network by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from offline.evaluation.compare import judge
from offline.evaluation.fold import Fold, leave_last
from offline.evaluation.ragged import Ragged
from offline.evaluation.ranking import order_keys, top_k
from offline.evaluation.sasrec.baseline import Sasrec, TrainedSasrec, last_items
from offline.evaluation.sasrec.network import Network, NetworkShape
from services.common.errors import FailedPrecondition
from tests.unit.offline.evaluation.worlds import small_fold

ITEMS = 12
STEP = 5
SMALL = Sasrec(dim=16, length=6, learning_rate=1e-2, batch_items=128, epochs=12)


@pytest.fixture(scope="module")
def cycles() -> Fold:
    """The item after i is always i + 5 of 12; the last of each history is asked for."""
    rng = np.random.default_rng(0)
    histories = [
        [int(start + STEP * step) % ITEMS for step in range(rng.integers(4, 9))]
        for start in rng.integers(0, ITEMS, 120)
    ]
    users = tuple(f"user{row}" for row in range(len(histories)))
    return leave_last(tuple(f"item{row}" for row in range(ITEMS)), users, Ragged.of(histories))


@pytest.fixture(scope="module")
def trained(cycles: Fold) -> TrainedSasrec:
    return SMALL.trained(cycles)


def network(*, length: int = 6) -> Network:
    torch.manual_seed(0)
    shape = NetworkShape(items=ITEMS, dim=8, layers=2, heads=2, dropout=0.5, length=length)
    return Network(shape).eval()


def test_a_deterministic_sequence_is_learned(cycles: Fold, trained: TrainedSasrec) -> None:
    outcome = judge("SASRec", trained.scorer(cycles), cycles)
    assert outcome.metrics["ndcg@5"].mean() == 1.0
    assert trained.losses[-1] < trained.losses[0]
    assert max(trained.validation) == 1.0
    assert trained.hit_rate == 1.0


def test_what_comes_later_does_not_change_a_state() -> None:
    items = torch.tensor([[3, 1, 4, 1, 5]])
    before = network()(items)
    for place in range(1, 5):
        changed = items.clone()
        changed[0, place] = 9
        after = network()(changed)
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


def test_padding_on_the_left_changes_nothing() -> None:
    bare = network()(torch.tensor([[3, 1, 4]]))
    padded = network()(torch.tensor([[0, 0, 3, 1, 4]]))
    torch.testing.assert_close(padded[:, 2:], bare)


def test_what_is_barred_is_never_recommended(cycles: Fold, trained: TrainedSasrec) -> None:
    scores = trained.scorer(cycles).score(cycles.asked)
    barred = Ragged.of([[int(best), 0] for best in scores.argmax(axis=1)])
    slate = top_k(order_keys(scores, barred, cycles.available), ITEMS)
    for row in range(len(slate)):
        shown = set(slate[row].tolist()) - {-1}
        assert not shown & set(barred.row(row).tolist())
        assert len(shown) == ITEMS - len(set(barred.row(row).tolist()))


def test_all_at_once_is_one_at_a_time(cycles: Fold, trained: TrainedSasrec) -> None:
    scorer = trained.scorer(cycles)
    every = scorer.score(cycles.asked[:20])
    single = np.concatenate([scorer.score(user[None]) for user in cycles.asked[:20]])
    np.testing.assert_allclose(every, single, rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_scores(cycles: Fold) -> None:
    short = Sasrec(dim=8, length=6, epochs=1, seed=3)
    first, second = (short.fit(cycles).score(cycles.asked) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_what_is_saved_scores_the_same(
    cycles: Fold, trained: TrainedSasrec, tmp_path: Path
) -> None:
    trained.save(tmp_path / "sasrec.pt")
    read = TrainedSasrec.load(tmp_path / "sasrec.pt")
    np.testing.assert_array_equal(
        read.scorer(cycles).score(cycles.asked), trained.scorer(cycles).score(cycles.asked)
    )
    assert (read.validation, read.hit_rate) == (trained.validation, trained.hit_rate)
    with pytest.raises(FailedPrecondition, match="other items"):
        read.scorer(small_fold(3, [[0, 1]]))


def test_a_budget_that_is_spent_ends_training(cycles: Fold) -> None:
    untrained = Sasrec(dim=8, length=6, epochs=1_000_000, budget_s=0.0).trained(cycles)
    assert untrained.losses == ()


def test_the_last_items_stand_on_the_right() -> None:
    histories = Ragged.of([[4, 2, 7], [], [1]])
    assert last_items(histories, 2).tolist() == [[3, 8], [0, 0], [0, 2]]
    assert last_items(Ragged.of([[]]), 2).tolist() == [[0]]

"""The ranker's terms and its choice loss, written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from offline.training.data import Examples, ItemRows
from offline.training.ranker import Ranker, RankerShape
from offline.training.ranking import fit_ranker
from offline.training.ranking_losses import choice_loss
from offline.training.ranking_rows import RankingRows
from offline.training.transforms import FeatureTransform
from services.common.domain import load_domain

ROWS, DIM, OBJECTIVES = 5, 4, 2
SHAPE = RankerShape(dim=DIM, hidden=(8, 4), surfaces=1, objectives=OBJECTIVES, trend=1)


def _ranker() -> Ranker:
    torch.manual_seed(0)
    ranker = Ranker(SHAPE, FeatureTransform([False]), FeatureTransform([True, True]))
    for parameter in ranker.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return ranker.eval()


def _rows() -> RankingRows:
    random = np.random.default_rng(1)
    whole, wide = np.zeros((ROWS, 0), np.int64), np.zeros((ROWS, 3), np.int64)
    ones = np.ones(ROWS, np.int64)
    examples = Examples(
        users=np.array(list("abcde"), object),
        surface=ones,
        entity_type=ones,
        catalogue_row=np.array([7, 3, 7, 4, 5]),
        recent_items=wide,
        recent_actions=wide,
        user_features=random.random((ROWS, 1), np.float32),
        item_features=random.random((ROWS, 2), np.float32) * 20,
        items=ItemRows(ones, whole, np.zeros((ROWS, 0), np.float32)),
        position=ones,
        labels=np.array([[1, 0], [1, 1], [0, 1], [1, 0], [1, 0]], np.float32),
        mature=np.array([[1, 1], [1, 1], [1, 1], [0, 1], [1, 1]], np.float32),
    )
    vectors = random.normal(size=(2, ROWS, DIM)).astype(np.float32)
    return RankingRows(examples, vectors[0], vectors[1])


def _logits(ranker: Ranker, rows: RankingRows, user: int, item: int) -> np.ndarray:
    examples = rows.examples
    with torch.inference_mode():
        found: torch.Tensor = ranker(
            torch.from_numpy(rows.user_vector[[user]]),
            torch.from_numpy(examples.user_features[[user]]),
            torch.tensor([0]),
            torch.from_numpy(rows.item_vector[[item]]),
            torch.from_numpy(examples.item_features[[item]]),
            torch.tensor([0]),
            torch.tensor([1]),
        )
    return found[0].numpy()


def test_the_trend_is_a_term_of_its_own() -> None:
    ranker, rows = _ranker(), _rows()
    before = _logits(ranker, rows, 0, 1)
    with torch.no_grad():
        ranker.trend[1] += torch.tensor([1.0, -2.0])
    count = float(rows.examples.item_features[1, 1])
    added = _logits(ranker, rows, 0, 1) - before
    np.testing.assert_allclose(added, np.log1p(count) * np.array([1.0, -2.0]), rtol=1e-4)


def test_a_choice_is_a_softmax_over_the_block_without_the_item_s_own_copies() -> None:
    ranker, rows = _ranker(), _rows()
    log_share = np.log(np.array([0.4, 0.2, 0.4, 0.2, 0.2], np.float32))
    block = np.arange(ROWS)
    found = float(choice_loss(ranker, rows, block, log_share).detach())
    items = rows.examples.catalogue_row
    losses = []
    for objective in range(OBJECTIVES):
        own = []
        for row in range(ROWS):
            if not rows.examples.labels[row, objective] * rows.examples.mature[row, objective]:
                continue
            others = [o for o in range(ROWS) if o == row or items[o] != items[row]]
            scores = {
                o: _logits(ranker, rows, row, o)[objective] - log_share[o] - np.log(ROWS)
                for o in others
            }
            own.append(np.log(np.exp(list(scores.values())).sum()) - scores[row])
        losses.append(np.mean(own))
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-4)


def test_training_starts_from_retrieval_s_weight_of_the_trend() -> None:
    domain = load_domain(Path(__file__).parents[4] / "config" / "live_courses.yaml")
    # No epoch to learn in: what is found is where it starts.
    still = domain.model.ranker.model_copy(update={"epochs": 0})
    model = domain.model.model_copy(update={"ranker": still, "crosses": {}})
    domain = domain.model_copy(update={"model": model})
    rows, objectives = _rows(), len(domain.objectives)
    random = np.random.default_rng(2)
    examples = replace(
        rows.examples,
        user_features=random.random((ROWS, len(model.user_features)), np.float32),
        item_features=random.random((ROWS, len(model.item_features)), np.float32),
        labels=np.ones((ROWS, objectives), np.float32),
        mature=np.ones((ROWS, objectives), np.float32),
    )
    rows = replace(rows, examples=examples)
    trend = np.array([0.0, 0.3, 0.5, 0.7, 1.1], np.float32)
    found = fit_ranker(domain, rows, rows, None, trend=trend, seed=0, advance=lambda _: None)
    started = found.ranker.trend.detach().numpy()
    # Retrieval's dot product counts times the scale: so does what stood beside it.
    scale = found.ranker.scale.detach().numpy()
    np.testing.assert_allclose(started, scale * trend[:, None], rtol=1e-6)
    column = model.item_features.index(model.retrieval.trend or "")
    assert found.ranker.shape.trend == column

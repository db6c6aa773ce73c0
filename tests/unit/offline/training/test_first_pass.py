"""The first pass: exact where the ranker is a line, better than nearness where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from offline.training.data import Examples, ItemRows
from offline.training.first_pass import figures, fit_first_pass
from offline.training.ranker import Ranker, RankerShape
from offline.training.ranking_rows import CatalogueVectors, RankingRows
from offline.training.transforms import FeatureTransform
from services.common.domain import Domain, load_domain

ROWS, DIM = 300, 4


def _domain() -> Domain:
    return load_domain(Path("config/live_courses.yaml"))


def _rows(entity_type: int = 1) -> RankingRows:
    random = np.random.default_rng(1)
    whole = np.zeros((ROWS, 0), np.int64)
    ones = np.ones(ROWS, np.int64)
    nothing = np.zeros((ROWS, 6), np.float32)
    examples = Examples(
        users=np.array([f"u{n % 40}" for n in range(ROWS)], object),
        # The first surface has three rows of four, the third the others.
        surface=np.where(np.arange(ROWS) % 4 == 3, 3, 1),
        entity_type=ones * entity_type,
        catalogue_row=np.arange(ROWS) % 150,
        recent_items=np.zeros((ROWS, 3), np.int64),
        recent_actions=np.zeros((ROWS, 3), np.int64),
        user_features=random.random((ROWS, 2), np.float32),
        item_features=random.random((ROWS, 3), np.float32) * 20,
        items=ItemRows(ones, whole, np.zeros((ROWS, 0), np.float32)),
        position=ones,
        labels=nothing,
        mature=nothing,
    )
    vectors = random.normal(size=(2, ROWS, DIM)).astype(np.float32)
    return RankingRows(examples, vectors[0], vectors[1])


def _ranker(rows: RankingRows, residual: float) -> Ranker:
    """A ranker of random weights; those of the last layer have this deviation."""
    torch.manual_seed(0)
    shape = RankerShape(dim=DIM, hidden=(16, 8), surfaces=4, objectives=6, trend=1)
    users, items = FeatureTransform([False] * 2), FeatureTransform([True] * 3)
    users.fit(rows.examples.user_features)
    items.fit(rows.examples.item_features)
    ranker = Ranker(shape, users, items)
    for name, parameter in ranker.named_parameters():
        torch.nn.init.normal_(parameter, std=residual if name.startswith("head") else 0.5)
    for objective in range(6):
        ranker.calibrate(objective, 0.8, -0.1 * objective)
    return ranker.eval()


def test_a_line_is_found_again() -> None:
    rows = _rows()
    ranker = _ranker(rows, residual=0.0)
    found = fit_first_pass(_domain(), ranker, rows, None, seed=0)
    assert list(found.slopes) == ["courses", "hosts"]
    for surface, name in ((1, "courses"), (3, "hosts")):
        expected = 0.8 * ranker.scale[surface].detach().numpy()
        np.testing.assert_allclose(found.slopes[name], expected, atol=1e-3)
        features = torch.from_numpy(rows.examples.item_features)
        with torch.inference_mode():
            logits = found.head(features, torch.full((ROWS,), surface))
            trend = torch.log1p(features[:, 1:2]) * ranker.trend[surface] + ranker.bias[surface]
            shown = ranker.position[surface, 0] - torch.arange(6) * 0.125
            np.testing.assert_allclose(logits, (trend + shown) * 0.8, atol=5e-3)
    assert found.metrics["courses.recall_at_40"] == 1.0


def test_beside_a_net_more_of_its_best_are_kept_than_by_nearness() -> None:
    rows = _rows()
    ranker = _ranker(rows, residual=0.4)
    found = fit_first_pass(_domain(), ranker, rows, None, seed=0)
    of_courses = figures(found.metrics, "courses")
    assert list(of_courses) == [40, 100]
    assert all(recall > nearness for recall, nearness in of_courses.values())
    again = fit_first_pass(_domain(), ranker, rows, None, seed=0)
    assert again.metrics == found.metrics
    assert all(np.array_equal(again.slopes[name], s) for name, s in found.slopes.items())


def test_without_impressions_the_whole_catalogue_is_ranked() -> None:
    rows = _rows(entity_type=2)
    random = np.random.default_rng(3)
    catalogue = CatalogueVectors(
        vectors=random.normal(size=(90, DIM)).astype(np.float32),
        features=random.random((90, 3), np.float32) * 20,
        entity_type=np.repeat([1, 2], [20, 70]),
        codes=np.zeros(90, np.int64),
        first=np.array([0, 0, 20]),
    )
    found = fit_first_pass(_domain(), _ranker(rows, residual=0.0), rows, catalogue, seed=0)
    assert found.metrics["courses.items"] == 70
    assert found.metrics["courses.recall_at_40"] == 1.0

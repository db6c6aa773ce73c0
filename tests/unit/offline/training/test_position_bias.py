"""A ranker that knows where items stood learns what people want, not what was shown on top."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from offline.training.data import Examples, ItemRows
from offline.training.ranker import Ranker
from offline.training.ranking import fit_ranker
from offline.training.ranking_rows import RankingRows
from services.common.domain import Domain, load_domain

SLATES, LENGTH, DIM, BIAS = 200, 10, 4, 1.5
CLICK = 0


def _domain() -> Domain:
    domain = load_domain(Path(__file__).parents[4] / "config" / "live_courses.yaml")
    quick = domain.model.ranker.model_copy(
        update={"epochs": 8, "learning_rate": 0.01, "hidden": [8], "batch_size": 256}
    )
    return _with(domain, ranker=quick)


def _with(domain: Domain, **changes: Any) -> Domain:
    """The domain with another model, which reads no cross features: these rows have none."""
    model = domain.model.model_copy(update={"crosses": {}, **changes})
    return domain.model_copy(update={"model": model})


def _world(domain: Domain, seed: int, shown_by: str) -> tuple[RankingRows, NDArray[Any]]:
    """Slates of ten, shown in the order of ``shown_by``, which nobody wants an item for; and the
    true logits [N] of opening what is examined. Examination falls as (1 + position) ** -1.5."""
    random = np.random.default_rng(seed)
    rows = SLATES * LENGTH
    features: NDArray[Any] = random.lognormal(1.0, 1.0, (rows, len(domain.model.item_features)))
    column = domain.model.item_features.index(shown_by)
    by_slate = features[:, column].reshape(SLATES, LENGTH)
    position = np.argsort(np.argsort(-by_slate, axis=1), axis=1).ravel()
    users = np.repeat(random.normal(size=(SLATES, DIM)), LENGTH, axis=0)
    items = random.normal(size=(rows, DIM))
    wanted = (users * items).sum(axis=1)
    examined = random.random(rows) < (1.0 + position) ** -BIAS
    clicked = examined & (random.random(rows) < 1.0 / (1.0 + np.exp(-wanted)))
    labels = np.zeros((rows, len(domain.objectives)), np.float32)
    labels[:, CLICK] = clicked
    mature = np.zeros_like(labels)
    mature[:, CLICK] = 1.0
    ones, none = np.ones(rows, np.int64), np.zeros((rows, 0), np.int64)
    examples = Examples(
        users=np.array([f"user_{row // LENGTH}" for row in range(rows)], object),
        surface=ones,
        entity_type=ones,
        catalogue_row=np.arange(rows),
        recent_items=none,
        recent_actions=none,
        user_features=np.zeros((rows, len(domain.model.user_features)), np.float32),
        item_features=features.astype(np.float32),
        items=ItemRows(ones, none, np.zeros((rows, 0), np.float32)),
        position=position + 1,
        labels=labels,
        mature=mature,
    )
    found = RankingRows(examples, users.astype(np.float32), items.astype(np.float32))
    return found, wanted


def _predicted(ranker: Ranker, rows: RankingRows) -> NDArray[Any]:
    """Logits of a click as serving asks for them: at no position."""
    examples, count = rows.examples, len(rows)
    with torch.inference_mode():
        logits: torch.Tensor = ranker(
            torch.from_numpy(rows.user_vector),
            torch.from_numpy(examples.user_features),
            torch.arange(count),
            torch.from_numpy(rows.item_vector),
            torch.from_numpy(examples.item_features),
            torch.zeros(count, dtype=torch.long),
            torch.from_numpy(examples.surface),
        )
    found: NDArray[Any] = logits[:, CLICK].numpy()
    return found


def _correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices: more threads wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_positions_keep_the_order_of_the_screen_out_of_the_order_of_wishes() -> None:
    domain, shown_by = _domain(), "clicks_1h"
    rows, _ = _world(domain, 1, shown_by)
    asked, wanted = _world(domain, 2, shown_by)
    column = domain.model.item_features.index(shown_by)
    hot = asked.examples.item_features[:, column]
    trend = np.zeros(len(domain.surfaces) + 1, np.float32)
    near: dict[str, float] = {}
    of_screen: dict[str, float] = {}
    rankers: dict[str, Ranker] = {}
    for way in ("with", "without"):
        position = rows.examples.position if way == "with" else np.zeros(len(rows), np.int64)
        told = replace(rows, examples=replace(rows.examples, position=position))
        fitted = fit_ranker(
            domain, told, told, None, trend=trend, seed=0, advance=lambda _share: None
        )
        predicted = _predicted(fitted.ranker, asked)
        near[way], of_screen[way] = _correlation(predicted, wanted), _correlation(predicted, hot)
        rankers[way] = fitted.ranker
    assert of_screen["without"] > of_screen["with"] + 0.25
    assert near["with"] > near["without"] + 0.05
    # What it learned of the screen itself falls from the top, as examination does.
    learned = rankers["with"].position[1, 1 : LENGTH + 1, CLICK].detach().numpy()
    assert (learned[:3] > learned[-3:].max()).all()


@pytest.mark.usefixtures("one_thread")
def test_in_the_epochs_that_ship_positions_count_as_much_as_the_log_says() -> None:
    domain = _with(load_domain(Path(__file__).parents[4] / "config" / "live_courses.yaml"))
    rows, _ = _world(domain, 1, "clicks_1h")
    trend = np.zeros(len(domain.surfaces) + 1, np.float32)
    fitted = fit_ranker(domain, rows, rows, None, trend=trend, seed=0, advance=lambda _share: None)
    terms = fitted.ranker.position[1, 1 : LENGTH + 1, CLICK].detach().numpy()
    clicked = rows.examples.labels[:, CLICK].reshape(SLATES, LENGTH)
    at = rows.examples.position.reshape(SLATES, LENGTH) - 1
    mean = (clicked.sum() + 0.5) / (clicked.size + 100)
    # A place has two hundred rows; a hundred of the mean's rate are added to them.
    rates = [(clicked[at == place].sum() + 100 * mean) / (SLATES + 100) for place in range(LENGTH)]
    for place in (1, 2, 4, 9):
        learned = float(np.exp(terms[0] - terms[place]))
        logged = rates[0] / (1 - rates[0]) / (rates[place] / (1 - rates[place]))
        assert logged > 1.5
        assert learned == pytest.approx(logged, rel=0.25)

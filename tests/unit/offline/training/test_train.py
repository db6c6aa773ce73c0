"""Training on a small dataset: learns, is repeatable, and never reads the test split."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from offline.dataset.tables import Dataset
from offline.training.data import build_vocabularies
from offline.training.encode import encode_items
from offline.training.inputs import TrainingInputs, read_trend
from offline.training.layout import layout_of
from offline.training.resplit import with_validation
from offline.training.retrieval import fit_towers
from offline.training.retrieval_data import RetrievalData
from offline.training.train import (
    TrainedModels,
    train,
    trend_by_surface,
)
from services.common.domain import Domain, load_domain
from services.common.errors import FailedPrecondition
from tests.support.tiny_dataset import make_tiny_dataset


def load(name: str, *, epochs: int) -> Domain:
    domain = load_domain(Path(f"config/{name}.yaml"))
    retrieval = domain.model.retrieval.model_copy(
        update={
            "learning_rate": 0.01,
            "epochs": epochs,
            "dim": 16,
            "layers": 1,
            "batch_size": 8,
            "ahead": 3,
        }
    )
    model = domain.model.model_copy(update={"retrieval": retrieval})
    return domain.model_copy(update={"model": model})


@pytest.fixture(scope="module")
def live_courses() -> Domain:
    return load("live_courses", epochs=6)


@pytest.fixture(scope="module")
def dataset(live_courses: Domain) -> Dataset:
    return make_tiny_dataset(live_courses)


@pytest.fixture(scope="module")
def models(live_courses: Domain, dataset: Dataset) -> TrainedModels:
    return train(live_courses, dataset, seed=3, threads=1)


def vectors(models: TrainedModels) -> np.ndarray:
    return encode_items(models.towers.item, models.catalogues["course"].items)


def test_it_finds_what_users_like(models: TrainedModels) -> None:
    # A quarter of the 40 courses is liked; without a taste one in three would be in the top ten.
    assert models.metrics["retrieval.hit_rate_at_10"] > 0.45
    assert models.metrics["ranker.click.auc"] > 0.55


def test_equal_seeds_and_data_give_equal_models(
    live_courses: Domain, dataset: Dataset, models: TrainedModels
) -> None:
    again = train(live_courses, dataset, seed=3, threads=1)
    assert again.metrics == models.metrics
    assert np.array_equal(vectors(again), vectors(models))
    other = train(live_courses, dataset, seed=4, threads=1)
    assert other.metrics != models.metrics


def test_the_test_split_is_never_read(
    live_courses: Domain, dataset: Dataset, models: TrainedModels
) -> None:
    blind = replace(
        dataset, interactions=_spoilt(dataset.interactions), examples=_spoilt(dataset.examples)
    )
    again = train(live_courses, blind, seed=3, threads=1)
    assert again.metrics == models.metrics
    assert np.array_equal(vectors(again), vectors(models))


def _spoilt(table: pa.Table) -> pa.Table:
    """The table with every string of a test row that could teach something replaced."""
    test = np.array(table["split"].to_pylist()) == "test"
    for name in ("item", "target_id", "entity_id", "f.course", "f.host", "f.category", "f.video"):
        if name in table.column_names:
            values = np.where(test, "spoilt", np.array(table[name].to_pylist(), object))
            table = table.set_column(
                table.column_names.index(name), name, pa.array(values, pa.string())
            )
    for name in [name for name in table.column_names if name.startswith(("y.", "m."))]:
        flags = np.where(test, 1, np.array(table[name].to_pylist()).astype(int))
        column = pa.array(flags).cast(table[name].type)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def test_serving_position_is_the_mean_of_those_logged(models: TrainedModels) -> None:
    ranker = models.ranker.ranker
    bias = ranker.position.detach()
    surface = models.layout.surface_index("courses")
    assert bias[surface, 1:11].abs().max() > 0
    neutral = bias[surface, 0]
    assert (neutral >= bias[surface, 1:11].amin(dim=0)).all()
    assert (neutral <= bias[surface, 1:11].amax(dim=0)).all()


def test_positions_learn_that_lower_places_are_seen_less(models: TrainedModels) -> None:
    bias = models.ranker.ranker.position.detach()[1:, 1:11, 0].mean(dim=0)
    assert bias[:5].mean() > bias[5:].mean()


def test_a_log_without_impressions_trains_on_drawn_negatives() -> None:
    domain = load("mooccubex", epochs=12)
    models = train(domain, make_tiny_dataset(domain), seed=0, threads=1)
    assert (models.check.examples.position == 0).all()
    retrieved = models.metrics["retrieval.hit_rate_at_10"]
    assert retrieved > 0.5
    # Kept only where it is at least as good on validation as retrieval's own order.
    assert (
        models.metrics["ranker.ranked.ndcg_at_10"] >= models.metrics["retrieval.ndcg_at_10"] - 1e-9
    )
    # The log names no surface; what is served is what was trained.
    assert set(models.check.examples.surface) == {models.layout.surface_index("courses")}


def test_the_last_pass_goes_on_from_what_validation_chose(
    live_courses: Domain, dataset: Dataset
) -> None:
    layout = layout_of(live_courses)
    later = with_validation(dataset)
    vocabularies = build_vocabularies(layout, later)

    def read(table: Dataset) -> RetrievalData:
        random = np.random.default_rng(0)
        trend = read_trend(live_courses, layout, table)
        return TrainingInputs.read(
            live_courses, layout, table, vocabularies, trend, random
        ).retrieval

    shares: list[float] = []
    first, latest = read(dataset), read(later)
    alone, same = fit_towers(live_courses, first, seed=0, advance=shares.append)
    assert same is alone
    shares.clear()
    chosen, served = fit_towers(live_courses, first, seed=0, advance=shares.append, latest=latest)
    assert chosen.metrics == served.metrics == alone.metrics
    items = first.catalogue.items
    assert np.array_equal(encode_items(chosen.item, items), encode_items(alone.item, items))
    assert not np.allclose(encode_items(served.item, items), encode_items(chosen.item, items))
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1.0


def test_the_ranker_is_given_the_trend_of_what_each_surface_ranks(
    live_courses: Domain, models: TrainedModels
) -> None:
    towers = replace(copy.deepcopy(models.towers), strengths=(0.3, 0.5))
    with torch.no_grad():
        towers.user.trend.copy_(torch.tensor([9.0, 0.1, 0.2, 0.3, 0.4]))
    given = trend_by_surface(live_courses, models.layout, towers)
    entities = {"courses": 0.05, "hosts": 0.1, "rooms": 0.15, "videos": 0.2}
    expected = [0.0, *(entities[surface] for surface in models.layout.surfaces)]
    np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_a_dataset_of_another_domain_is_refused(live_courses: Domain) -> None:
    other = load("mooccubex", epochs=1)
    with pytest.raises(FailedPrecondition, match="made for other features"):
        train(live_courses, make_tiny_dataset(other), seed=0, threads=1)


def test_an_empty_training_split_is_refused(live_courses: Domain, dataset: Dataset) -> None:
    empty = replace(dataset, interactions=dataset.interactions.slice(0, 0))
    with pytest.raises(FailedPrecondition, match="no interactions"):
        train(live_courses, empty, seed=0, threads=1)

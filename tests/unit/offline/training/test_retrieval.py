"""What the history loss takes as given, written out for towers that know nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offline.training import retrieval_losses, retrieval_validation
from offline.training.batches import Batch, training_windows, window_batches
from offline.training.budget import CpuBudget
from offline.training.data import build_vocabularies
from offline.training.inputs import TrainingInputs, read_trend
from offline.training.layout import layout_of
from offline.training.retrieval import TowerFit, fit_towers
from offline.training.retrieval_data import RetrievalData
from offline.training.towers import MASKED
from offline.training.train import trend_by_surface
from services.common.domain import Domain, load_domain
from tests.support.tiny_dataset import make_tiny_dataset


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(Path(__file__).parents[4] / "config" / "live_courses.yaml")


@pytest.fixture(scope="module")
def fit(domain: Domain) -> TowerFit:
    return _ignorant_fit(domain)


def _ignorant_fit(domain: Domain) -> TowerFit:
    fit = TowerFit(domain, _tiny_data(domain), 0, lambda _: None, goes_on=False)
    with torch.no_grad():
        for parameter in [*fit.item.parameters(), *fit.user.parameters()]:
            parameter.zero_()
        fit.user.trend.copy_(torch.tensor([9.0, 0.7, 0.8, 0.9, 1.1]))
    return fit


def _tiny_data(domain: Domain) -> RetrievalData:
    layout = layout_of(domain)
    dataset = make_tiny_dataset(domain)
    vocabularies = build_vocabularies(layout, dataset)
    trend = read_trend(domain, layout, dataset)
    return TrainingInputs.read(
        domain, layout, dataset, vocabularies, trend, np.random.default_rng(0)
    ).retrieval


def _questions(fit: TowerFit) -> tuple[Batch, list[tuple[int, int, set[int]]]]:
    """A batch; and (asked_ms, wanted row, rows had before with a final action) of each question."""
    windows = training_windows(fit.data.histories, 50)
    batches = window_batches(
        fit.data.histories, windows, tokens=400, ahead=3, random=np.random.default_rng(0)
    )
    batch = next(batches)
    row_of = fit.losses.input_rows.numpy()
    asked = []
    for row in range(len(batch.items)):
        had: set[int] = set()
        for place in range(batch.items.shape[1]):
            if batch.actions[row, place] in fit.data.layout.final_actions:
                had.add(int(row_of[batch.items[row, place]]))
            wanted = int(batch.targets[row, place])
            if wanted >= 0:
                asked.append((int(batch.asked_ms[row, place]), wanted, had - {wanted}))
    assert any(had for _, _, had in asked)
    return batch, asked


def _given(fit: TowerFit, asked_ms: int) -> np.ndarray:
    assert fit.data.trend is not None
    return 0.7 * fit.data.trend.at(np.array([asked_ms]), np.arange(len(fit.data.available)))


def test_the_softmax_holds_the_trend_as_of_each_event_and_nothing_taken(fit: TowerFit) -> None:
    batch, asked = _questions(fit)
    losses = []
    for asked_ms, wanted, had in asked:
        logits = _given(fit, asked_ms)
        open_rows = [row for row in np.flatnonzero(fit.data.available) if row not in had]
        losses.append(np.log(np.exp(logits[open_rows]).sum()) - logits[wanted])
    loss, positions = fit.losses.of_histories(batch)
    assert positions == len(asked)
    # Somebody bought something by then: without the trend every logit would be 0.
    assert any(_given(fit, asked_ms).any() for asked_ms, _, _ in asked)
    np.testing.assert_allclose(loss.item(), np.mean(losses), rtol=1e-5)


def test_the_sampled_softmax_holds_it_too(fit: TowerFit, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, asked = _questions(fit)
    monkeypatch.setattr(retrieval_losses, "FULL_SOFTMAX_ITEMS", 1)
    drawn = np.array([0, 3, 3, 5])
    monkeypatch.setattr(fit.losses, "draw", lambda: drawn)
    rows = np.flatnonzero(fit.data.available)[drawn]
    losses = []
    for asked_ms, wanted, _ in asked:
        logits = _given(fit, asked_ms)
        corrected = logits[rows] - fit.losses.log_share[drawn] - math.log(len(drawn))
        others = corrected[rows != wanted]
        losses.append(np.log(np.exp(others).sum() + np.exp(logits[wanted])) - logits[wanted])
    loss, _ = fit.losses.of_histories(batch)
    np.testing.assert_allclose(loss.item(), np.mean(losses), rtol=1e-5)


def test_a_budget_ends_training_whatever_the_number_of_epochs(domain: Domain) -> None:
    options = domain.model.retrieval.model_copy(update={"dim": 8, "layers": 0, "epochs": 100_000})
    model = domain.model.model_copy(update={"retrieval": options})
    short = domain.model_copy(update={"model": model})
    data, told = _tiny_data(short), list[float]()
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return float(looks)

    budget = CpuBudget(80.0, clock)
    selected, later = fit_towers(
        short, data, seed=0, advance=told.append, latest=replace(data), budget=budget
    )
    # It stands still but for being looked at: the budget is spent, and little more.
    assert 80 <= looks < 100
    assert told == sorted(told)
    assert 0.9 < told[-1] <= 1.0
    assert selected.losses
    assert not torch.equal(selected.user.memory.weight, later.user.memory.weight)


def test_validation_s_verdict_is_what_is_served(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towers that know nothing say nothing; the trend is asked about with its learned weight."""
    fit = _ignorant_fit(domain)
    fit.options = fit.options.model_copy(update={"epochs": 0})
    asked: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def verdict(
        own: torch.Tensor, given: torch.Tensor, chosen: torch.Tensor
    ) -> tuple[float, float]:
        asked.append((own, given, chosen))
        return 0.25, 1.75

    monkeypatch.setattr(retrieval_validation, "fit_strengths", verdict)
    towers = fit.run()
    assert towers.strengths == (0.25, 1.75)
    assert float(towers.serving_user.strength) == 0.25
    weights = trend_by_surface(domain, fit.data.layout, towers)
    # Surfaces rank courses, rooms, hosts and videos.
    assert weights.tolist() == pytest.approx([0.0, *(1.75 * np.array([0.7, 0.9, 0.8, 1.1]))])
    (own, given, chosen), *more = asked
    assert not more
    assert not own.any()
    expected = _given(fit, fit.held_out.asked_ms)
    for wanted, offered in zip(chosen, given, strict=True):
        on_offer = (offered > MASKED).numpy()
        assert on_offer[wanted]
        np.testing.assert_allclose(offered[on_offer], expected[on_offer], rtol=1e-5)

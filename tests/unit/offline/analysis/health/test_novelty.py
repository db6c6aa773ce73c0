"""Trends of the effect, by days since exposure and by days of the experiment."""

from __future__ import annotations

import numpy as np
import pytest

from offline.analysis.health.novelty import (
    EffectOfDay,
    check_by_age,
    check_by_day,
    effects_by_day,
    trend_p,
)

RANDOM = np.random.default_rng


@pytest.mark.parametrize(
    ("p_value", "last", "level", "says"),
    [
        (0.3, 0.2, "ok", "no trend"),
        (0.001, 0.2, "notice", "fades"),
        (0.001, 1.4, "notice", "grows"),
        (None, 0.0, "not_checked", "Too few"),
    ],
)
def test_an_effect_that_changes_since_exposure_is_told(
    p_value: float | None, last: float, level: str, says: str
) -> None:
    found = check_by_age("w", "new", p_value, 1.0, last)
    assert found.level == level
    assert says in found.text


def test_the_trend_of_days_is_found_as_often_as_it_says() -> None:
    random = RANDOM(8)
    spread = np.linspace(0.5, 2, 10)

    def rejected(slope: float) -> float:
        drawn = slope * np.arange(10) + spread * random.normal(size=(400, 10))
        p_values = [
            trend_p(
                [EffectOfDay(d, e, s**2) for d, (e, s) in enumerate(zip(row, spread, strict=True))]
            )
            for row in drawn
        ]
        return float(np.mean([p is not None and p < 0.05 for p in p_values]))

    assert 0.025 < rejected(0.0) < 0.08
    assert rejected(0.5) > 0.8


@pytest.mark.parametrize("ratio", [False, True])
def test_effects_of_days_are_those_of_the_units_that_came_then(ratio: bool) -> None:
    random = RANDOM(9)
    columns = random.gamma(2.0, size=(400, 2))[:, : 2 if ratio else 1]
    arm, day = random.integers(0, 2, 400), random.integers(0, 4, 400)
    units, sums, products = [], [], []
    for last in range(4):
        rows = [(arm == v) & (day <= last) for v in range(2)]
        units.append([float(r.sum()) for r in rows])
        sums.append([columns[r].sum(axis=0) for r in rows])
        products.append([columns[r].T @ columns[r] for r in rows])
    found = effects_by_day(np.array(units), np.array(sums), np.array(products), 0, 1)
    assert [effect.day for effect in found] == [0, 1, 2, 3]
    for effect in found:
        control, treatment = (columns[(arm == v) & (day == effect.day)] for v in range(2))
        if ratio:
            ratios = [g[:, 0].sum() / g[:, 1].sum() for g in (control, treatment)]
            variances = [
                np.var(g[:, 0] - r * g[:, 1], ddof=1) / g[:, 1].mean() ** 2 / len(g)
                for g, r in zip((control, treatment), ratios, strict=True)
            ]
        else:
            ratios = [g[:, 0].mean() for g in (control, treatment)]
            variances = [np.var(g[:, 0], ddof=1) / len(g) for g in (control, treatment)]
        assert effect.effect == pytest.approx(ratios[1] / ratios[0] - 1)
        relative = ratios[1] / ratios[0]
        assert effect.variance == pytest.approx(
            (variances[1] + relative**2 * variances[0]) / ratios[0] ** 2
        )


def test_days_of_few_units_are_taken_together() -> None:
    days = np.arange(1, 7)[:, None] * np.ones((1, 2)) * 12
    sums, products = days[:, :, None] * 0.5, days[:, :, None, None] * 0.5
    assert [e.day for e in effects_by_day(days, sums, products, 0, 1)] == [1, 3, 5]


def test_days_whose_mean_is_hardly_told_from_zero_are_taken_together() -> None:
    # 3 of 100 buy on each day: the share is three standard errors from zero with nine of them.
    days = np.arange(1, 10)[:, None] * np.ones((1, 2)) * 100
    sums, products = days[:, :, None] * 0.03, days[:, :, None, None] * 0.03
    assert [e.day for e in effects_by_day(days, sums, products, 0, 1)] == [2, 5, 8]


def test_the_same_share_more_on_busier_days_is_no_trend() -> None:
    """A difference grows with what there is; the effect, a share of it, does not."""
    random = RANDOM(10)
    base = np.linspace(0.1, 0.4, 10)
    counts = np.full(10, 2_000)
    noticed = {"constant": 0, "growing": 0}
    for course, factor in (("constant", np.full(10, 1.3)), ("growing", np.linspace(1.0, 1.6, 10))):
        for _ in range(200):
            bought = np.stack(
                [random.binomial(counts, base), random.binomial(counts, base * factor)], axis=1
            ).cumsum(axis=0)
            units = np.stack([counts, counts], axis=1).cumsum(axis=0).astype(np.float64)
            sums, products = bought[:, :, None] * 1.0, bought[:, :, None, None] * 1.0
            effects = effects_by_day(units, sums, products, 0, 1)
            noticed[course] += check_by_day("w", effects, "new").level == "notice"
    assert noticed["constant"] <= 8
    assert noticed["growing"] >= 180


def test_an_effect_that_fades_with_the_experiment_is_told() -> None:
    fading = [EffectOfDay(day, 1 - 0.1 * day, 0.01) for day in range(8)]
    assert "fades" in check_by_day("w", fading, "new").text
    assert check_by_day("w", fading[:2], "new").level == "not_checked"
    steady = [EffectOfDay(day, 1.0, 0.01) for day in range(8)]
    assert check_by_day("w", steady, "new").level == "ok"

"""benchmarks.validity_worlds: what the worlds say of themselves is so."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.validity_worlds import DAYS, World, buyers, clusters, every_world, market, normal
from offline.analysis.statistics.clusters import intraclass_correlation


@pytest.mark.parametrize("world", every_world(), ids=lambda world: world.name)
def test_a_run_is_its_own_draw(world: World) -> None:
    first, again, other = world.draw(1, 5), world.draw(1, 5), world.draw(1, 6)
    assert (first.values == again.values).all()
    assert (
        len(first.values) != len(other.values)
        or world.name == "interleaved"
        or (first.values != other.values).any()
    )
    assert first.arrived.min() >= 0
    assert first.arrived.max() < DAYS
    for column in (first.treated, first.arrived, first.denominators, first.covariates):
        assert len(column) == len(first.values)


@pytest.mark.parametrize("world", [normal(), buyers(1.0), clusters(30)], ids=lambda w: w.name)
def test_the_effect_is_what_it_says(world: World) -> None:
    gaps = []
    for run in range(60):
        outcomes = world.draw(2, run, 1.0)
        control, treatment = outcomes.arms(outcomes.values)
        gaps.append(treatment.mean() - control.mean())
    error = np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    assert abs(np.mean(gaps) - world.effect) < 4 * error


def test_figures_of_the_worlds() -> None:
    outcomes = buyers(1.0).draw(3, 0)
    bought = outcomes.values > 0
    assert bought.mean() == pytest.approx(0.03, abs=0.01)
    assert np.log(outcomes.values[bought]).std() == pytest.approx(1.0, abs=0.25)
    many = [clusters(30).draw(3, run) for run in range(20)]
    found = [intraclass_correlation(each.values, each.clusters) for each in many]
    assert np.mean(found) == pytest.approx(0.1, abs=0.02)
    pairs = market().draw(3, 0)
    assert pairs.hosts is not None
    # A viewer has one arm, and so has a host.
    assert len({*zip(pairs.clusters, pairs.treated, strict=True)}) == len(set(pairs.clusters))
    assert len({*zip(pairs.hosts, pairs.host_treated, strict=True)}) == len(set(pairs.hosts))

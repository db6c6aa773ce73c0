import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.analysis.statistics.multiple import benjamini_hochberg, holm
from services.common.errors import InvalidArgument

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)

# Benjamini & Hochberg 1995, section 3.2: fifteen p-values of a study of myocardial infarction.
PUBLISHED = (
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
    0.6528, 0.7590, 1.0,
)  # fmt: skip


def test_the_published_example() -> None:
    # The paper: four rejected by its procedure, three by Bonferroni's and Holm's.
    assert sum(p <= 0.05 for p in benjamini_hochberg(PUBLISHED)) == 4
    assert sum(p <= 0.05 for p in holm(PUBLISHED)) == 3


def by_definition(p_values: list[float]) -> list[float]:
    """Holm's adjusted p-values straight from the definition."""
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    found = [0.0] * count
    for place, index in enumerate(order):
        steps = [(count - k) * p_values[order[k]] for k in range(place + 1)]
        found[index] = min(1.0, max(steps))
    return found


@given(P_VALUES)
@settings(max_examples=30, deadline=None)
def test_definitions_and_order(p_values: list[float]) -> None:
    step_up, step_down = benjamini_hochberg(p_values), holm(p_values)
    assert step_up == pytest.approx(scipy.stats.false_discovery_control(p_values))
    assert step_down == pytest.approx(by_definition(p_values))
    for plain, discovered, family in zip(p_values, step_up, step_down, strict=True):
        assert plain - 1e-12 <= discovered <= family + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(step_up)[order]) >= -1e-12).all()
    assert (np.diff(np.array(step_down)[order]) >= -1e-12).all()


def test_none_and_nonsense() -> None:
    assert holm([]) == benjamini_hochberg([]) == ()
    assert holm([0.03]) == benjamini_hochberg([0.03]) == (0.03,)
    for wrong in (math.nan, -0.1, 1.1):
        with pytest.raises(InvalidArgument):
            holm([0.5, wrong])

"""What is shown when nothing was found."""

from __future__ import annotations

import numpy as np
import pytest

from services.ranker.arrays import BoolArray, Int64Array
from services.ranker.sources.base import Ground, Reuse
from services.ranker.sources.fallback import FIRST_LOOK, fallback_slots
from services.ranker.sources.nearby import Nearby
from services.ranker.sources.shared import Trending
from tests.unit.services.ranker.fakes import DIM, tables_of


@pytest.mark.parametrize("beyond", [0, 1, 5])
def test_what_passes_is_found_behind_all_that_does_not(beyond: int) -> None:
    count = FIRST_LOOK + beyond
    rows = {f"i{n}": {"clicks": count - n} for n in range(count)}
    table = tables_of(rows).by_entity["item"]
    none = np.zeros(0, np.int64)
    nearby = Nearby("item", none, 1.0, none, np.zeros((0, DIM), np.float32))
    ground = Ground(table, np.ones(count, np.bool_), nearby, None, None, None, Reuse())
    trending = Trending("trending", 1, "clicks")

    def found(first: int) -> list[int]:
        def keep(slots: Int64Array) -> BoolArray:
            return slots >= first

        return fallback_slots(ground, [trending], 2, keep).tolist()

    assert found(0) == [0, 1]
    assert found(count - 1) == [count - 1]
    assert found(count) == []

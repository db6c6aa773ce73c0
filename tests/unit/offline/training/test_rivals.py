"""What an example's item is held against where the log has no impressions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from offline.training import ranking_rows
from offline.training.crosses import CrossRows, HistorySides, read_crosses
from offline.training.data import Examples, ItemRows
from offline.training.ranking_rows import CatalogueVectors, RankingRows, with_rivals
from services.common.affinities import Affinities
from services.common.crosses import AffinityCross, RatioCross

CROSS = AffinityCross(kind="affinity", decay=1.0, least=0.01)
ITEMS = 6
"""Catalogue row i is vocabulary row i + 1 and as near as i to everybody."""


def rows_of(wanted: list[int], taken: list[list[int]]) -> tuple[RankingRows, CatalogueVectors]:
    count = len(wanted)
    codes = np.arange(1, ITEMS + 1)
    one = np.ones(count, np.int64)
    history = np.array([[0, row + 1] for [row, *_] in taken])
    # Item i goes with item i + 1 as much as that is its row.
    table = Affinities(
        np.minimum(np.arange(ITEMS + 1) + 1, ITEMS)[:, None], np.arange(ITEMS + 1.0)[:, None]
    )
    nothing = np.zeros((count, 0), np.float32)
    examples = Examples(
        users=np.array([f"u{n}" for n in range(count)], object),
        surface=one,
        entity_type=one,
        catalogue_row=np.array(wanted),
        recent_items=history,
        recent_actions=np.ones_like(history),
        user_features=nothing,
        item_features=nothing,
        items=ItemRows(one, codes[wanted][:, None], nothing),
        position=0 * one,
        labels=np.ones((count, 1), np.float32),
        mature=np.ones((count, 1), np.float32),
        crosses=read_crosses(
            {"history": CROSS}, pa.table({}), histories=HistorySides(history, codes[wanted], table)
        ),
    )
    vectors = np.arange(ITEMS, dtype=np.float32)[:, None]
    catalogue = CatalogueVectors(
        vectors, np.zeros((ITEMS, 0), np.float32), np.ones(ITEMS, np.int64), codes, np.zeros(2, int)
    )
    users = np.ones((count, 1), np.float32)
    return RankingRows(examples, users, vectors[wanted], np.array(taken)), catalogue


def test_rivals_are_the_nearest_that_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking_rows, "RIVALS", 4)
    rows, catalogue = rows_of([4, 0, 1, 2, 0], [[5, -1], [5, 4], [3, 4], [1, 0], [1, -1]])
    found = with_rivals(rows, catalogue)
    assert found.rivals is not None
    against = [set(row[row >= 0].tolist()) for row in found.rivals]
    # The last one's own item is not among the four nearest: it is further than all of them.
    assert against == [{1, 2, 3}, {1, 2, 3}, {0, 2, 5}, {3, 4, 5}, set()]
    assert found.told_apart.tolist() == [0, 1, 2, 3]


def test_rivals_have_the_cross_features_of_the_items_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranking_rows, "RIVALS", 3)
    rows, catalogue = rows_of([4, 2], [[3], [1]])
    found = with_rivals(rows, catalogue)
    assert found.rivals is not None
    assert found.rival_crosses is not None
    for row, (own, history) in enumerate([(4, 3), (2, 1)]):
        # Who met catalogue row h met vocabulary row h + 1, which goes with the row after it.
        expected = {history + 1: np.log(history + 1.0)}
        for item, value in zip([own, *found.rivals[row]], found.rival_crosses[row], strict=True):
            if item >= 0:
                wanted = float(expected.get(int(item), np.log(0.01)))
                np.testing.assert_allclose(value, wanted, rtol=1e-6)


def test_a_cross_that_reads_more_of_an_item_has_no_rivals() -> None:
    table = pa.table({"u.a": [1.0], "i.b": [2.0]})
    crosses = read_crosses({"ratio": RatioCross(kind="ratio", user="a", item="b")}, table)
    with pytest.raises(TypeError, match="more of an item"):
        crosses.of_items(np.zeros(1, np.int64))
    assert CrossRows(()).of_items(np.zeros(1, np.int64)) == CrossRows(())

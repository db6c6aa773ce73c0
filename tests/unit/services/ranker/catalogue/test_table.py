"""Columns of a catalogue's table, and the item matrix made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import FailedPrecondition
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View
from services.ranker.plan import item_matrix
from tests.unit.services.ranker.catalogue.tables import readable
from tests.unit.services.ranker.fakes import ITEM_VIEW, FakeModel, rows_of, spec_of

IDS = st.sampled_from([f"i{n}" for n in range(6)])
ROW = st.fixed_dictionaries(
    {},
    optional={
        "score": st.floats(-2, 2, width=16),
        "clicks": st.integers(0, 3),
        "host": st.sampled_from(["h1", "h2"]),
        "tags": st.lists(st.sampled_from(["t1", "t2"]), max_size=3).map(tuple),
    },
)
CHANGES = st.lists(
    st.tuples(st.dictionaries(IDS, ROW, max_size=3), st.lists(IDS, max_size=2)), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(changes=CHANGES)
def test_a_table_holds_the_last_of_every_row_and_earlier_tables_stay(changes: list[Any]) -> None:
    table = EntityTable.empty("item", ITEM_VIEW)
    expected: dict[str, dict[str, Any]] = {}
    history = [(table, dict(expected))]
    for number, (upserts, gone) in enumerate(changes, start=1):
        table = table.changed([rows_of(ITEM_VIEW, upserts)], gone, number)
        # A withdrawal in a delta is the newer news.
        known = {**expected, **upserts}
        expected = {id_: row for id_, row in known.items() if id_ not in gone}
        history.append((table, expected))
    for version, rows in history:
        assert readable(version) == rows


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES)
def test_an_item_matrix_kept_up_to_date_equals_one_made_anew(changes: list[Any]) -> None:
    model = FakeModel(["i0", "i1"])
    spec = spec_of(model)
    table = EntityTable.empty("item", ITEM_VIEW)
    items = item_matrix(model, spec, table, None, 0)
    for number, (upserts, gone) in enumerate(changes, start=1):
        table = table.changed([rows_of(ITEM_VIEW, upserts)], gone, number)
        items = item_matrix(model, spec, table, items, number - 1)
    anew = item_matrix(model, spec, table, None, 0)
    for name in ("fields", "numeric", "vectors", "features", "parts", "index_row"):
        np.testing.assert_array_equal(getattr(items, name), getattr(anew, name))
    slots = [table.slot_of[i] for i in ("i0", "i1") if i in table.slot_of]
    for slot in slots:
        moved = bool(items.numeric[slot].any() or items.fields[slot, 1])
        assert items.index_row[slot] == (-1 if moved else model.index.index(table.ids[slot]))


def test_only_items_whose_tower_inputs_changed_are_encoded() -> None:
    model = FakeModel()
    spec = spec_of(model)
    rows = {f"i{n}": {"host": "h1"} for n in range(5)}
    table = EntityTable.empty("item", ITEM_VIEW).changed([rows_of(ITEM_VIEW, rows)], (), 1)
    items = item_matrix(model, spec, table, None, 0)
    assert model.encoded == [5]
    news = {"i1": {"host": "h1", "score": 1.0}, "i2": {"host": "h2"}, "i9": {}}
    table = table.changed([rows_of(ITEM_VIEW, news)], (), 2)
    items = item_matrix(model, spec, table, items, 1)
    assert model.encoded == [5, 2]
    assert items.features[table.slot_of["i1"]].tolist() == [1.0, 2.0]
    assert np.array_equal(items.parts, model.item_parts(items.vectors, items.features))


def test_values_that_are_not_finite_take_the_default_and_are_marked() -> None:
    rows = {"a": {"score": float("nan")}, "b": {"score": 1.0}}
    table = EntityTable.empty("item", ITEM_VIEW).changed([rows_of(ITEM_VIEW, rows)], (), 1)
    scores = table.numeric("score")
    assert scores is not None
    assert scores.tolist() == [0.5, 1.0]
    assert table.repaired.tolist() == [True, False]


def test_equal_lists_share_a_code_and_a_missing_one_is_empty() -> None:
    rows = {"a": {"tags": ("t1", "t2")}, "b": {}, "c": {"tags": ()}, "d": {"tags": ("t1", "t2")}}
    table = EntityTable.empty("item", ITEM_VIEW).changed([rows_of(ITEM_VIEW, rows)], (), 1)
    lists = table.lists("tags")
    assert lists is not None
    assert lists[0].tolist() == [1, 0, 0, 1]
    assert table.present_of("tags").tolist() == [True, False, True, True]
    assert table.lists("host") is None


def test_lists_that_move_do_not_pile_up() -> None:
    table = EntityTable.empty("item", ITEM_VIEW)
    first = table.changed([rows_of(ITEM_VIEW, {"still": {"tags": ("t",)}})], (), 1)
    table = first
    for number in range(2, 3_000):
        news = {"moving": {"tags": (f"t{number}", "t")}}
        table = table.changed([rows_of(ITEM_VIEW, news)], (), number)
    assert readable(table) == {"still": {"tags": ("t",)}, "moving": {"tags": ("t2999", "t")}}
    assert readable(first) == {"still": {"tags": ("t",)}}
    lists = table.lists("tags")
    assert lists is not None
    codes, pool = lists
    assert len(pool.values) < 1_500
    having = [pool.values[code] for code in pool.having("t")]
    assert [pool.values[code] for code in codes] == [having[0], having[-1]]


def test_rows_of_another_view_are_refused() -> None:
    other = View("other", "x", ITEM_VIEW.columns[:2])
    with pytest.raises(FailedPrecondition, match="rows of item have columns"):
        EntityTable.empty("item", ITEM_VIEW).changed([rows_of(other, {"a": {}})], (), 1)

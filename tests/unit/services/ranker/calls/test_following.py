"""What pages and refreshes take over, and what the items of a slate cost."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.assign.assign import Assignment, Definitions, Experiment, Reason, Variant
from services.ranker.calls.arrange import held
from services.ranker.calls.candidates import slots_of_hashes, unseen
from services.ranker.calls.prices import Prices
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View, ViewColumn
from services.ranker.tokens.format import SHOWN_MASK, digest_of
from tests.unit.services.ranker.fakes import rows_of, tables_of


def test_a_page_keeps_the_variants_of_the_page_before() -> None:
    variants = (Variant("a", 0.5), Variant("b", 0.5))
    experiment = Experiment("e", "user", "salt", variants)
    other = Experiment("f", "user", "salt", variants)
    assigned = [Assignment(key, "a", Reason.SPLIT, 0.1, "user", 2) for key in "ef"]
    found = held(
        assigned, Definitions({"e": experiment, "f": other}, ""), {digest_of("e", "b"), b"gone...."}
    )
    assert [a.variant_key for a in found] == ["b", "a"]
    assert found[0].revision == 2


def test_hashes_find_their_slots_and_hide_what_was_shown() -> None:
    table = tables_of({f"i{n}": {} for n in range(300)}).by_entity["item"]
    wanted = np.array([table.tie[7], 12345, table.tie[299], table.tie[0]], np.uint64)
    assert slots_of_hashes(table, wanted).tolist() == [7, 299, 0]
    slots = np.array([5, 7, 299, 3], np.int64)
    assert unseen(table, slots, wanted & SHOWN_MASK).tolist() == [True, False, False, True]


def priced(entity: str, **prices: int) -> EntityTable:
    view = View(f"test.{entity}", "h", (ViewColumn("price_minor", "int64", 0),))
    rows = {id_: {"price_minor": price} for id_, price in prices.items()} | {"unpriced": {}}
    return EntityTable.empty(entity, view).changed([rows_of(view, rows)], [], 1)


@pytest.mark.parametrize(
    ("entity", "selling", "expected"),
    [
        ("course", (), [7, -1, -1]),
        ("item", ("c", "gone", "nothing"), [9, -1, -1]),
        ("item", (), []),
    ],
)
def test_items_cost_their_price_or_that_of_what_they_sell(
    entity: str, selling: tuple[str, ...], expected: list[int]
) -> None:
    courses = priced("course", a=7, gone=8, c=9)
    courses = courses.changed([], ["gone"], 2)
    tables = {"course": courses, **tables_of({"a": {}}).by_entity}
    slots = [courses.slot_of[id_] for id_ in ("a", "gone", "unpriced")]
    assert Prices(tables).of(entity, slots, selling) == expected


def test_without_prices_there_are_none() -> None:
    assert Prices(tables_of({"a": {}}).by_entity).of("item", [0], ["c"]) == []

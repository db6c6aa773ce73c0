"""What pages and refreshes take over, and what the items of a slate cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.common.assign.assign import Assignment, Definitions, Experiment, Reason, Variant
from services.ranker.calls.arrange import held
from services.ranker.calls.candidates import similar, slots_of_hashes, unshown
from services.ranker.calls.prices import Prices
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View, ViewColumn
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.personal import Personal
from services.ranker.state import prepare
from services.ranker.tokens.format import MAX_VARIANTS, SHOWN_MASK, digest_of
from services.ranker.types import Following, RankCommand
from tests.unit.services.ranker.fakes import FakeModel, rows_of, spec_of, tables_of


def experiments(*keys: str) -> Definitions:
    variants = (Variant("a", 0.5), Variant("b", 0.5))
    return Definitions({key: Experiment(key, "user", "salt", variants) for key in keys}, "")


def test_a_page_keeps_the_variants_of_the_page_before() -> None:
    shown = {digest_of("e", "b"), digest_of("ended", "a"), digest_of("forgotten", "a")}
    assigned = [
        Assignment("begun", "a", Reason.SPLIT, 0.1, "user", 2),
        Assignment("e", "a", Reason.SPLIT, 0.1, "user", 2),
        Assignment("never", "", Reason.MISSING_UNIT, None, "user", 1),
    ]
    assert held(assigned, experiments("begun", "e", "ended", "never"), shown) == [
        Assignment("begun", "", Reason.NOT_COVERED, 0.1, "user", 2),
        Assignment("e", "b", Reason.SPLIT, 0.1, "user", 2),
        Assignment("ended", "a", Reason.NOT_RUNNING, None, "user", 1),
        Assignment("never", "", Reason.MISSING_UNIT, None, "user", 1),
    ]


def test_what_a_full_token_left_out_is_assigned_anew() -> None:
    assigned = [Assignment("e", "a", Reason.SPLIT, 0.1, "user", 2)]
    full = {digest_of("e", str(n)) for n in range(MAX_VARIANTS)}
    assert held(assigned, experiments("e"), full) == assigned
    assert held(assigned, experiments("e"), {*list(full)[1:]})[0].variant_key == ""


def test_hashes_find_their_slots_and_hide_what_was_shown() -> None:
    table = tables_of({f"i{n}": {} for n in range(300)}).by_entity["item"]
    wanted = np.array([table.tie[7], 12345, table.tie[299], table.tie[0]], np.uint64)
    assert slots_of_hashes(table, wanted).tolist() == [7, 299, 0]
    slots = np.array([5, 7, 299, 3], np.int64)
    page = Following("parent", 1, 3, wanted & SHOWN_MASK, b"", frozenset())
    command = RankCommand("feed", "ann", "")
    assert unshown(command, table, slots).all()
    after = replace(command, following=page)
    assert unshown(after, table, slots).tolist() == [True, False, False, True]


def test_similar_items_are_as_many_as_the_surface_has_candidates() -> None:
    model = FakeModel()
    spec = SurfaceSpec("feed", "item", 2, 3, (Personal("personal", 3),), (), {}, None, {})
    tables = tables_of({f"i{n}": {} for n in range(6)})
    plan = prepare(model, spec_of(model, spec), tables, None, exact_rows=9, now_ms=0).plans["feed"]
    for slot in range(6):
        others = similar(model, plan, f"i{slot}").tolist()
        # The item is not always the nearest to itself: then one more is found.
        assert len(others) == len(set(others)) >= 3
        assert slot not in others
    assert similar(model, plan, "unheard of").tolist() == []


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


def test_what_a_room_sells_may_be_of_any_type_that_has_prices() -> None:
    tables = {"bundle": priced("bundle", b=5), "course": priced("course", c=9)}
    assert Prices(tables).of("item", [0, 0, 0], ["c", "b", "unpriced"]) == [9, 5, -1]


def test_without_prices_there_are_none() -> None:
    assert Prices(tables_of({"a": {}}).by_entity).of("item", [0], ["c"]) == []

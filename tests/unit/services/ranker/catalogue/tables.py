"""A small table of items, and tables made readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.ranker.catalogue.table import EntityTable
from tests.unit.services.ranker.fakes import ITEM_VIEW, rows_of


def readable(table: EntityTable) -> dict[str, dict[str, Any]]:
    """Rows of the entities that are alive, as dictionaries of the values that are there."""
    rows: dict[str, dict[str, Any]] = {}
    for slot, id_ in enumerate(table.ids[: len(table)]):
        if not table.alive[slot]:
            continue
        rows[id_] = {}
        for column in table.view.columns:
            if not table.present_of(column.name)[slot]:
                continue
            if (strings := table.strings(column.name)) is not None:
                codes, pool = strings
                rows[id_][column.name] = pool.values[codes[slot]]
            elif (lists := table.lists(column.name)) is not None:
                codes, list_pool = lists
                rows[id_][column.name] = list_pool.values[codes[slot]]
            else:
                values = table.numeric(column.name)
                assert values is not None
                rows[id_][column.name] = values[slot].item()
    return rows


ROWS: Mapping[str, Mapping[str, Any]] = {
    "a": {"score": 1.0, "clicks": 3, "host": "h1", "tags": ("t1", "ü", "t1")},
    "ü": {"live": 1, "sells": "course", "tags": ()},
    "b": {"tags": ("ü",)},
    "gone": {},
}
VIEWS = {"item": ITEM_VIEW}


def make_table() -> EntityTable:
    table = EntityTable.empty("item", ITEM_VIEW)
    return table.changed([rows_of(ITEM_VIEW, ROWS)], (), 1).changed([], ["gone"], 2)

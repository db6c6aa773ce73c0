"""What the items of a slate cost at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.ranker.catalogue.table import EntityTable

PRICE = "price_minor"
"""The attribute that the price of an entity upsert sets."""

UNKNOWN = -1


def prices_minor(
    tables: Mapping[str, EntityTable], entity: str, ids: Sequence[str], selling: Sequence[str]
) -> list[int]:
    """Prices of items of one type; where that has no price, of what each sells.

    -1 stands for a price that is not known; empty when neither has prices.
    """
    own = tables[entity]
    if PRICE in own.view.of("int64"):
        return _prices(own, ids)
    if not selling:
        return []
    sold = next((t for t in tables.values() if PRICE in t.view.of("int64")), None)
    return [] if sold is None else _prices(sold, selling)


def _prices(table: EntityTable, ids: Sequence[str]) -> list[int]:
    column, present = table.numeric(PRICE), table.present_of(PRICE)
    assert column is not None  # noqa: S101 - the caller looked
    known = len(table)
    slots = [table.slot_of.get(id_, known) for id_ in ids]
    return [
        int(column[slot]) if slot < known and present[slot] and table.alive[slot] else UNKNOWN
        for slot in slots
    ]
